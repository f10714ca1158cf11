//! Connection tracking: deleting the entries that a changed rule left behind.
//!
//! A NAT rule is asked once a connection; packets of a flow that has an entry never see it again. So whoever adds or
//! removes a rule deletes the entries it would have made, or had made.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use super::socket::{Protocol, Socket};
use super::uapi::{NFNL_SUBSYS_CTNETLINK, NLM_F_ACK, NLM_F_DUMP};
use super::wire::{Attributes, Batch, Message, Received};
use crate::Result;

const GET: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 1;
const DELETE: u16 = NFNL_SUBSYS_CTNETLINK << 8 | 2;
const NEW: u16 = NFNL_SUBSYS_CTNETLINK << 8;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
const CTA_FILTER_REPLY_FLAGS: u16 = 2;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;

const FILTER_IP_SRC: u32 = 1 << 0;
const FILTER_IP_DST: u32 = 1 << 1;
const FILTER_PROTO: u32 = 1 << 3;
const FILTER_SRC_PORT: u32 = 1 << 4;
const FILTER_DST_PORT: u32 = 1 << 5;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// Which entries: all that is given must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flows {
    /// Flows that a rule has sent to a destination: their answers come from it.
    AnsweredFrom {
        /// The address behind the rule.
        address: IpAddr,
        /// The protocol's number and the port behind the rule; all of them if none.
        port: Option<(u8, u16)>,
    },
    /// Flows whose first packet was for this port.
    FirstSentTo {
        /// IPv4, not IPv6.
        ipv4: bool,
        /// The address it was for; any if none.
        address: Option<IpAddr>,
        /// The protocol's number.
        protocol: u8,
        /// The port it was for.
        port: u16,
    },
    /// Both at once: flows to a port that a rule has sent to this destination, and neither those that came there another way nor those
    /// that another rule has sent there.
    Sent {
        /// The address the first packet was for; any if none.
        to: Option<IpAddr>,
        /// The port it was for.
        port: u16,
        /// The protocol's number.
        protocol: u8,
        /// Where answers come from.
        answered_from: SocketAddr,
    },
}

/// What is compared of one end of a flow.
#[derive(Debug, Clone, Copy, Default)]
struct End {
    address: Option<IpAddr>,
    /// With the protocol's number.
    port: Option<(u8, u16)>,
}

/// Where an end of a flow is found in an entry.
struct Side {
    tuple: u16,
    ipv4: u16,
    ipv6: u16,
    port: u16,
    filter: u16,
    compares_address: u32,
    compares_port: u32,
}

/// Where the first packet was sent.
const DESTINATION: Side = Side {
    tuple: CTA_TUPLE_ORIG,
    ipv4: CTA_IP_V4_DST,
    ipv6: CTA_IP_V6_DST,
    port: CTA_PROTO_DST_PORT,
    filter: CTA_FILTER_ORIG_FLAGS,
    compares_address: FILTER_IP_DST,
    compares_port: FILTER_PROTO | FILTER_DST_PORT,
};

/// Where answers come from.
const ANSWERED_FROM: Side = Side {
    tuple: CTA_TUPLE_REPLY,
    ipv4: CTA_IP_V4_SRC,
    ipv6: CTA_IP_V6_SRC,
    port: CTA_PROTO_SRC_PORT,
    filter: CTA_FILTER_REPLY_FLAGS,
    compares_address: FILTER_IP_SRC,
    compares_port: FILTER_PROTO | FILTER_SRC_PORT,
};

impl Side {
    fn address(&self, entry: Attributes<'_>) -> Option<IpAddr> {
        let ip = entry.find(self.tuple)?.nested().find(CTA_TUPLE_IP)?.nested();
        ip.find(self.ipv4).or_else(|| ip.find(self.ipv6))?.address()
    }

    /// The protocol's number and the port.
    fn port(&self, entry: Attributes<'_>) -> Option<(u8, u16)> {
        let proto = entry.find(self.tuple)?.nested().find(CTA_TUPLE_PROTO)?.nested();
        Some((proto.find(CTA_PROTO_NUM)?.u8()?, proto.find(self.port)?.be16()?))
    }

    fn flags(&self, end: End) -> u32 {
        let address = if end.address.is_some() { self.compares_address } else { 0 };
        address | if end.port.is_some() { self.compares_port } else { 0 }
    }

