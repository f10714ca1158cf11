//! The sockets of one link.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, UdpSocket};

use kernel::Act as _;
use kernel::netlink::Mac;
use kernel::packet::{PacketSocket, datagram};

use crate::wire::arp::{self, Arp};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::neighbour::{self, Neighbour};

/// Signs of life go from this port of UDP to this port.
const PORT: u16 = 7455;
/// As much is taken from one socket before others get their turn.
const TURN: usize = 256;

/// What came by a link.
#[derive(Debug)]
pub(super) enum Heard {
    /// Somebody asks for an address, maybe to have it.
    Asked { address: IpAddr, by: Mac, wants_it: bool },
    /// Somebody says that an address is theirs.
    Said { address: IpAddr, by: Mac },
    /// A node lives.
    Lives(Heartbeat),
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) mac: Mac,
    arp: PacketSocket,
    neighbours: PacketSocket,
    beats: PacketSocket,
}

impl Port {
    pub(super) fn open(link: u32, mac: Mac) -> kernel::Result<Self> {
        Ok(Self {
            mac,
            arp: PacketSocket::arp(link)?,
            neighbours: PacketSocket::neighbours(link)?,
            beats: PacketSocket::open(link, PORT)?,
        })
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &PacketSocket> {
        [&self.arp, &self.neighbours, &self.beats].into_iter()
    }

    /// Hands over what has come; a question is answered if `told` says so. What a link that goes away says is left.
    pub(super) fn hear(&self, mut told: impl FnMut(Heard) -> bool) {
        let mut buffer = [0; 1500];
        for _ in 0..TURN {
            let Ok(Some((packet, from))) = self.beats.receive(&mut buffer) else { break };
            let beat = datagram::unwrap(packet, PORT, PORT).and_then(Heartbeat::read);
            // Frames that carry it say where it comes from, too: a sign that another says so is none of it.
            if let Some(beat) = beat.filter(|beat| beat.mac == from) {
                told(Heard::Lives(beat));
            }
        }
        for _ in 0..TURN {
            let Ok(Some((packet, from))) = self.arp.receive(&mut buffer) else { break };
            let Some(arp) = Arp::read(packet).filter(|arp| arp.sender.0 != self.mac) else { continue };
            let (by, claimed) = arp.sender;
            if !claimed.is_unspecified() {
                told(Heard::Said { address: claimed.into(), by });
            }
            let wants_it = claimed.is_unspecified();
            let asked = !arp.is_reply && claimed != arp.target.1;
            if asked && told(Heard::Asked { address: arp.target.1.into(), by, wants_it }) {
                let _ = self.arp.send(&arp.answer(self.mac).write(), from);
            }
        }
        for _ in 0..TURN {
            let Ok(Some((packet, from))) = self.neighbours.receive(&mut buffer) else { break };
            match Neighbour::read(packet) {
                Some(Neighbour::Solicitation { from: asker, target, mac }) => {
                    let wants_it = asker.is_unspecified();
                    if told(Heard::Asked { address: target.into(), by: from, wants_it }) {
                        let (answer, group) = Neighbour::answer(asker, target, self.mac).write();
                        let _ = self.neighbours.send(&answer, group.or(mac).unwrap_or(from));
                    }
                }
                Some(Neighbour::Advertisement { target, mac, .. }) => {
                    told(Heard::Said { address: target.into(), by: mac.unwrap_or(from) });
                }
                None => {}
            }
        }
    }

    /// Asks who has the address.
    pub(super) fn probe(&self, address: IpAddr) -> kernel::Result<()> {
        match address {
            IpAddr::V4(address) => self.arp.send(&Arp::probe(self.mac, address).write(), arp::EVERYBODY),
            IpAddr::V6(address) => self.discover(Neighbour::probe(address)),
        }
    }

    /// Says that the address is here.
    pub(super) fn tell(&self, address: IpAddr) -> kernel::Result<()> {
        match address {
            IpAddr::V4(address) => [false, true].into_iter().try_for_each(|is_reply| {
                self.arp.send(&Arp::gratuitous(self.mac, address, is_reply).write(), arp::EVERYBODY)
            }),
            IpAddr::V6(address) => self.discover(Neighbour::unsolicited(address, self.mac)),
        }
    }

    fn discover(&self, what: Neighbour) -> kernel::Result<()> {
        let (packet, group) = what.write();
        self.neighbours.send(&packet, group.unwrap_or(arp::EVERYBODY))
    }

    pub(super) fn beat(&self, beat: &Heartbeat) -> kernel::Result<()> {
        let from = SocketAddrV4::new([0, 0, 0, 0].into(), PORT);
        let to = SocketAddrV4::new([255, 255, 255, 255].into(), PORT);
        self.beats.send(&datagram::wrap(from, to, &beat.write()), arp::EVERYBODY)
    }
}

/// The groups in which solicitations come. Two addresses may have the same.
#[derive(Debug, Default)]
pub(super) struct Groups {
    joined: BTreeMap<(u32, Ipv6Addr), Group>,
}

#[derive(Debug)]
struct Group {
    of: Vec<Ipv6Addr>,
    /// It is joined for as long as this is open.
    _socket: UdpSocket,
}

impl Groups {
    pub(super) fn join(&mut self, link: u32, address: IpAddr) -> kernel::Result<()> {
        let IpAddr::V6(address) = address else { return Ok(()) };
        let group = neighbour::solicited(address);
        if let Some(known) = self.joined.get_mut(&(link, group)) {
            if !known.of.contains(&address) {
                known.of.push(address);
            }
            return Ok(());
        }
        let say = || format!("the group {group} on link number {link}, in which {address} is asked for");
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).act("join", say)?;
        socket.join_multicast_v6(&group, link).act("join", say)?;
        self.joined.insert((link, group), Group { of: vec![address], _socket: socket });
        Ok(())
    }

    pub(super) fn leave(&mut self, link: u32, address: IpAddr) {
        let IpAddr::V6(address) = address else { return };
        let key = (link, neighbour::solicited(address));
        let Some(known) = self.joined.get_mut(&key) else { return };
        known.of.retain(|other| *other != address);
        if known.of.is_empty() {
            self.joined.remove(&key);
        }
    }

    /// Forgets those of links that are gone.
    pub(super) fn keep(&mut self, is_there: impl Fn(u32) -> bool) {
        self.joined.retain(|(link, _), _| is_there(*link));
    }
}
