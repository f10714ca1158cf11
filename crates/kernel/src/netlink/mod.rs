//! Netlink: links, addresses, routes, policy rules and connection tracking, asked of the kernel itself.
//!
//! Requests are collected in a [`Batch`] and leave in one `sendmsg` of a [`Socket`]; a socket belongs to the network
//! namespace it was opened in, so nothing here ever moves the calling thread. Errors carry the kernel's own words
//! (extended acknowledgements). Nothing is retried and nothing is remembered.
//!
//! ```no_run
//! use kernel::netlink::{Batch, Kind, NewLink, Protocol, SetLink, Socket};
//!
//! let mut batch = Batch::new();
//! batch.add_link(&NewLink::new("br0", Kind::Bridge { mcast_snooping: None, vlan_filtering: None }));
//! batch.set_link(&SetLink::named("br0").up(true));
//! Socket::open(Protocol::Route)?.run(&batch)?;
//! # Ok::<(), kernel::Error>(())
//! ```

mod address;
mod bridge_vlan;
mod carrier;
mod changes;
pub mod conntrack;
mod kept;
mod link;
mod link_state;
mod monitor;
mod net;
mod netconf;
mod netns_id;
mod owned;
mod returning;
mod route;
mod rule;
mod socket;
pub mod sysctl;
#[cfg(test)]
mod tests;
pub(crate) mod uapi;
mod wire;

pub use address::{Address, addresses};
pub use bridge_vlan::{BridgeVlan, bridge_vlans};
pub use changes::Changes;
pub use kept::{Kept, Sockets};
pub use link::{IpvlanMode, Kind, MacvlanMode, NewLink, Peer, SetLink};
pub use link_state::{Detail, Link, link_by_index, link_by_name, links};
pub use monitor::{Change, Monitor};
pub use net::{IpNet, Mac, ParseError};
pub use netconf::{Forwarding, forwards};
pub use netns_id::netns_id;
pub use owned::{OwnedRoute, delete_routes_of, owned_routes};
pub use returning::Returning;
pub use route::{Route, advertised_defaults, route_to, routes};
pub use rule::{Rule, rules};
pub use socket::{Protocol, Socket};
pub use wire::{Attribute, Attributes, Batch, Message, Messages, Received};

use crate::{Error, Result};

/// Deletes a link of the caller's network namespace by its name. Not there counts as done.
pub fn delete_link(name: &str) -> Result<()> {
    delete_link_on(&mut Socket::open(Protocol::Route)?, name)
}

/// [`delete_link`] on a socket that is open already.
pub fn delete_link_on(socket: &mut Socket, name: &str) -> Result<()> {
    let mut batch = Batch::new();
    batch.delete_link(name);
    absent_is_done(socket.run(&batch))
}

/// Takes an address from a link of the caller's network namespace. Not there counts as done.
pub fn delete_address(link: &str, net: IpNet) -> Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let Some(link) = link_by_name(&mut socket, link)? else { return Ok(()) };
    let mut batch = Batch::new();
    batch.delete_address(&Address::new(link.index, net));
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(rustix::io::Errno::ADDRNOTAVAIL) => Ok(()),
        outcome => absent_is_done(outcome),
    }
}

/// Takes a route to a network by a link from the main table of the caller's network namespace. Not there counts as done.
pub fn delete_route(link: &str, net: IpNet) -> Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let Some(link) = link_by_name(&mut socket, link)? else { return Ok(()) };
    let mut batch = Batch::new();
    batch.delete_route(&Route { link: Some(link.index), ..Route::to(net) });
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(rustix::io::Errno::SRCH) => Ok(()),
        outcome => absent_is_done(outcome),
    }
}

fn absent_is_done(outcome: Result<()>) -> Result<()> {
    match outcome.as_ref().err().and_then(Error::errno) {
        Some(rustix::io::Errno::NODEV | rustix::io::Errno::NOENT) => Ok(()),
        _ => outcome,
    }
}