    fn write(&self, m: &mut Message<'_>, end: End) {
        m.nest(self.tuple, |tuple| {
            // The kernel wants the nest even where no address is compared.
            tuple.nest(CTA_TUPLE_IP, |ip| {
                match end.address {
                    Some(IpAddr::V4(a)) => ip.bytes(self.ipv4, &a.octets()),
                    Some(IpAddr::V6(a)) => ip.bytes(self.ipv6, &a.octets()),
                    None => ip,
                };
            });
            if let Some((protocol, port)) = end.port {
                tuple.nest(CTA_TUPLE_PROTO, |proto| {
                    proto.u8(CTA_PROTO_NUM, protocol).be16(self.port, port);
                });
            }
        });
    }
}

impl Flows {
    fn ends(&self) -> [(Side, End); 2] {
        let (to, from) = match *self {
            Self::AnsweredFrom { address, port } => (End::default(), End { address: Some(address), port }),
            Self::FirstSentTo { address, protocol, port, .. } => {
                (End { address, port: Some((protocol, port)) }, End::default())
            }
            Self::Sent { to, port, protocol, answered_from: from } => (
                End { address: to, port: Some((protocol, port)) },
                End { address: Some(from.ip()), port: Some((protocol, from.port())) },
            ),
        };
        [(DESTINATION, to), (ANSWERED_FROM, from)]
    }

    fn family(&self) -> u8 {
        let ipv4 = match self {
            Self::AnsweredFrom { address, .. } => address.is_ipv4(),
            Self::FirstSentTo { ipv4, .. } => *ipv4,
            Self::Sent { answered_from, .. } => answered_from.is_ipv4(),
        };
        if ipv4 { AF_INET } else { AF_INET6 }
    }

    fn compares_ipv6(&self) -> bool {
        self.ends().iter().any(|(_, end)| matches!(end.address, Some(IpAddr::V6(_))))
    }

    /// Where a rule has sent them, if that is one address and port: the protocol's number, and that address and port.
    pub fn sent_to(&self) -> Option<(u8, SocketAddr)> {
        match *self {
            Self::AnsweredFrom { address, port: Some((protocol, port)) } => {
                Some((protocol, SocketAddr::new(address, port)))
            }
            Self::Sent { protocol, answered_from, .. } => Some((protocol, answered_from)),
            Self::AnsweredFrom { port: None, .. } | Self::FirstSentTo { .. } => None,
        }
    }

    /// The tuples, and which parts of them are to be compared.
    fn write(&self, m: &mut Message<'_>) {
        let ends = self.ends();
        for (side, end) in &ends {
            if side.flags(*end) != 0 {
                side.write(m, *end);
            }
        }
        m.nest(CTA_FILTER, |filter| {
            for (side, end) in &ends {
                filter.u32(side.filter, side.flags(*end));
            }
        });
    }

    /// The same comparison here, for kernels that do not make it.
    fn fits(&self, entry: Attributes<'_>) -> bool {
        self.ends().iter().all(|(side, end)| {
            end.address.is_none_or(|wanted| side.address(entry) == Some(wanted))
                && end.port.is_none_or(|wanted| side.port(entry) == Some(wanted))
        })
    }

    /// The same for ends that have been read: one entry may be compared with many.
    fn fits_ends(&self, there: &[End; 2]) -> bool {
        self.ends().iter().zip(there).all(|((_, end), there)| {
            end.address.is_none_or(|wanted| there.address == Some(wanted))
                && end.port.is_none_or(|wanted| there.port == Some(wanted))
        })
    }
}

/// `struct nfgenmsg`. Version 1 makes the kernel heed the family of a filtered deletion.
fn header(family: u8) -> [u8; 4] {
    [family, 1, 0, 0]
}

/// Deletes the entries of the caller's network namespace that fit. None there counts as done.
pub fn delete_flows(flows: &Flows) -> Result<()> {
    delete_flows_on(&mut Socket::open(Protocol::Netfilter)?, flows)
}

