//! Nodes on one link, each in a network namespace of its own, and a host that asks for addresses. Root.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use announce::wire::arp::{Arp, EVERYBODY};
use announce::wire::neighbour::{Neighbour, multicast, solicited};
use announce::{Announcer, Links, Said, Setup, Wanted};
use kernel::namespace::{in_netns, in_new_netns};
use kernel::netlink::{Address, Batch, Kind, Mac, NewLink, Peer, Protocol, SetLink, Socket, link_by_name};
use kernel::packet::PacketSocket;

const PATIENCE: Duration = Duration::from_secs(60);
/// How long other answers than the first are waited for.
const LONGER: Duration = Duration::from_millis(100);
const FOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const SIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);
const HOST: Mac = Mac([2, 0, 0, 0, 0, 99]);

/// A bridge in a namespace, and hosts at its ports. All goes with the descriptors.
struct Site {
    switch: File,
    hosts: Vec<File>,
}

fn netns() -> File {
    in_new_netns(|| {
        let mut batch = Batch::new();
        batch.set_link(&SetLink::named("lo").up(true));
        Socket::open(Protocol::Route)?.run(&batch)?;
        Ok(File::open("/proc/thread-self/ns/net").unwrap())
    })
    .unwrap()
}

fn mac(host: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, host as u8])
}

