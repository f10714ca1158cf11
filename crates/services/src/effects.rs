//! What this leaves on a machine, with its owner and its inverses: the table, the addresses of DNS, routes to Services, and those to other
//! nodes' pods.

use std::net::IpAddr;

use kernel::netlink::{self, Address, Batch, IpNet, Protocol, Route, Socket};
use ledger::{Effect, Owner, OwnerId, Record as _};
use rustix::io::Errno;

/// The link that gets addresses which no other link has: it is always there and always up.
const LOOPBACK: &str = "lo";

/// The path MTU that a route to Services has: that of loopback is none that leads to a pod.
const MTU: u32 = 1500;

/// Whose it is. It is alive until it is [undone](Owner::undo_all): the table works on while no process looks after it.
///
/// # Panics
/// Never: the name can be a folder.
pub fn owner() -> OwnerId {
    OwnerId::new("services").unwrap_or_else(|_| OwnerId::node())
}

/// Records the table, before it is made.
///
/// # Errors
/// The record cannot be written.
pub fn claim_table(owner: &mut Owner, table: &str) -> Result<(), ledger::Error> {
    claim(owner, Effect::NftTable { family: "inet".into(), table: table.into() })
}

/// Records the routes to other nodes' pods, which carry this number, before any is made.
///
/// # Errors
/// The record cannot be written.
pub fn claim_routes(owner: &mut Owner, protocol: u8) -> Result<(), ledger::Error> {
    claim(owner, Effect::Routes { protocol })
}

/// Takes away the routes to other nodes' pods that an earlier call has made.
///
/// # Errors
/// The kernel refuses, or the record stays.
pub fn release_routes(owner: &mut Owner) -> Result<(), ledger::Error> {
    for (id, effect) in owner.records() {
        if matches!(effect, Effect::Routes { .. }) {
            owner.undo(id)?;
        }
    }
    Ok(())
}

/// Sees that an address is one of the machine's: one that no link has is given to loopback.
///
/// Packets from pods come to it as to any address of their gateway. It needs no translation, and it is there before any network is. One
/// of IPv4 is the machine's own matter (scope `host`): else what leaves by a link without an address would come from it.
///
/// # Errors
/// The record cannot be written, or the kernel refuses the address.
pub fn claim_address(
    owner: &mut Owner,
    address: IpAddr,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut socket = Socket::open(Protocol::Route)?;
    let net = IpNet::host(address);
    let effect = of_address(address);
    let there = netlink::addresses(&mut socket, None)?;
    let recorded = owner.records().iter().any(|(_, known)| *known == effect);
    if there.iter().any(|known| known.net.address() == address) && !recorded {
        return Ok(());
    }
    claim(owner, effect)?;
    let loopback = netlink::link_by_name(&mut socket, LOOPBACK)?;
    let Some(loopback) = loopback else { return Err(format!("there is no link {LOOPBACK}").into()) };
    let mut batch = Batch::new();
    batch.add_address(&Address { host_scope: true, ..Address::new(loopback.index, net) });
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(Errno::EXIST) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Sees that programs of this machine have a way to a network of Services, and whether it is ours. Without one a connection fails before
/// any rule sees it. Where it leads does not matter, as a rule sends it elsewhere: to loopback, which is there before any network of pods.
///
/// False if somebody has a route to this very network: packets to it are theirs.
///
/// # Errors
/// The record cannot be written, or the kernel refuses the route.
pub fn claim_route(owner: &mut Owner, net: IpNet) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let mut socket = Socket::open(Protocol::Route)?;
    let net = net.network();
    let effect = of_route(net);
    let loopback = netlink::link_by_name(&mut socket, LOOPBACK)?;
    let Some(loopback) = loopback else { return Err(format!("there is no link {LOOPBACK}").into()) };
    let there = netlink::routes(&mut socket)?;
    let main = |route: &&Route| route.table == Some(MAIN) && route.destination == net;
    if there.iter().filter(main).any(|route| route.link != Some(loopback.index)) {
        return Ok(false);
    }
    claim(owner, effect)?;
    let mut batch = Batch::new();
    batch.add_route(&Route { link: Some(loopback.index), mtu: Some(MTU), ..Route::to(net) });
    match socket.run(&batch) {
        Err(e) if e.errno() == Some(Errno::EXIST) => Ok(true),
        outcome => Ok(outcome.map(|()| true)?),
    }
}

