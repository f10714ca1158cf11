//! Nodes on one link, each in a network namespace of its own, and a host that asks for addresses. Root.

#![allow(clippy::unwrap_used, reason = "tests")]

mod lan;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use announce::wire::arp::{Arp, EVERYBODY};
use announce::{Announcer, Claim, Links, Said, Setup, Wanted};
use kernel::namespace::in_netns;
use kernel::netlink::{Mac, Protocol, Socket, link_by_name};
use kernel::packet::PacketSocket;
use lan::{Lan, PATIENCE, mac};

const FOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);
const HOST: Mac = Mac([2, 0, 0, 0, 0, 99]);

fn announcer(lan: &Lan, at: usize, cluster: u8) -> (Announcer, Receiver<Said>) {
    let (tell, said) = channel();
    let setup = Setup { node: format!("node-{at}"), cluster: [cluster; 16] };
    let one =
        in_netns(&lan.hosts[at], || Announcer::start(setup, move |what| drop(tell.send(what)))).unwrap();
    (one, said)
}

fn wanted(nodes: usize, addresses: &[IpAddr]) -> Wanted {
    wanted_of((0..nodes).map(|at| format!("node-{at}")).collect(), addresses, Links::Fitting)
}

fn wanted_of(nodes: BTreeSet<String>, addresses: &[IpAddr], links: Links) -> Wanted {
    let (nodes, links) = (Arc::new(nodes), Arc::new(links));
    let claim = Claim { nodes: nodes.clone(), links };
    let addresses = addresses.iter().map(|address| (*address, claim.clone())).collect();
    Wanted { addresses, nodes, ..Wanted::default() }
}

fn until_said(said: &Receiver<Said>, is: impl Fn(&Said) -> bool) -> Said {
    let begun = Instant::now();
    let mut all = Vec::new();
    loop {
        let rest = PATIENCE.saturating_sub(begun.elapsed());
        match said.recv_timeout(rest) {
            Ok(what) if is(&what) => return what,
            Ok(what) => all.push(what),
            Err(e) => panic!("{e}: {all:?}"),
        }
    }
}

#[test]
fn one_node_answers_and_another_takes_over_from_who_is_cut_off_or_leaves() {
    let lan = Lan::new(3);
    let mut nodes: Vec<_> = (0..2).map(|at| Some(announcer(&lan, at, 1))).collect();
    for (node, _) in nodes.iter().flatten() {
        node.want(wanted(2, &[FOUR.into(), SIX.into()]));
    }
    for address in [FOUR.into(), SIX.into()] {
        lan.until(address, |answer| answer.is_some());
    }
    // Both are heard by now: one of them has it, and stays the one.
    std::thread::sleep(Duration::from_secs(1));
    let first = lan.until(FOUR.into(), |answer| answer == Some(mac(1))).unwrap();
    let begun = Instant::now();
    while [0; 3].map(|_| lan.asks(FOUR.into())) != [Some(first); 3] {
        assert!(begun.elapsed() < PATIENCE, "it does not stay with {first:?}");
    }
    let at = [mac(0), mac(1)].iter().position(|mac| *mac == first).unwrap();
    let other = mac(1 - at);

    lan.plug(at, false);
    let begun = Instant::now();
    lan.until(FOUR.into(), |answer| answer == Some(other));
    println!("taken over after {:?}", begun.elapsed());
    lan.until(SIX.into(), |answer| answer == Some(other));
    lan.plug(at, true);
    lan.until(FOUR.into(), |answer| answer == Some(first));

    nodes[at] = None;
    let begun = Instant::now();
    lan.until(FOUR.into(), |answer| answer == Some(other));
    println!("taken over from who left after {:?}", begun.elapsed());

    let (last, _said) = nodes[1 - at].as_ref().unwrap();
    last.want(wanted(2, &[]));
    for address in [FOUR.into(), SIX.into()] {
        lan.until(address, |answer| answer.is_none());
    }
}

#[test]
fn an_address_that_a_foreign_host_has_is_left_to_it() {
    let lan = Lan::new(2);
    let (node, said) = announcer(&lan, 0, 1);
    for address in [IpAddr::from(FOUR), SIX.into()] {
        lan.own(1, address, true);
        node.want(wanted(1, &[address]));
        let is_contested = |what: &Said| matches!(what, Said::Contested { address: of, mac, .. } if *of == address && *mac == mac_of_host());
        until_said(&said, is_contested);
        lan.own(1, address, false);
    }
    // It is gone: the node asks again, and has it.
    until_said(
        &said,
        |what| matches!(what, Said::Announced { address, .. } if *address == IpAddr::from(SIX)),
    );
    lan.until(SIX.into(), |answer| answer == Some(mac(0)));
    // It is back, with duplicate address detection or without: told, and contradicted.
    node.want(wanted(1, &[FOUR.into()]));
    until_said(
        &said,
        |what| matches!(what, Said::Announced { address, .. } if *address == IpAddr::from(FOUR)),
    );
    in_netns(&lan.hosts[1], || {
        let link = link_by_name(&mut Socket::open(Protocol::Route)?, "e0")?.unwrap();
        let claim = Arp::gratuitous(HOST, FOUR, true);
        PacketSocket::arp(link.index)?.send(&claim.write(), EVERYBODY)
    })
    .unwrap();
    let defended = until_said(&said, |what| matches!(what, Said::Defended { .. }));
    assert_eq!(defended, Said::Defended { address: FOUR.into(), link: "e0".into(), mac: HOST });
    lan.until(FOUR.into(), |answer| answer == Some(mac(0)));
}

