//! What is to be done about routes, by what is wanted and what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kernel::netlink::{IpNet, OwnedRoute, Route};

use crate::{Missing, PROTOCOL, Way, Why};

/// The metric that a route of IPv6 has that was given none.
const USUAL: u32 = 1024;

/// How this machine is.
#[derive(Debug, Default)]
pub(crate) struct Here {
    /// Its own addresses.
    pub(crate) own: BTreeSet<IpAddr>,
    /// Which nodes' addresses are on which of its links.
    pub(crate) on_link: BTreeMap<IpAddr, u32>,
    /// Routes of the main table: ours, and all to the ranges that are wanted.
    pub(crate) there: Vec<OwnedRoute>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Ours that must go, before others are made.
    pub(crate) delete: Vec<Route>,
    /// Ours that are to be made, with their nodes.
    pub(crate) add: Vec<(String, Route)>,
    /// So many are as they are to be.
    pub(crate) kept: usize,
    /// What cannot be.
    pub(crate) missing: Vec<Missing>,
    /// The links that the routes leave by.
    pub(crate) links: BTreeSet<u32>,
}

/// The next hops of a way that can be: those of its family.
pub(crate) fn candidates(way: &Way) -> impl Iterator<Item = IpAddr> {
    let is_ipv4 = way.range.is_ipv4();
    way.gateways.iter().copied().filter(move |address| address.is_ipv4() == is_ipv4)
}

pub(crate) fn plan(ways: &[Way], here: &Here) -> Plan {
    let mut machines: BTreeSet<IpAddr> = here.own.clone();
    machines.extend(ways.iter().flat_map(|way| way.gateways.iter().copied()));
    let foreign: BTreeMap<IpNet, &OwnedRoute> = here
        .there
        .iter()
        .filter(|one| one.is_main() && !one.is_way_of(PROTOCOL))
        .map(|one| (one.route.destination, one))
        .collect();
    let mut plan = Plan::default();
    let mut first: BTreeMap<IpNet, &str> = BTreeMap::new();
    let mut wanted: BTreeMap<IpNet, (&str, Route)> = BTreeMap::new();
    for way in ways {
        let range = way.range.network();
        let chosen = match first.get(&range) {
            Some(with) => Err(Why::Shared { with: (*with).into() }),
            None => choose(way, range, here, &machines, foreign.get(&range).copied()),
        };
        first.entry(range).or_insert(&way.node);
        match chosen {
            Ok(route) => drop(wanted.insert(range, (&way.node, route))),
            Err(why) => plan.missing.push(Missing { node: way.node.clone(), range, why }),
        }
    }
    plan.links = wanted.values().filter_map(|(_, route)| route.link).collect();
    for one in here.there.iter().filter(|one| one.is_way_of(PROTOCOL)) {
        let to = one.route.destination;
        // A second one that is as wanted, too, is one too many.
        if wanted.get(&to).is_some_and(|(_, route)| is_as(&one.route, route)) {
            wanted.remove(&to);
            plan.kept += 1;
        } else {
            plan.delete.push(one.route.clone());
        }
    }
    plan.add = wanted.into_values().map(|(node, route)| (node.into(), route)).collect();
    plan
}

/// The route that there is to be, or why there can be none.
fn choose(
    way: &Way,
    range: IpNet,
    here: &Here,
    machines: &BTreeSet<IpAddr>,
    foreign: Option<&OwnedRoute>,
) -> Result<Route, Why> {
    if !way.is_admitted {
        return Err(Why::Outside);
    }
    // Packets to a machine, the next hop itself perhaps, would go astray.
    if let Some(address) = machines.range(range.address()..=range.last()).next() {
        return Err(Why::Holds { address: *address });
    }
    if let Some(foreign) = foreign {
        return Err(Why::Foreign { protocol: foreign.protocol, gateway: foreign.route.gateway });
    }
    let others = || candidates(way).filter(|address| !here.own.contains(address));
    if let Some((gateway, link)) = others().find_map(|one| Some((one, *here.on_link.get(&one)?))) {
        return Ok(Route { gateway: Some(gateway), link: Some(link), ..Route::to(range) });
    }
    Err(match (others().next(), candidates(way).next()) {
        (Some(address), _) => Why::Elsewhere { address },
        (None, Some(address)) => Why::Own { address },
        (None, None) => Why::NoAddress,
    })
}

