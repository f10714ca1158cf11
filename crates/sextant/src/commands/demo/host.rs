//! Another host: a network namespace at the other end of a link of the demo's network. It goes with the demo.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd as _;

use kernel::namespace::{in_netns, in_new_netns};
use kernel::netlink::{Address, Batch, IpNet, Kind, NewLink, Peer, Protocol, SetLink, Socket, link_by_name};
use rustix::io::Errno;

use super::app;
use crate::failure::{Context, Result};

/// The link, at both ends.
const LINK: &str = "e0";
/// Its network, and the addresses of this machine and of the other host there: they are nobody's (RFC 5737).
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const PREFIX: u8 = 24;
/// The network that the calling thread is in.
const NETWORK: &str = "/proc/thread-self/ns/net";

/// The addresses that load balancers get, on the link.
pub(super) const POOL: &str = "192.0.2.16/28";

#[derive(Debug)]
pub(super) struct Host(File);

impl Host {
    /// Joins it to the network that the calling thread is in.
    pub(super) fn join() -> Result<Self> {
        let network = in_new_netns(|| Ok(File::open(NETWORK)))?;
        let network = network.context(|| "open the network of another host".into())?;
        let peer = Peer { name: LINK, mac: None, mtu: None, netns: Some(network.as_fd()) };
        let mut batch = Batch::new();
        batch.add_link(&NewLink { up: true, ..NewLink::new(LINK, Kind::Veth { peer }) });
        Socket::open(Protocol::Route)?.run(&batch)?;
        address(HERE)?;
        in_netns(&network, || address(THERE))?;
        Ok(Self(network))
    }

    /// What it is told at an address and port.
    pub(super) fn ask(&self, address: &str) -> io::Result<String> {
        in_netns(&self.0, || Ok(app::get(address))).map_err(io::Error::other)?
    }
}

/// Gives the end of the link in this network its address.
fn address(own: IpAddr) -> kernel::Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let mut batch = Batch::new();
    batch.set_link(&SetLink::named(LINK).up(true));
    let (Some(link), Some(net)) = (link_by_name(&mut socket, LINK)?, IpNet::new(own, PREFIX)) else {
        return Err(kernel::Error::new("give an address to", format!("link {LINK}"), Errno::NODEV));
    };
    batch.add_address(&Address::new(link.index, net));
    socket.run(&batch)
}