/// [`delete_flows`] on a socket that is open already.
pub fn delete_flows_on(socket: &mut Socket, flows: &Flows) -> Result<()> {
    // The kernel's filter takes an IPv6 address that is equal for one that is not, and the other way round
    // (ctnetlink_filter_match_tuple, Linux 5.8 to 6.18): it would delete everybody else's entries.
    if flows.compares_ipv6() {
        return delete_one_by_one(socket, flows);
    }
    let mut batch = Batch::new();
    flows.write(&mut batch.message(
        DELETE,
        NLM_F_ACK,
        &header(flows.family()),
        "delete",
        "conntrack entries",
    ));
    match socket.run(&batch) {
        // Before Linux 6.11 a filter is not known here: the tuple is taken for a whole one and found wanting.
        Err(e)
            if matches!(
                e.errno(),
                Some(Errno::INVAL | Errno::NOENT | Errno::OPNOTSUPP | Errno::AFNOSUPPORT)
            ) =>
        {
            delete_one_by_one(socket, flows)
        }
        outcome => outcome,
    }
}

/// Deletes all entries of a protocol that has ports, by its number, in the caller's network namespace: who has begun a flow that goes on is found out
/// anew, by its next packet.
pub fn delete_all_of(protocol: u8) -> Result<()> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    [AF_INET, AF_INET6].into_iter().try_for_each(|family| {
        delete_those(&mut socket, family, |entry| {
            DESTINATION.port(entry).is_some_and(|(number, _)| number == protocol)
        })
    })
}

fn delete_one_by_one(socket: &mut Socket, flows: &Flows) -> Result<()> {
    delete_those(socket, flows.family(), |entry| flows.fits(entry))
}

