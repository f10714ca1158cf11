//! Ways to the pods of other nodes: for each node of the same link a route `RANGE via NODE` in this machine's main table, of both families.
//!
//! Each route carries a number of ours as its protocol ([`PROTOCOL`], `ip route show proto 83`), which comes and goes with it in one system
//! call: it is the record of whose it is, so the process may be killed at any moment, and the next one makes the difference. The routes stay
//! when the process ends, so that packets go on; [`remove`] takes them away.
//!
//! It never: changes, hides or takes away a route without that number, asks an API server, translates an address or switches forwarding on.
//! Where somebody else has a route to the very same range, in the main table and with whatever metric, theirs holds and ours goes.
//!
//! Invariants: nothing is deleted before it was said what is wanted; what becomes another in the kernel (deleted, replaced, lost with its
//! link) is made as wanted within a second, without being asked; no route of ours leads into a network that has this machine or one of the
//! nodes in it.
//!
//! Entry points: [`Keeper::start`], [`remove`].

mod keeper;
mod plan;

use std::fmt;
use std::net::IpAddr;

use kernel::netlink::{self, IpNet, Protocol, Socket};

pub use keeper::Keeper;

/// The routing protocol of our routes (`rtm_protocol`, rtnetlink(7)): no daemon's that iproute2 names.
pub const PROTOCOL: u8 = 83;

/// The pods of a node that there is to be a way to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The node's name, for people.
    pub node: String,
    /// The addresses of its pods, of one family.
    pub range: IpNet,
    /// Whether it may be: the cluster's pods are there. One that may not be is told to be missing.
    pub is_admitted: bool,
    /// The node's own addresses, the best first: the first of the range's family that is on a link of this machine is the next hop.
    pub gateways: Vec<IpAddr>,
}

/// What has come of what is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// So many routes are there.
    pub there: usize,
    /// Those that are not.
    pub missing: Vec<Missing>,
    /// Why it could not even be looked how things are, which is tried again; what is there stays.
    pub failed: Option<String>,
}

impl Report {
    /// What the kernel refuses this machine: nothing that lies with other nodes, or that somebody else does here.
    pub fn refused(&self) -> Option<String> {
        let refused = |one: &&Missing| matches!(one.why, Why::Refused { .. });
        self.failed.clone().or_else(|| self.missing.iter().find(refused).map(ToString::to_string))
    }
}

/// A way that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The node's name.
    pub node: String,
    /// The addresses of its pods.
    pub range: IpNet,
    /// Why it is not.
    pub why: Why,
}

/// Why a way is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The node has no address of the range's family.
    NoAddress,
    /// None of its addresses is on a link of this machine.
    Elsewhere {
        /// One of them.
        address: IpAddr,
    },
    /// This machine has the node's address.
    Own {
        /// The address.
        address: IpAddr,
    },
    /// The range is none of the cluster's.
    Outside,
    /// The range has an address of this machine, or of a node, in it.
    Holds {
        /// The address.
        address: IpAddr,
    },
    /// An earlier node has the same range.
    Shared {
        /// Its name.
        with: String,
    },
    /// Somebody else has a route to the same range here, which is left alone.
    Foreign {
        /// Whose it is (`RTPROT_*`).
        protocol: u8,
        /// Where it leads, if that is one next hop.
        gateway: Option<IpAddr>,
    },
    /// The kernel refuses the route.
    Refused {
        /// What it says.
        cause: String,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, range, why } = self;
        write!(f, "no route leads to {range}, the pods of node {node}: ")?;
        match why {
            Why::NoAddress => {
                let family = if range.is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "the node has no {family} address")
            }
            Why::Elsewhere { address } => {
                write!(
                    f,
                    "its address {address} is on no link of this machine; a router in between has to know the way"
                )
            }
            Why::Own { address } => {
                write!(f, "its address {address} is one of this machine's own; give each node its own")
            }
            Why::Outside => {
                f.write_str("the range is in none of the networks that nodeRoutes names; add its network, if it is one of pods")
            }
            Why::Holds { address } => {
                write!(
                    f,
                    "the range has address {address} of a machine in it; give pods a network of their own"
                )
            }
            Why::Shared { with } => write!(f, "node {with} has the same range; give each node its own"),
            Why::Foreign { protocol, gateway } => {
                let via = gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
                let name = name_of(*protocol);
                write!(
                    f,
                    "this machine has another's route to it{via} ({name}), which is left alone; take that away, or switch \
                     nodeRoutes off"
                )
            }
            Why::Refused { cause } => f.write_str(cause),
        }
    }
}

/// What iproute2 calls a routing protocol, of those that are met most.
fn name_of(protocol: u8) -> String {
    let name = match protocol {
        2 => "kernel",
        3 => "boot: made by hand or by a plugin",
        4 => "static",
        9 => "ra",
        11 => "zebra",
        12 => "bird",
        16 => "dhcp",
        42 => "babel",
        186 => "bgp",
        188 => "ospf",
        other => return format!("protocol {other}"),
    };
    format!("protocol {name}")
}

/// Takes all our routes away, in the caller's network namespace; how many there were.
///
/// # Errors
/// The kernel refuses: it takes CAP_NET_ADMIN, where there are any.
pub fn remove() -> kernel::Result<usize> {
    netlink::delete_routes_of(&mut Socket::open(Protocol::Route)?, PROTOCOL)
}
