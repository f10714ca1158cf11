//! The sockets of one link.

use std::net::{IpAddr, SocketAddrV4};

use kernel::netlink::Mac;
use kernel::packet::{PacketSocket, datagram};

use super::groups::Groups;
use crate::wire::arp::{self, Arp};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::neighbour::Neighbour;

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
    groups: Groups,
}

impl Port {
    pub(super) fn open(link: u32, mac: Mac) -> kernel::Result<Self> {
        Ok(Self {
            groups: Groups::new(link),
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

    /// Asks who has the address, and hears from now on who asks for it.
    pub(super) fn probe(&mut self, address: IpAddr) -> kernel::Result<()> {
        match address {
            IpAddr::V4(address) => self.arp.send(&Arp::probe(self.mac, address).write(), arp::EVERYBODY),
            IpAddr::V6(address) => {
                self.groups.join(address)?;
                self.discover(Neighbour::probe(address))
            }
        }
    }

    /// Hears no more who asks for the address.
    pub(super) fn leave(&mut self, address: IpAddr) {
        if let IpAddr::V6(address) = address {
            self.groups.leave(address);
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
