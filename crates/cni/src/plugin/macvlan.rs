//! `macvlan`: a second MAC address on a link of the host.

use kernel::netlink::{Detail, Kind, Link, MacvlanMode};

use super::endpoint::Endpoint;
use super::inside::{Duplicates, Inside, Manner};
use super::interface::{broken, configured_mac};
use super::parent::Parent;
use crate::contract::{Error, Request};

/// The plugin `macvlan`.
#[derive(Debug)]
pub(super) struct Macvlan;

/// The container is one more machine on the parent's network.
pub(super) const NEIGHBOUR: Manner =
    Manner { announce: true, announce_ipv6: true, duplicates: Duplicates::Awaited };

fn mode(request: &Request<'_>) -> Result<MacvlanMode, Error> {
    match request.keys().text("mode")? {
        None | Some("" | "bridge") => Ok(MacvlanMode::Bridge),
        Some("private") => Ok(MacvlanMode::Private),
        Some("vepa") => Ok(MacvlanMode::Vepa),
        Some("passthru") => Ok(MacvlanMode::Passthru),
        Some(_) => Err(request.keys().refuse("mode", "bridge, private, vepa or passthru")),
    }
}

impl Endpoint for Macvlan {
    const KIND: &'static str = "macvlan";
    const MANNER: Manner = NEIGHBOUR;

    fn judge(&self, request: &Request<'_>) -> Result<(), Error> {
        mode(request).map(drop)
    }

    fn is_ready(&self, request: &Request<'_>) -> Result<(), Error> {
        Parent::is_there(request)
    }

    fn make(&self, request: &Request<'_>, inside: &mut Inside) -> Result<Link, Error> {
        let keys = request.keys();
        let mut parent = Parent::of(request, inside, None)?;
        let mtu = parent.mtu(&keys)?;
        let broadcast_queue = keys.number("bcqueuelen")?.filter(|length| *length != 0);
        let kind = Kind::Macvlan { parent: parent.link.index, mode: mode(request)?, broadcast_queue };
        parent.make(request, inside, kind, mtu, configured_mac(request)?)
    }

    fn check(&self, request: &Request<'_>, inside: &mut Inside, link: &Link) -> Result<(), Error> {
        Parent::of(request, inside, None)?;
        match (link.detail, mode(request)?) {
            (Some(Detail::Macvlan(there)), mode) if there != mode => {
                Err(broken(format!("macvlan {} has the mode {there:?}, not {mode:?}", link.name)))
            }
            _ => Ok(()),
        }
    }
}
