//! `ipvlan`: addresses of its own on a link of the host, under that link's MAC.

use kernel::netlink::{Detail, IpvlanMode, Kind, Link};

use super::endpoint::Endpoint;
use super::inside::{Inside, Manner};
use super::interface::{broken, link_name};
use super::ipam::Ipam;
use super::macvlan::NEIGHBOUR;
use super::parent::Parent;
use crate::contract::{Code, Error, Request};

/// The plugin `ipvlan`.
#[derive(Debug)]
pub(super) struct Ipvlan;

fn mode(request: &Request<'_>) -> Result<IpvlanMode, Error> {
    match request.keys().text("mode")? {
        None | Some("" | "l2") => Ok(IpvlanMode::L2),
        Some("l3") => Ok(IpvlanMode::L3),
        Some("l3s") => Ok(IpvlanMode::L3s),
        Some(_) => Err(request.keys().refuse("mode", "l2, l3 or l3s")),
    }
}

/// The link that the plugin before this one made is the master, if the configuration names none.
fn chained_master<'a>(request: &Request<'a>) -> Result<Option<&'a str>, Error> {
    let named = link_name(&request.keys(), "master")?.is_some();
    let Some(previous) = request.previous.filter(|_| !named) else { return Ok(None) };
    match &previous.interfaces[..] {
        [one] if !one.name.is_empty() => Ok(Some(&one.name)),
        others => Err(Error::new(
            Code::InvalidConfig,
            format!(
                "cannot choose a \"master\": \"prevResult\" has {} interfaces, not a single named one",
                others.len()
            ),
        )),
    }
}

impl Endpoint for Ipvlan {
    const KIND: &'static str = "ipvlan";
    const MANNER: Manner = NEIGHBOUR;

    fn judge(&self, request: &Request<'_>) -> Result<(), Error> {
        mode(request).map(drop)
    }

    fn ipam(&self, request: &Request<'_>) -> Result<Ipam, Error> {
        Ipam::or_previous(request)
    }

    fn is_ready(&self, request: &Request<'_>) -> Result<(), Error> {
        // Without a name it may be chained, and what is before it is not there yet.
        link_name(&request.keys(), "master")?.map_or(Ok(()), |_| Parent::is_there(request))
    }

    fn make(&self, request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error> {
        self.ipam(request)?.required(request)?;
        let mtu = request.keys().number("mtu")?.filter(|mtu| *mtu != 0);
        let mut parent = Parent::of(request, inside, chained_master(request)?)?;
        let kind = Kind::Ipvlan { parent: parent.link.index, mode: mode(request)? };
        parent.make(request, inside, kind, mtu, None)
    }

    fn check(&self, request: &Request<'_>, inside: &mut Inside, link: &Link) -> Result<(), Error> {
        // Of a chain's result only the last plugin's interfaces are left: a master that was the one before is not in it.
        if link_name(&request.keys(), "master")?.is_some() {
            Parent::of(request, inside, None)?;
        }
        match (link.detail, mode(request)?) {
            (Some(Detail::Ipvlan(there)), mode) if there != mode => {
                Err(broken(format!("ipvlan {} has the mode {there:?}, not {mode:?}", link.name)))
            }
            _ => Ok(()),
        }
    }
}
