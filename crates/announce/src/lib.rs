//! Addresses that no link has, answered for by ARP and neighbour discovery, so that hosts of the same network send to this node what is for
//! them: load balancers without a load balancer.
//!
//! Each address is answered for by one node, on each link that it belongs to. Which one it is each node works out by itself, from the nodes
//! that it hears on that link: each gives a sign of life there every 150 ms, and one that is not heard for half a second has lost what it had.
//! There is no lease, and nobody is asked: who is cut off from the API server, and not from the network, goes on.
//!
//! It never: gives a link an address, looks at a connection, asks an API server, or says that an address is here without having asked
//! whether somebody else has it. It listens, and says anything, only on links where wanted addresses belong, or expected ones. Signs of life are not signed,
//! and count only with the name of a wanted node: who may send frames on a link may take addresses there anyway.
//!
//! Entry point: [`Announcer::start`].

mod claims;
mod links;
mod owner;
mod pace;
mod peers;
mod speaker;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use links::Links;
pub use owner::cluster_of;
pub use speaker::{Announcer, Setup};

use kernel::netlink::Mac;

/// What is to be answered for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The cluster's nodes.
    pub nodes: Arc<BTreeSet<String>>,
    /// The addresses.
    pub addresses: BTreeMap<IpAddr, Claim>,
    /// Where addresses will be: some of each network of them, and on which links. Other nodes are heard there before there is a wanted
    /// address, so that the first is not waited for.
    pub expected: Vec<(IpAddr, Arc<Links>)>,
}

/// Who may have an address, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The nodes that may answer for it; many addresses share them.
    pub nodes: Arc<BTreeSet<String>>,
    /// On which links; many addresses share them.
    pub links: Arc<Links>,
}

/// What has become of an address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It is answered for from now on.
    Announced {
        /// The address.
        address: IpAddr,
        /// The link's name.
        link: String,
    },
    /// It is not any more: another node has it, or nobody.
    Withdrawn {
        /// The address.
        address: IpAddr,
        /// The link's name.
        link: String,
    },
    /// Somebody who is no node has claimed it while it was answered for, and was contradicted.
    Defended {
        /// The address.
        address: IpAddr,
        /// The link's name.
        link: String,
        /// Who it is.
        mac: Mac,
    },
    /// Somebody who is no node has it: it is not answered for, and looked at again each ten seconds.
    Contested {
        /// The address.
        address: IpAddr,
        /// The link's name.
        link: String,
        /// Who it is.
        mac: Mac,
    },
    /// This node may have it, and no link that is up is for it. Told once, until there is one or it is not wanted any more.
    Nowhere {
        /// The address.
        address: IpAddr,
    },
    /// Nothing can be answered for on a link, or a packet did not go out.
    Failed {
        /// The link's name.
        link: String,
        /// What the kernel says.
        cause: String,
    },
}