fn delete_those(socket: &mut Socket, family: u8, fits: impl Fn(Attributes<'_>) -> bool) -> Result<()> {
    let mut dump = Batch::new();
    dump.message(GET, NLM_F_DUMP, &header(family), "list", "conntrack entries");
    let entries = socket.dump(&dump, |m| read(m, &fits))?;
    delete_identified(socket, family, &entries)
}

/// An entry that was found.
#[derive(Debug)]
pub(crate) struct Found {
    /// Which of the flows that were looked for it is the first to fit, counted from 0.
    pub(crate) fits: usize,
    family: u8,
    identity: Identity,
}

/// The entries that fit any of `flows`, in the namespace of `socket`.
pub(crate) fn find(socket: &mut Socket, flows: &[Flows]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for family in [AF_INET, AF_INET6].into_iter().filter(|it| flows.iter().any(|one| one.family() == *it)) {
        let mut dump = Batch::new();
        dump.message(GET, NLM_F_DUMP, &header(family), "list", "conntrack entries");
        found.extend(socket.dump(&dump, |message| {
            let entry = Attributes::after(message.body, 4);
            let there = [DESTINATION, ANSWERED_FROM]
                .map(|side| End { address: side.address(entry), port: side.port(entry) });
            let fits = flows.iter().position(|one| one.family() == family && one.fits_ends(&there))?;
            Some(Found { fits, family, identity: read(message, |_| true)? })
        })?);
    }
    Ok(found)
}

/// Deletes entries that were found, and none that has come after them: of those that are gone by now nothing is deleted.
pub(crate) fn delete_found(socket: &mut Socket, found: &[Found]) -> Result<()> {
    for family in [AF_INET, AF_INET6] {
        let of_family = found.iter().filter(|entry| entry.family == family);
        let entries: Vec<Identity> = of_family.map(|entry| entry.identity.clone()).collect();
        delete_identified(socket, family, &entries)?;
    }
    Ok(())
}

fn delete_identified(socket: &mut Socket, family: u8, entries: &[Identity]) -> Result<()> {
    for chunk in entries.chunks(32) {
        let mut batch = Batch::new();
        for entry in chunk {
            let mut m = batch.message(DELETE, NLM_F_ACK, &header(family), "delete", "a conntrack entry");
            for (kind, value) in entry {
                m.bytes(*kind, value);
            }
        }
        match socket.run(&batch) {
            Err(e) if e.errno() == Some(Errno::NOENT) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

/// What identifies an entry for its deletion.
type Identity = Vec<(u16, Vec<u8>)>;

fn read(message: Received<'_>, fits: impl Fn(Attributes<'_>) -> bool) -> Option<Identity> {
    let entry = Attributes::after(message.body, 4);
    if message.kind != NEW || !fits(entry) {
        return None;
    }
    let identity: Identity = [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID]
        .into_iter()
        .filter_map(|kind| entry.find(kind).map(|a| (kind, a.value.to_vec())))
        .collect();
    // Without a tuple the kernel would delete every entry there is.
    identity.first().is_some_and(|(kind, _)| *kind == CTA_TUPLE_ORIG).then_some(identity)
}

/// A flow that has an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Where its first packet was sent.
    pub destination: SocketAddr,
    /// Where its answers come from: somewhere else, if a rule has sent it there.
    pub answered_from: SocketAddr,
}

/// The flows of a protocol that has ports, by its number, in the namespace of `socket`.
pub fn flows(socket: &mut Socket, protocol: u8) -> Result<Vec<Flow>> {
    let mut batch = Batch::new();
    batch.message(GET, NLM_F_DUMP, &header(0), "list", "conntrack entries");
    socket.dump(&batch, |message| {
        let entry = Attributes::after(message.body, 4);
        let end = |side: Side| {
            let (number, port) = side.port(entry)?;
            (number == protocol).then_some(())?;
            Some(SocketAddr::new(side.address(entry)?, port))
        };
        (message.kind == NEW).then_some(())?;
        Some(Flow { destination: end(DESTINATION)?, answered_from: end(ANSWERED_FROM)? })
    })
}

/// How many entries the caller's network namespace has.
pub fn count() -> Result<usize> {
    let mut batch = Batch::new();
    batch.message(GET, NLM_F_DUMP, &header(0), "list", "conntrack entries");
    let found = Socket::open(Protocol::Netfilter)?.dump(&batch, |m| (m.kind == NEW).then_some(()))?;
    Ok(found.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::SetLink;
    use crate::nft::{Base, Chain, Conntrack, Expression, Family, Hook, Register, Transaction};

    /// Conntrack only watches once a rule needs it.
    fn watch() -> Socket {
        let mut change = Transaction::new();
        change.add_table(Family::Inet, "t", true, None);
        let base = Base { kind: "filter", hook: Hook::Output, priority: 0, accept: true };
        change.add_chain(Family::Inet, "t", &Chain { name: "output", base: Some(base) });
        let state =
            [Expression::Conntrack { key: Conntrack::State, to: Register::FIRST }, Expression::Counter];
        change.add_rule(Family::Inet, "t", "output", &state, None);
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        change.commit(&mut socket).unwrap();
        let mut batch = Batch::new();
        batch.set_link(&SetLink::named("lo").up(true));
        Socket::open(Protocol::Route).unwrap().run(&batch).unwrap();
        socket
    }

    /// The way that kernels before 6.11 need finds and deletes the same entries.
    #[test]
    fn one_by_one() {
        crate::namespace::in_new_netns(|| {
            let mut socket = watch();
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let udp6 = std::net::UdpSocket::bind("[::1]:0").unwrap();
            for port in 7001..7051 {
                udp.send_to(b"x", ("127.0.0.1", port)).unwrap();
            }
            udp6.send_to(b"x", "[::1]:7001").unwrap();
            assert_eq!(count()?, 51);
            let at = |text: &str| text.parse().unwrap();
            let there = flows(&mut socket, 17)?;
            for address in ["127.0.0.1:7050", "[::1]:7001"].map(at) {
                assert!(there.contains(&Flow { destination: address, answered_from: address }), "{there:?}");
            }
            assert_eq!((there.len(), flows(&mut socket, 6)?.len()), (51, 0));
            let to = |port| Flows::FirstSentTo { ipv4: true, address: None, protocol: 17, port };
            delete_one_by_one(&mut socket, &to(7001))?;
            delete_one_by_one(&mut socket, &to(9))?;
            assert_eq!(count()?, 50);
            let all = Flows::AnsweredFrom { address: [127, 0, 0, 1].into(), port: None };
            delete_one_by_one(&mut socket, &all)?;
            assert_eq!(count()?, 1);
            delete_flows(&Flows::AnsweredFrom { address: "::1".parse().unwrap(), port: Some((17, 7001)) })?;
            assert_eq!(count()?, 0);
            // And all of a protocol, of both families.
            udp.send_to(b"x", "127.0.0.1:7001").unwrap();
            udp6.send_to(b"x", "[::1]:7001").unwrap();
            delete_all_of(6)?;
            assert_eq!(count()?, 2);
            delete_all_of(17)?;
            assert_eq!(count()?, 0);
            Ok(())
        })
        .unwrap();
    }

    /// Linux compares IPv6 addresses of a filter the wrong way round (6.18): it would delete all others.
    #[test]
    fn ipv6_entries_of_others_stay() {
        crate::namespace::in_new_netns(|| {
            watch();
            let udp = std::net::UdpSocket::bind("[::1]:0").unwrap();
            for port in [7001, 7002] {
                udp.send_to(b"x", ("::1", port)).unwrap();
            }
            let (here, elsewhere) = ("::1".parse().unwrap(), "fd00::1".parse().unwrap());
            delete_flows(&Flows::AnsweredFrom { address: elsewhere, port: None })?;
            delete_flows(&Flows::AnsweredFrom { address: here, port: Some((17, 7003)) })?;
            let to = |address, port| Flows::FirstSentTo { ipv4: false, address, protocol: 17, port };
            delete_flows(&to(Some(elsewhere), 7001))?;
            delete_flows(&to(None, 7003))?;
            assert_eq!(count()?, 2);
            delete_flows(&to(Some(here), 7001))?;
            assert_eq!(count()?, 1);
            delete_flows(&to(None, 7002))?;
            assert_eq!(count()?, 0);
            udp.send_to(b"x", ("::1", 7001)).unwrap();
            delete_flows(&Flows::AnsweredFrom { address: here, port: None })?;
            assert_eq!(count()?, 0);
            Ok(())
        })
        .unwrap();
    }

    fn to_none() -> Flows {
        Flows::FirstSentTo { ipv4: true, address: None, protocol: 17, port: 9 }
    }

    /// By the kernel's filter where it has one that is right, and by those here.
    #[test]
    fn both_ends_are_compared() {
        crate::namespace::in_new_netns(|| {
            let mut socket = watch();
            let found_first = |socket: &mut Socket, flows: &Flows| {
                let found = find(socket, &[to_none(), *flows])?;
                assert!(found.iter().all(|entry| entry.fits == 1));
                delete_found(socket, &found)
            };
            let deletions: [fn(&mut Socket, &Flows) -> Result<()>; 3] =
                [delete_flows_on, delete_one_by_one, found_first];
            for delete in deletions {
                for (here, other) in [("127.0.0.1", "127.0.0.2"), ("::1", "::2")] {
                    let (here, other): (IpAddr, IpAddr) = (here.parse().unwrap(), other.parse().unwrap());
                    let udp = std::net::UdpSocket::bind((here, 0)).unwrap();
                    for port in [7001, 7002] {
                        udp.send_to(b"x", (here, port)).unwrap();
                    }
                    let sent = |to, port, from| Flows::Sent { to, port, protocol: 17, answered_from: from };
                    let from = |address, port| SocketAddr::new(address, port);
                    for others in [
                        sent(Some(here), 7001, from(here, 7002)),
                        sent(Some(here), 7001, from(other, 7001)),
                        sent(Some(other), 7001, from(here, 7001)),
                        sent(None, 7003, from(here, 7001)),
                        Flows::Sent { to: None, port: 7001, protocol: 6, answered_from: from(here, 7001) },
                    ] {
                        delete(&mut socket, &others)?;
                        assert_eq!(count()?, 2, "{others:?}");
                    }
                    delete(&mut socket, &sent(Some(here), 7001, from(here, 7001)))?;
                    assert_eq!(count()?, 1);
                    delete(&mut socket, &sent(None, 7002, from(here, 7002)))?;
                    assert_eq!(count()?, 0);
                }
            }
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn an_entry_without_a_tuple_is_never_deleted() {
        let flows = Flows::AnsweredFrom { address: [127, 0, 0, 1].into(), port: None };
        for body in [&[][..], &[2, 0, 0, 0], &[2, 0, 0, 0, 8, 0, 12, 0, 1, 2, 3, 4]] {
            let message = Received { kind: NEW, flags: 0, sequence: 0, port: 0, body };
            assert_eq!(read(message, |entry| flows.fits(entry)), None);
        }
    }
}