impl Site {
    fn new(hosts: usize) -> Self {
        let site = Self { switch: netns(), hosts: (0..hosts).map(|_| netns()).collect() };
        in_netns(&site.switch, || {
            let mut socket = Socket::open(Protocol::Route)?;
            let mut batch = Batch::new();
            let kind = Kind::Bridge { mcast_snooping: Some(false), vlan_filtering: None };
            batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) });
            socket.run(&batch)?;
            let bridge = link_by_name(&mut socket, "br0")?.unwrap().index;
            for (at, host) in site.hosts.iter().enumerate() {
                use std::os::fd::AsFd as _;
                let peer = Peer { name: "e0", mac: Some(mac(at)), mtu: None, netns: Some(host.as_fd()) };
                let name = format!("p{at}");
                let mut batch = Batch::new();
                batch.add_link(&NewLink { up: true, ..NewLink::new(&name, Kind::Veth { peer }) });
                batch.set_link(&SetLink::named(&name).master(bridge).up(true));
                socket.run(&batch)?;
            }
            Ok(())
        })
        .unwrap();
        for (at, host) in site.hosts.iter().enumerate() {
            in_netns(host, || {
                let mut socket = Socket::open(Protocol::Route)?;
                let link = link_by_name(&mut socket, "e0")?.unwrap().index;
                let mut batch = Batch::new();
                batch.set_link(&SetLink::named("e0").up(true));
                for net in [format!("192.0.2.{}/24", at + 1), format!("2001:db8::{}/64", at + 1)] {
                    batch.add_address(&Address::new(link, net.parse().unwrap()));
                }
                socket.run(&batch)
            })
            .unwrap();
        }
        site
    }

    fn announcer(&self, at: usize, cluster: u8) -> (Announcer, Receiver<Said>) {
        let (tell, said) = channel();
        let setup = Setup { node: format!("node-{at}"), cluster: [cluster; 16], links: Links::Fitting };
        let one =
            in_netns(&self.hosts[at], || Announcer::start(setup, move |what| drop(tell.send(what)))).unwrap();
        (one, said)
    }

    /// Where the last host is told that an address is; none if nobody says so for a second. Who answers is listened to for a little
    /// longer: nobody else may.
    fn asks(&self, address: IpAddr) -> Option<Mac> {
        let host = self.hosts.last().unwrap();
        in_netns(host, || {
            let link = link_by_name(&mut Socket::open(Protocol::Route)?, "e0")?.unwrap();
            let own = link.mac.unwrap();
            let (arp, neighbours) = (PacketSocket::arp(link.index)?, PacketSocket::neighbours(link.index)?);
            let begun = Instant::now();
            let mut buffer = [0; 1500];
            let mut asked = None::<Instant>;
            let mut answers: Vec<(Mac, Instant)> = Vec::new();
            while begun.elapsed() < Duration::from_secs(1) {
                if answers.first().is_some_and(|(_, at)| at.elapsed() > LONGER) {
                    break;
                }
                if asked.is_none_or(|at| at.elapsed() > Duration::from_millis(50)) {
                    asked = Some(Instant::now());
                    match address {
                        IpAddr::V4(address) => {
                            let target = (Mac([0; 6]), address);
                            let sender = (own, Ipv4Addr::new(192, 0, 2, 200));
                            arp.send(&Arp { is_reply: false, sender, target }.write(), EVERYBODY)?;
                        }
                        IpAddr::V6(target) => {
                            let from = "2001:db8::200".parse().unwrap();
                            let (packet, _) =
                                Neighbour::Solicitation { from, target, mac: Some(own) }.write();
                            neighbours.send(&packet, multicast(solicited(target)))?;
                        }
                    }
                }
                while let Some((packet, _)) = arp.receive(&mut buffer)? {
                    let answer = Arp::read(packet).filter(|arp| arp.is_reply && arp.target.0 == own);
                    if let Some(answer) = answer.filter(|arp| IpAddr::from(arp.sender.1) == address) {
                        answers.push((answer.sender.0, Instant::now()));
                    }
                }
                while let Some((packet, _)) = neighbours.receive(&mut buffer)? {
                    if let Some(Neighbour::Advertisement { target, mac, is_answer: true, .. }) =
                        Neighbour::read(packet)
                        && IpAddr::from(target) == address
                    {
                        answers.push((mac.unwrap(), Instant::now()));
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            let Some((first, _)) = answers.first() else { return Ok(None) };
            // Who is about to hear that another has it may have answered, too: who asks again is answered by one.
            Ok(answers.iter().all(|(mac, _)| mac == first).then_some(*first))
        })
        .unwrap()
    }

    /// Asks until the answer is as it should be.
    fn until(&self, address: IpAddr, is: impl Fn(Option<Mac>) -> bool) -> Option<Mac> {
        let begun = Instant::now();
        loop {
            let answer = self.asks(address);
            if is(answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{address} is at {answer:?}");
        }
    }

    /// Takes a cable out, or puts it in.
    fn plug(&self, host: usize, on: bool) {
        in_netns(&self.switch, || {
            let mut batch = Batch::new();
            batch.set_link(&SetLink::named(&format!("p{host}")).up(on));
            Socket::open(Protocol::Route)?.run(&batch)
        })
        .unwrap();
    }

    /// Gives the last host an address, or takes it.
    fn own(&self, address: IpAddr, on: bool) {
        in_netns(self.hosts.last().unwrap(), || {
            let mut socket = Socket::open(Protocol::Route)?;
            let link = link_by_name(&mut socket, "e0")?.unwrap().index;
            let address = Address::new(link, kernel::netlink::IpNet::host(address));
            let mut batch = Batch::new();
            match on {
                true => batch.add_address(&address),
                false => batch.delete_address(&address),
            }
            socket.run(&batch)
        })
        .unwrap();
    }
}

fn wanted(nodes: usize, addresses: &[IpAddr]) -> Wanted {
    let nodes: BTreeSet<String> = (0..nodes).map(|at| format!("node-{at}")).collect();
    let addresses = addresses.iter().map(|address| (*address, nodes.clone())).collect();
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
    let site = Site::new(3);
    let mut nodes: Vec<_> = (0..2).map(|at| Some(site.announcer(at, 1))).collect();
    for (node, _) in nodes.iter().flatten() {
        node.want(wanted(2, &[FOUR.into(), SIX.into()]));
    }
    for address in [FOUR.into(), SIX.into()] {
        site.until(address, |answer| answer.is_some());
    }
    // Both are heard by now: one of them has it, and stays the one.
    std::thread::sleep(Duration::from_secs(1));
    let first = site.until(FOUR.into(), |answer| answer.is_some()).unwrap();
    let begun = Instant::now();
    while [0; 3].map(|_| site.asks(FOUR.into())) != [Some(first); 3] {
        assert!(begun.elapsed() < PATIENCE, "it does not stay with {first:?}");
    }
    let at = [mac(0), mac(1)].iter().position(|mac| *mac == first).unwrap();
    let other = mac(1 - at);

    site.plug(at, false);
    let begun = Instant::now();
    site.until(FOUR.into(), |answer| answer == Some(other));
    println!("taken over after {:?}", begun.elapsed());
    site.until(SIX.into(), |answer| answer == Some(other));
    site.plug(at, true);
    site.until(FOUR.into(), |answer| answer == Some(first));

    nodes[at] = None;
    let begun = Instant::now();
    site.until(FOUR.into(), |answer| answer == Some(other));
    println!("taken over from who left after {:?}", begun.elapsed());

    let (last, _said) = nodes[1 - at].as_ref().unwrap();
    last.want(wanted(2, &[]));
    for address in [FOUR.into(), SIX.into()] {
        site.until(address, |answer| answer.is_none());
    }
}

#[test]
fn an_address_that_a_foreign_host_has_is_left_to_it() {
    let site = Site::new(2);
    let (node, said) = site.announcer(0, 1);
    for address in [IpAddr::from(FOUR), SIX.into()] {
        site.own(address, true);
        node.want(wanted(1, &[address]));
        let is_contested = |what: &Said| matches!(what, Said::Contested { address: of, mac, .. } if *of == address && *mac == mac_of_host());
        until_said(&said, is_contested);
        site.own(address, false);
    }
    // It is gone: the node asks again, and has it.
    until_said(
        &said,
        |what| matches!(what, Said::Announced { address, .. } if *address == IpAddr::from(SIX)),
    );
    site.until(SIX.into(), |answer| answer == Some(mac(0)));
    // It is back, with duplicate address detection or without: told, and contradicted.
    node.want(wanted(1, &[FOUR.into()]));
    until_said(
        &said,
        |what| matches!(what, Said::Announced { address, .. } if *address == IpAddr::from(FOUR)),
    );
    in_netns(&site.hosts[1], || {
        let link = link_by_name(&mut Socket::open(Protocol::Route)?, "e0")?.unwrap();
        let claim = Arp::gratuitous(HOST, FOUR, true);
        PacketSocket::arp(link.index)?.send(&claim.write(), EVERYBODY)
    })
    .unwrap();
    let defended = until_said(&said, |what| matches!(what, Said::Defended { .. }));
    assert_eq!(defended, Said::Defended { address: FOUR.into(), link: "e0".into(), mac: HOST });
    site.until(FOUR.into(), |answer| answer == Some(mac(0)));
}

fn mac_of_host() -> Mac {
    mac(1)
}

#[test]
fn nodes_of_other_clusters_are_foreign() {
    let site = Site::new(3);
    let (first, said) = site.announcer(0, 1);
    first.want(wanted(1, &[FOUR.into()]));
    until_said(&said, |what| matches!(what, Said::Announced { .. }));
    let (second, said) = site.announcer(1, 2);
    let nodes = BTreeSet::from(["node-1".to_owned()]);
    second.want(Wanted { addresses: [(FOUR.into(), nodes.clone())].into(), nodes, ..Wanted::default() });
    let contested = until_said(&said, |what| matches!(what, Said::Contested { .. }));
    assert_eq!(contested, Said::Contested { address: FOUR.into(), link: "e0".into(), mac: mac(0) });
    site.until(FOUR.into(), |answer| answer == Some(mac(0)));
}

#[test]
fn a_link_that_comes_later_is_taken_and_the_machines_own_addresses_are_left_to_its_kernel() {
    let site = Site::new(2);
    site.plug(0, false);
    let (node, said) = site.announcer(0, 1);
    let own = IpAddr::from([192, 0, 2, 1]);
    node.want(wanted(1, &[FOUR.into(), own]));
    assert!(said.recv_timeout(Duration::from_millis(300)).is_err());
    site.plug(0, true);
    let announced = until_said(&said, |what| matches!(what, Said::Announced { .. }));
    assert_eq!(announced, Said::Announced { address: FOUR.into(), link: "e0".into() });
    assert!(said.try_recv().is_err());
}