fn of_address(address: IpAddr) -> Effect {
    Effect::Address { link: LOOPBACK.into(), net: IpNet::host(address).to_string() }
}

fn of_route(net: IpNet) -> Effect {
    Effect::Route { link: LOOPBACK.into(), net: net.network().to_string() }
}

/// Takes back the addresses and routes of an earlier call that named others than these.
///
/// # Errors
/// The kernel refuses, or the record stays.
pub fn release_others(
    owner: &mut Owner,
    addresses: &[IpAddr],
    networks: &[IpNet],
) -> Result<(), ledger::Error> {
    let addresses = addresses.iter().map(|address| of_address(*address));
    let wanted: Vec<Effect> = addresses.chain(networks.iter().map(|net| of_route(*net))).collect();
    for (id, effect) in owner.records() {
        if matches!(effect, Effect::Address { .. } | Effect::Route { .. }) && !wanted.contains(&effect) {
            owner.undo(id)?;
        }
    }
    Ok(())
}

/// The main routing table's number.
const MAIN: u32 = 254;

/// Records an effect, once.
fn claim(owner: &mut Owner, effect: Effect) -> Result<(), ledger::Error> {
    if owner.records().iter().any(|(_, known)| *known == effect) {
        return Ok(());
    }
    owner.record(effect).map(drop)
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use kernel::namespace::in_new_netns;
    use kernel::netlink::{Kind, NewLink, Route, SetLink, addresses, link_by_name};
    use ledger::Ledger;

    use super::*;

    /// Runs `test` where link `br0` is the way to this network, beside loopback.
    fn beside_a_link(way: &str, test: impl FnOnce(&Ledger) + Send) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
        in_new_netns(|| {
            let mut socket = Socket::open(Protocol::Route)?;
            let mut batch = Batch::new();
            let bridge = Kind::Bridge { mcast_snooping: None, vlan_filtering: None };
            batch.set_link(&SetLink::named(LOOPBACK).up(true));
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", bridge) });
            socket.run(&batch)?;
            let link = link_by_name(&mut socket, "br0")?.map(|link| link.index);
            let mut batch = Batch::new();
            batch.add_route(&Route { link, ..Route::to(way.parse().unwrap()) });
            socket.run(&batch)?;
            test(&ledger);
            Ok(())
        })
        .unwrap();
    }

    fn has_address(address: IpAddr) -> usize {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        addresses(&mut socket, None).unwrap().iter().filter(|a| a.net.address() == address).count()
    }

    fn has_route(net: IpNet) -> usize {
        let mut socket = Socket::open(Protocol::Route).unwrap();
        netlink::routes(&mut socket).unwrap().iter().filter(|route| route.destination == net).count()
    }

    #[test]
    fn an_address_that_nobody_has_is_given_to_loopback_and_taken_back() {
        beside_a_link("0.0.0.0/0", |ledger| {
            let (four, six): (IpAddr, IpAddr) = ("10.96.0.10".parse().unwrap(), "fd96::a".parse().unwrap());
            for _ in 0..2 {
                let mut owner = ledger.owner(&owner()).unwrap();
                for address in [four, six, "127.0.0.1".parse().unwrap()] {
                    claim_address(&mut owner, address).unwrap();
                    assert_eq!(has_address(address), 1);
                    UdpSocket::bind((address, 0)).unwrap();
                }
                // Not the one that loopback has anyway.
                assert_eq!(owner.records().len(), 2);
            }
            // What goes elsewhere, here by a link without an address, does not come from it.
            let elsewhere = UdpSocket::bind("0.0.0.0:0").unwrap();
            elsewhere.connect("203.0.113.1:9").unwrap();
            assert_ne!(elsewhere.local_addr().unwrap().ip(), four);
            let errors = ledger.owner(&owner()).unwrap().undo_all();
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!([four, six, "127.0.0.1".parse().unwrap()].map(has_address), [0, 0, 1]);
        });
    }

    #[test]
    fn a_way_to_services_is_made_once_and_taken_back() {
        beside_a_link("10.97.0.0/16", |ledger| {
            let [four, six, others]: [IpNet; 3] =
                ["10.96.0.0/16", "fd96::/108", "10.97.0.0/16"].map(|net| net.parse().unwrap());
            for _ in 0..2 {
                let mut owner = ledger.owner(&owner()).unwrap();
                let outcome = [four, six, others].map(|net| claim_route(&mut owner, net).unwrap());
                assert_eq!((outcome, owner.records().len()), ([true, true, false], 2));
                assert_eq!([four, six, others].map(has_route), [1, 1, 1]);
            }
            let errors = ledger.owner(&owner()).unwrap().undo_all();
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!([four, six, others].map(has_route), [0, 0, 1]);
        });
    }

    #[test]
    fn routes_to_other_nodes_go_where_they_are_wanted_no_longer() {
        beside_a_link("10.97.0.0/16", |ledger| {
            let nets: [IpNet; 2] = ["10.64.1.0/24", "fd64:1::/64"].map(|net| net.parse().unwrap());
            let mut socket = Socket::open(Protocol::Route).unwrap();
            let link = link_by_name(&mut socket, "br0").unwrap().map(|link| link.index);
            let mut make = || {
                let mut batch = Batch::new();
                nets.iter().for_each(|net| batch.add_route_of(&Route { link, ..Route::to(*net) }, 83));
                socket.run(&batch).unwrap();
            };
            let mut owner = ledger.owner(&owner()).unwrap();
            release_routes(&mut owner).unwrap();
            for _ in 0..2 {
                claim_routes(&mut owner, 83).unwrap();
            }
            assert_eq!(owner.records().len(), 1);
            make();
            // Addresses and networks that a call names are another matter.
            release_others(&mut owner, &[], &[]).unwrap();
            assert_eq!(nets.map(has_route), [1, 1]);
            release_routes(&mut owner).unwrap();
            assert_eq!((nets.map(has_route), owner.records().len()), ([0, 0], 0));
            claim_routes(&mut owner, 83).unwrap();
            make();
            let errors = owner.undo_all();
            assert!(errors.is_empty(), "{errors:?}");
            assert_eq!(nets.map(has_route), [0, 0]);
        });
    }

    #[test]
    fn what_an_earlier_call_named_and_this_one_does_not_is_taken_back() {
        beside_a_link("10.97.0.0/16", |ledger| {
            let (old, new): (IpAddr, IpAddr) = ("10.96.0.10".parse().unwrap(), "10.98.0.10".parse().unwrap());
            let [first, both, others]: [IpNet; 3] =
                ["10.96.0.0/16", "fd96::1/108", "10.97.0.0/16"].map(|net| net.parse().unwrap());
            let mut owner = ledger.owner(&owner()).unwrap();
            claim_table(&mut owner, "test-effects").unwrap();
            for address in [old, new] {
                claim_address(&mut owner, address).unwrap();
            }
            for net in [first, both, others] {
                claim_route(&mut owner, net).unwrap();
            }
            release_others(&mut owner, &[new], &[both]).unwrap();
            assert_eq!([old, new].map(has_address), [0, 1]);
            assert_eq!([first, both.network(), others].map(has_route), [0, 1, 1]);
            assert_eq!(owner.records().len(), 3, "the table, an address, a route");
            let errors = owner.undo_all();
            assert!(errors.is_empty(), "{errors:?}");
        });
    }
}