fn mac_of_host() -> Mac {
    mac(1)
}

#[test]
fn nodes_of_other_clusters_are_foreign() {
    let lan = Lan::new(3);
    let (first, said) = announcer(&lan, 0, 1);
    first.want(wanted(1, &[FOUR.into()]));
    until_said(&said, |what| matches!(what, Said::Announced { .. }));
    let (second, said) = announcer(&lan, 1, 2);
    second.want(wanted_of(["node-1".to_owned()].into(), &[FOUR.into()], Links::Fitting));
    let contested = until_said(&said, |what| matches!(what, Said::Contested { .. }));
    assert_eq!(contested, Said::Contested { address: FOUR.into(), link: "e0".into(), mac: mac(0) });
    lan.until(FOUR.into(), |answer| answer == Some(mac(0)));
}

#[test]
fn a_link_that_comes_later_is_taken_and_the_machines_own_addresses_are_left_to_its_kernel() {
    let lan = Lan::new(2);
    lan.plug(0, false);
    let (node, said) = announcer(&lan, 0, 1);
    let own = IpAddr::from([192, 0, 2, 1]);
    node.want(wanted(1, &[FOUR.into(), own]));
    let nowhere: BTreeSet<IpAddr> = (0..2)
        .map(|_| match said.recv_timeout(PATIENCE).unwrap() {
            Said::Nowhere { address } => address,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(nowhere, [FOUR.into(), own].into());
    assert!(said.recv_timeout(Duration::from_millis(300)).is_err());
    lan.plug(0, true);
    let announced = until_said(&said, |what| matches!(what, Said::Announced { .. }));
    assert_eq!(announced, Said::Announced { address: FOUR.into(), link: "e0".into() });
    assert!(said.try_recv().is_err());
}

#[test]
fn addresses_are_answered_for_on_the_links_that_are_named_for_them() {
    let lan = Lan::new(2);
    let (node, said) = announcer(&lan, 0, 1);
    let named = |names: &[&str]| Links::Named(names.iter().map(ToString::to_string).collect());
    let nodes: BTreeSet<String> = ["node-0".to_owned()].into();
    let mut wanted = wanted_of(nodes.clone(), &[FOUR.into()], named(&["e0", "e9"]));
    // Of no network of the link.
    let far = IpAddr::from([198, 51, 100, 7]);
    wanted.addresses.extend(wanted_of(nodes.clone(), &[far], named(&["e0"])).addresses);
    wanted.addresses.extend(wanted_of(nodes, &[SIX.into()], named(&["e9"])).addresses);
    node.want(wanted);
    until_said(&said, |what| *what == Said::Nowhere { address: SIX.into() });
    for address in [FOUR.into(), far] {
        lan.until(address, |answer| answer == Some(mac(0)));
    }
    assert_eq!(lan.asks(SIX.into()), None);
}

#[test]
fn a_thousand_addresses_of_each_family_are_answered_for_at_once() {
    let lan = Lan::new(2);
    let (node, said) = announcer(&lan, 0, 1);
    let fours = (0..1000_u32).map(|number| IpAddr::from((0x0a00_0000 + number).to_be_bytes()));
    let sixes = (0..1000_u128).map(|number| Ipv6Addr::from_bits(SIX.to_bits() + 0x1_0000 + number).into());
    let all: BTreeSet<IpAddr> = fours.chain(sixes).collect();
    let named = Links::Named(vec!["e0".into()]);
    let begun = Instant::now();
    node.want(wanted_of(["node-0".to_owned()].into(), &all.iter().copied().collect::<Vec<_>>(), named));
    let mut left = all.clone();
    while !left.is_empty() {
        match until_said(&said, |_| true) {
            Said::Announced { address, .. } => left.remove(&address),
            other => panic!("{other:?}"),
        };
    }
    println!("{} addresses are answered for after {:?}", all.len(), begun.elapsed());
    for address in [all.first(), all.last(), all.iter().nth(700)].into_iter().flatten() {
        lan.until(*address, |answer| answer == Some(mac(0)));
    }
}
