//! `vlan`: the frames with one 802.1Q tag of a link of the host.

use kernel::netlink::{Detail, Kind, Link};

use super::endpoint::Endpoint;
use super::inside::{Duplicates, Inside, Manner};
use super::interface::{broken, link_name};
use super::ipam::Ipam;
use super::parent::Parent;
use crate::contract::{Error, Request};

/// The plugin `vlan`.
#[derive(Debug)]
pub(super) struct Vlan;

const MANNER: Manner = Manner { announce: false, announce_ipv6: false, duplicates: Duplicates::Awaited };

fn id(request: &Request<'_>) -> Result<u16, Error> {
    let keys = request.keys();
    if link_name(&keys, "master")?.is_none() {
        return Err(keys.refuse("master", "the link to make the VLAN on, which is required"));
    }
    let Some(id) = keys.get("vlanId") else { return Ok(0) };
    let fits = id.as_u64().and_then(|id| u16::try_from(id).ok()).filter(|id| *id < 4095);
    fits.ok_or_else(|| keys.refuse("vlanId", "a VLAN ID from 0 to 4094"))
}

impl Endpoint for Vlan {
    const KIND: &'static str = "vlan";
    const MANNER: Manner = MANNER;

    fn judge(&self, request: &Request<'_>) -> Result<(), Error> {
        id(request)?;
        Ipam::of(request)?.required(request).map(drop)
    }

    fn is_ready(&self, request: &Request<'_>) -> Result<(), Error> {
        Parent::is_there(request)
    }

    fn make(&self, request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error> {
        let mut parent = Parent::of(request, inside, None)?;
        let mtu = parent.mtu(&request.keys())?.or(Some(parent.link.mtu));
        let kind = Kind::Vlan { parent: parent.link.index, id: id(request)? };
        parent.make(request, inside, kind, mtu, None)
    }

    fn check(&self, request: &Request<'_>, inside: &mut Inside, link: &Link) -> Result<(), Error> {
        let mtu = Parent::of(request, inside, None)?.mtu(&request.keys())?;
        match (link.detail, id(request)?) {
            (Some(Detail::Vlan(there)), id) if there != id => {
                Err(broken(format!("VLAN {} has the ID {there}, not {id}", link.name)))
            }
            _ => match mtu.filter(|mtu| *mtu != link.mtu) {
                Some(mtu) => Err(broken(format!("VLAN {} has the MTU {}, not {mtu}", link.name, link.mtu))),
                None => Ok(()),
            },
        }
    }
}
