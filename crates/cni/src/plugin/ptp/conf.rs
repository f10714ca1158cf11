use crate::contract::{Dns, Error, Request};
use crate::plugin::interface::{chosen_dns, only_nftables};
use crate::plugin::ipam::Ipam;
use crate::plugin::table::Table;

/// What the plugin `ptp` is told.
#[derive(Debug)]
pub(super) struct Conf {
    pub(super) ip_masq: bool,
    pub(super) mtu: Option<u32>,
    pub(super) dns: Option<Dns>,
    pub(super) ipam: Ipam,
    pub(super) table: Table,
}

impl Conf {
    pub(super) fn of(request: &Request<'_>) -> Result<Self, Error> {
        let keys = request.keys();
        only_nftables(&keys)?;
        let ipam = Ipam::of(request)?;
        if !ipam.is_asked() {
            return Err(keys.refuse("ipam", "an object with the \"type\" of an IPAM plugin"));
        }
        Ok(Self {
            ip_masq: keys.boolean("ipMasq")?,
            mtu: keys.number("mtu")?.filter(|mtu| *mtu != 0),
            dns: chosen_dns(&keys)?,
            ipam,
            table: Table::of(&keys)?,
        })
    }
}
