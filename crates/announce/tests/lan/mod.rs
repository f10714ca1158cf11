//! Hosts on one link, each in a network namespace of its own, of which one asks for addresses. Tests of other crates use it, too.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test's own tools; each test file uses some of them"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use announce::wire::arp::{Arp, EVERYBODY};
use announce::wire::neighbour::{Neighbour, multicast, solicited};
use kernel::namespace::in_netns;
use kernel::netlink::{Address, IpNet, Kind, Mac, NewLink, Protocol, SetLink, Socket, link_by_name};
use kernel::packet::PacketSocket;
use testkit::netns::{Netns, change, index, join};

/// Longer than anything takes that will happen at all, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How long other answers than the first are waited for.
const LONGER: Duration = Duration::from_millis(100);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(5);

/// A bridge in a namespace, and hosts at its ports. All goes with the descriptors.
pub struct Lan {
    switch: Netns,
    /// Where they are. The last one asks.
    pub hosts: Vec<Netns>,
}

/// The address of a host's card.
pub fn mac(host: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, host as u8])
}

impl Lan {
    /// With so many hosts: 192.0.2.1 and 2001:db8::1 is the first, `e0` its link.
    pub fn new(hosts: usize) -> Self {
        let site = Self { switch: Netns::new(), hosts: (0..hosts).map(|_| Netns::new()).collect() };
        site.switch.run(|| {
            let kind = Kind::Bridge { mcast_snooping: Some(false), vlan_filtering: None };
            change(|batch| batch.add_link(&NewLink { up: true, ..NewLink::new("br0", kind) }));
            let bridge = index("br0");
            for (at, host) in site.hosts.iter().enumerate() {
                let port = format!("p{at}");
                let nets = [format!("192.0.2.{}/24", at + 1), format!("2001:db8::{}/64", at + 1)];
                join(&port, host, ("e0", Some(mac(at))), &nets.each_ref().map(String::as_str));
                change(|batch| batch.set_link(&SetLink::named(&port).master(bridge)));
            }
        });
        site
    }

    /// Where the last host is told that an address is; none if nobody says so for a second. Who answers is listened to for a little
    /// longer: nobody else may.
    pub fn asks(&self, address: IpAddr) -> Option<Mac> {
        let answers = self.answers(address, LONGER);
        let (first, _) = answers.first()?;
        // Who is about to hear that another has it may have answered, too: who asks again is answered by one.
        answers.iter().all(|(mac, _)| mac == first).then_some(*first)
    }

    /// When the last host is first told where an address is, from now on.
    pub fn answered(&self, address: IpAddr) -> Instant {
        let begun = Instant::now();
        loop {
            if let Some((_, at)) = self.answers(address, Duration::ZERO).first() {
                return *at;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody answers for {address}");
        }
    }

    /// What is answered for a second, or for so long from the first answer on.
    fn answers(&self, address: IpAddr, longer: Duration) -> Vec<(Mac, Instant)> {
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
                if answers.first().is_some_and(|(_, at)| at.elapsed() >= longer) {
                    break;
                }
                if asked.is_none_or(|at| at.elapsed() > ASK) {
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
            Ok(answers)
        })
        .unwrap()
    }

    /// Asks until the answer is as it should be.
    pub fn until(&self, address: IpAddr, is: impl Fn(Option<Mac>) -> bool) -> Option<Mac> {
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
    pub fn plug(&self, host: usize, on: bool) {
        let port = format!("p{host}");
        self.switch.run(|| change(|batch| batch.set_link(&SetLink::named(&port).up(on))));
    }

    /// Gives a host an address, or takes it.
    pub fn own(&self, host: usize, address: IpAddr, on: bool) {
        self.hosts[host].run(|| {
            let address = Address::new(index("e0"), IpNet::host(address));
            change(|batch| match on {
                true => batch.add_address(&address),
                false => batch.delete_address(&address),
            });
        });
    }
}
