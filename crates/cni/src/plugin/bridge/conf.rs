use kernel::netlink::Mac;

use crate::contract::{Code, Error, Keys, Request};
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
    pub(super) ipam: Option<String>,
    pub(super) table: Table,
}

/// Keys of the reference plugin that this one does not have yet.
const NOT_YET: &[&str] = &["vlan", "vlanTrunk", "macspoofchk", "enabledad", "disableContainerInterface"];

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        keys.unsupported(NOT_YET)?;
        let bridge = keys.text("bridge")?.filter(|name| !name.is_empty()).unwrap_or("cni0");
        if bridge.len() > 15 || bridge.contains(['/', ':']) || bridge.contains(char::is_whitespace) {
            return Err(keys.refuse("bridge", "a link name: 15 bytes at most, without '/', ':' and spaces"));
        }
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
            mac: mac(request, &keys)?,
            ipam: request.conf.ipam_type()?.map(str::to_owned),
            table: Table::of(&keys)?,
        })
    }
}

/// `CNI_ARGS` MAC, then `args.cni.mac`, then the capability: the later wins.
fn mac(request: &Request<'_>, keys: &Keys<'_>) -> Result<Option<Mac>, Error> {
    let of_env = request.attachment.arg("MAC").filter(|mac| !mac.is_empty());
    let of_env: Option<Mac> = of_env
        .map(str::parse)
        .transpose()
        .map_err(|e| Error::new(Code::InvalidEnvironment, format!("cannot use MAC of CNI_ARGS: {e}")))?;
    let cni =
        keys.object("args")?.map(|args| Keys::new(args, "\"args\"").object("cni")).transpose()?.flatten();
    let of_args = cni.map(|cni| Keys::new(cni, "\"args.cni\"").parse("mac")).transpose()?.flatten();
    let runtime = keys.object("runtimeConfig")?;
    let of_runtime = runtime.map(|r| Keys::new(r, "\"runtimeConfig\"").parse("mac")).transpose()?.flatten();
    Ok(of_runtime.or(of_args).or(of_env))
}