/// Whether a route of ours is as it is to be. It was read, and has what the kernel has added.
fn is_as(one: &Route, wanted: &Route) -> bool {
    let metric = if wanted.destination.is_ipv4() { None } else { Some(USUAL) };
    let has = (one.gateway, one.link, one.priority.filter(|it| *it > 0));
    has == (wanted.gateway, wanted.link, metric) && one.source.is_none() && one.mtu.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn way(node: &str, range: &str, gateways: &[&str]) -> Way {
        let gateways = gateways.iter().map(|one| ip(one)).collect();
        Way { node: node.into(), range: net(range), is_admitted: true, gateways }
    }

    /// As the kernel tells of a route.
    fn route(range: &str, gateway: &str, link: u32) -> Route {
        let route = Route::to(net(range));
        let priority = if route.destination.is_ipv4() { None } else { Some(USUAL) };
        Route { gateway: Some(ip(gateway)), link: Some(link), priority, table: Some(254), ..route }
    }

    fn owned(protocol: u8, route: Route) -> OwnedRoute {
        OwnedRoute { protocol, kind: 1, route }
    }

    fn ours(range: &str, gateway: &str, link: u32) -> OwnedRoute {
        owned(PROTOCOL, route(range, gateway, link))
    }

    /// A machine with one link, number 7.
    fn here(there: &[OwnedRoute]) -> Here {
        let on_link = ["192.0.2.2", "192.0.2.3", "2001:db8::2", "192.0.2.1"].map(|one| (ip(one), 7));
        Here {
            own: [ip("192.0.2.1"), ip("2001:db8::1")].into(),
            on_link: on_link.into(),
            there: there.to_vec(),
        }
    }

    fn added(plan: &Plan) -> Vec<(String, Option<IpAddr>, Option<u32>)> {
        plan.add.iter().map(|(_, route)| (route.destination.to_string(), route.gateway, route.link)).collect()
    }

    fn why(plan: &Plan) -> Vec<&Why> {
        plan.missing.iter().map(|one| &one.why).collect()
    }

    #[test]
    fn nodes_of_the_link_get_routes_of_both_families() {
        let two = ["10.0.0.2", "192.0.2.2", "2001:db8::2"];
        let ways = [way("b", "10.64.2.0/24", &two), way("b", "fd64:2::/64", &two)];
        let plan = plan(&ways, &here(&[]));
        let wanted = [
            ("10.64.2.0/24".into(), Some(ip("192.0.2.2")), Some(7)),
            ("fd64:2::/64".into(), Some(ip("2001:db8::2")), Some(7)),
        ];
        assert_eq!(added(&plan), wanted, "the first address is on no link, and the second is");
        assert!(plan.missing.is_empty() && plan.delete.is_empty() && plan.kept == 0);
        assert_eq!(plan.links, [7].into());
        assert_eq!(plan.add[0].0, "b");
    }

    #[test]
    fn what_is_as_wanted_is_left_and_what_is_not_goes() {
        let ways = [
            way("b", "10.64.2.0/24", &["192.0.2.2"]),
            way("c", "10.64.3.9/24", &["192.0.2.3"]),
            way("d", "fd64:2::/64", &["2001:db8::2"]),
        ];
        let metric = owned(PROTOCOL, Route { priority: Some(7), ..route("10.64.2.0/24", "192.0.2.2", 7) });
        let there = [
            ours("10.64.2.0/24", "192.0.2.2", 7),
            metric.clone(),
            ours("10.64.3.0/24", "192.0.2.9", 7),
            ours("fd64:2::/64", "2001:db8::2", 8),
            ours("10.64.9.0/24", "192.0.2.2", 7),
            owned(3, route("10.65.0.0/16", "192.0.2.2", 7)),
        ];
        let found = plan(&ways, &here(&there));
        let gone = [&metric, &there[2], &there[3], &there[4]].map(|one| one.route.clone());
        assert_eq!(found.delete, gone, "ours with a metric, another next hop, link or range; no other's");
        assert_eq!(found.kept, 1);
        let wanted = [
            ("10.64.3.0/24".into(), Some(ip("192.0.2.3")), Some(7)),
            ("fd64:2::/64".into(), Some(ip("2001:db8::2")), Some(7)),
        ];
        assert_eq!(added(&found), wanted);
        // Once that is done nothing is left to do.
        let done = [
            ours("10.64.2.0/24", "192.0.2.2", 7),
            ours("10.64.3.0/24", "192.0.2.3", 7),
            ours("fd64:2::/64", "2001:db8::2", 7),
        ];
        let found = plan(&ways, &here(&done));
        assert_eq!((found.delete.len(), found.add.len(), found.kept), (0, 0, 3));
        // The same one twice is one too many.
        let twice = [done[0].clone(), done[0].clone()];
        let found = plan(&ways[..1], &here(&twice));
        assert_eq!((found.delete.len(), found.kept), (1, 1));
    }

    #[test]
    fn another_s_route_to_the_range_holds_and_ours_goes() {
        let ways = [way("b", "10.64.2.0/24", &["192.0.2.2"])];
        let high = Route { priority: Some(4000), ..route("10.64.2.0/24", "192.0.2.9", 7) };
        let hole = OwnedRoute {
            protocol: 80,
            kind: 6,
            route: Route { table: Some(254), ..Route::to(net("10.64.2.0/24")) },
        };
        // One of ours that is no way is none of ours: somebody has taken the number.
        let taken = OwnedRoute { protocol: PROTOCOL, ..hole.clone() };
        for (foreign, gateway) in [(owned(186, high), Some(ip("192.0.2.9"))), (hole, None), (taken, None)] {
            let found = plan(&ways, &here(&[ours("10.64.2.0/24", "192.0.2.2", 7), foreign.clone()]));
            assert_eq!(why(&found), [&Why::Foreign { protocol: foreign.protocol, gateway }]);
            assert_eq!((found.delete.len(), found.add.len()), (1, 0), "ours makes way");
        }
        // In another table, or to a part of the range, it is none of this.
        let elsewhere = owned(3, Route { table: Some(100), ..route("10.64.2.0/24", "192.0.2.9", 7) });
        let part = owned(3, route("10.64.2.0/25", "192.0.2.9", 7));
        assert_eq!(plan(&ways, &here(&[elsewhere, part])).add.len(), 1);
    }

    #[test]
    fn what_cannot_be_is_told_with_its_reason() {
        let ways = [
            way("none", "fd64:1::/64", &["192.0.2.2"]),
            way("far", "10.64.1.0/24", &["198.51.100.7", "2001:db8::2"]),
            way("same", "10.64.2.0/24", &["192.0.2.1"]),
            way("b", "10.64.3.0/24", &["192.0.2.2"]),
            way("again", "10.64.3.7/24", &["192.0.2.3"]),
            way("wide", "192.0.2.0/24", &["192.0.2.3"]),
            way("all", "0.0.0.0/0", &["192.0.2.3"]),
            Way { is_admitted: false, ..way("out", "10.64.4.0/24", &["192.0.2.3"]) },
        ];
        let plan = plan(&ways, &here(&[ours("192.0.2.0/24", "192.0.2.3", 7)]));
        let expected = [
            Why::NoAddress,
            Why::Elsewhere { address: ip("198.51.100.7") },
            Why::Own { address: ip("192.0.2.1") },
            Why::Shared { with: "b".into() },
            Why::Holds { address: ip("192.0.2.1") },
            Why::Holds { address: ip("192.0.2.1") },
            Why::Outside,
        ];
        assert_eq!(why(&plan), expected.each_ref());
        assert_eq!((plan.add.len(), plan.delete.len()), (1, 1), "what is there of them goes");
        for one in &plan.missing {
            let text = one.to_string();
            assert!(text.contains(&format!("{}, the pods of node {}: ", one.range, one.node)), "{text}");
        }
    }

    #[test]
    fn nothing_wanted_leaves_nothing_of_ours() {
        let there = [ours("10.64.2.0/24", "192.0.2.2", 7), owned(2, route("10.64.3.0/24", "192.0.2.3", 7))];
        let plan = plan(&[], &here(&there));
        assert_eq!(plan, Plan { delete: vec![there[0].route.clone()], ..Plan::default() });
    }
}
