use kernel::netlink::Mac;

use crate::contract::{Code, Error, Request};
use crate::plugin::interface::{chosen_mac, link_name};
use crate::plugin::ipam::Ipam;
use crate::plugin::table::Table;

/// What the plugin `bridge` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) bridge: String,
    pub(super) is_gateway: bool,
    pub(super) is_default_gateway: bool,
    pub(super) force_address: bool,
    pub(super) ip_masq: bool,
    pub(super) hairpin: bool,
    pub(super) promisc: bool,
    pub(super) isolated: bool,
    pub(super) mtu: Option<u32>,
    /// The MAC of the container's interface, if somebody chose one.
    pub(super) mac: Option<Mac>,
    pub(super) ipam: Ipam,
    pub(super) table: Table,
}

/// Keys of the reference plugin that this one does not have yet.
const NOT_YET: &[&str] = &["vlan", "vlanTrunk", "macspoofchk", "enabledad", "disableContainerInterface"];

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        keys.unsupported(NOT_YET)?;
        let bridge = link_name(&keys, "bridge")?.unwrap_or("cni0");
        let hairpin = keys.boolean("hairpinMode")?;
        let promisc = keys.boolean("promiscMode")?;
        if hairpin && promisc {
            return Err(
                keys.refuse("promiscMode", "false (\"hairpinMode\" is on, and the two exclude each other)")
            );
        }
        match keys.text("ipMasqBackend")? {
            None | Some("" | "nftables") => {}
            Some(backend) => {
                return Err(Error::new(
                    Code::UnsupportedField,
                    format!("bridge does not support the field \"ipMasqBackend\" with the value {backend:?}"),
                )
                .hint("this plugin speaks nftables only"));
            }
        }
        let is_default_gateway = keys.boolean("isDefaultGateway")?;
        Ok(Self {
            bridge: bridge.to_owned(),
            is_gateway: keys.boolean("isGateway")? || is_default_gateway,
            is_default_gateway,
            force_address: keys.boolean("forceAddress")?,
            ip_masq: keys.boolean("ipMasq")?,
            hairpin,
            promisc,
            isolated: keys.boolean("portIsolation")?,
            mtu: keys.number("mtu")?.filter(|mtu| *mtu != 0),
            mac: chosen_mac(request)?,
            ipam: Ipam::of(request)?,
            table: Table::of(&keys)?,
        })
    }
}
