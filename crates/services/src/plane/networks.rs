//! Where pods are, seen from this machine: given, or the networks of its bridges.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use kernel::netlink::{self, IpNet, Protocol, Socket};

use crate::plan::disjoint;
use crate::table::{Held, node_networks};

/// The networks of a machine.
#[derive(Debug, Clone, Default)]
pub struct Networks {
    /// Networks of pods, besides those of bridges.
    pub pods: Vec<IpNet>,
    /// At which addresses of the machine node ports are; if there are none, at all but those of loopback.
    pub nodes: Vec<IpNet>,
    /// Where Services are and nothing else, with a way there that is ours: what none of them has is refused.
    pub services: Vec<IpNet>,
    bridges: BTreeSet<(String, IpNet)>,
}

impl Networks {
    /// These, and those of the machine's bridges.
    pub fn new(pods: Vec<IpNet>, nodes: Vec<IpNet>, services: Vec<IpNet>) -> Self {
        Self { pods, nodes, services, bridges: BTreeSet::new() }
    }

    /// Looks which bridges there are, if anything is `new` or one of the addresses is in no network that is known: the first pod's
    /// bridge comes with it. Whether the elements are others now.
    pub(super) fn look(&mut self, new: bool, addresses: &BTreeSet<IpAddr>) -> kernel::Result<bool> {
        let known = |address: &IpAddr| {
            let mut nets = self.pods.iter().chain(self.bridges.iter().map(|(_, net)| net));
            nets.any(|net| net.contains(*address))
        };
        if !new && addresses.iter().all(known) {
            return Ok(false);
        }
        let found = bridges()?;
        let same = found == self.bridges;
        self.bridges = found;
        Ok(new || !same)
    }

    pub(super) fn elements(&self) -> Vec<Held> {
        let behind = self.bridges.iter().map(|(_, net)| *net);
        let pods = disjoint(self.pods.iter().copied().chain(behind));
        let mut bridges = Vec::new();
        let links: BTreeSet<&String> = self.bridges.iter().map(|(link, _)| link).collect();
        for link in links {
            let nets = self.bridges.iter().filter(|(of, _)| of == link).map(|(_, net)| *net);
            bridges.extend(disjoint(nets).into_iter().map(|net| (link.clone(), net)));
        }
        node_networks(&pods, &disjoint(self.services.iter().copied()), &bridges, &self.ranges())
    }

    /// The ranges of addresses at which node ports are.
    fn ranges(&self) -> Vec<(IpAddr, IpAddr)> {
        if !self.nodes.is_empty() {
            let nets = disjoint(self.nodes.iter().copied()).into_iter();
            return nets.map(|net| (net.network().address(), net.last())).collect();
        }
        let v4 = |first: [u8; 4], last: [u8; 4]| (Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into());
        vec![
            v4([0, 0, 0, 0], [126, 255, 255, 255]),
            v4([128, 0, 0, 0], [255, 255, 255, 255]),
            (Ipv6Addr::from_bits(2).into(), Ipv6Addr::from_bits(u128::MAX).into()),
        ]
    }
}

/// The bridges of this namespace with the networks that they have addresses in.
fn bridges() -> kernel::Result<BTreeSet<(String, IpNet)>> {
    let mut socket = Socket::open(Protocol::Route)?;
    let links = netlink::links(&mut socket)?;
    let mut found = BTreeSet::new();
    for address in netlink::addresses(&mut socket, None)? {
        let bridge = links.iter().find(|link| link.index == address.link && link.kind == "bridge");
        let width = if address.net.is_ipv4() { 32 } else { 128 };
        if let Some(bridge) = bridge.filter(|_| address.net.prefix() < width) {
            found.insert((bridge.name.clone(), address.net.network()));
        }
    }
    Ok(found)
}
