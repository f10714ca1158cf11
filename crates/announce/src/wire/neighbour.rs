//! Neighbour discovery for IPv6 (RFC 4861): solicitations and advertisements.

use std::net::Ipv6Addr;

use kernel::netlink::Mac;
use kernel::packet::datagram;

use super::bytes;

/// All nodes of a link.
pub const EVERYBODY: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const HEADER: usize = 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// What has come through a router has less (RFC 4861, 7.1): nobody from elsewhere may say anything of this link.
const HOP_LIMIT: u8 = 255;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;

/// A question for an address, or what somebody says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Asks who has `target`. From the unspecified address: somebody wants it for itself (RFC 4862, 5.4).
    Solicitation {
        /// Who asks.
        from: Ipv6Addr,
        /// For which address.
        target: Ipv6Addr,
        /// Where who asks is, if it says so.
        mac: Option<Mac>,
    },
    /// Says that `target` is here.
    Advertisement {
        /// Who says so: an address of who has it, or that address itself.
        from: Ipv6Addr,
        /// Who is told.
        to: Ipv6Addr,
        /// Of which address.
        target: Ipv6Addr,
        /// Where it is, if that is said.
        mac: Option<Mac>,
        /// It is the answer to a question.
        is_answer: bool,
    },
}

/// The group in which questions for an address are asked (RFC 4291, 2.7.1).
#[must_use]
pub fn solicited(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// Where a link sends what is for a group (RFC 2464, 7).
#[must_use]
pub fn multicast(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

impl Neighbour {
    /// Asks who has `target`, without saying anything of the asker's own.
    #[must_use]
    pub fn probe(target: Ipv6Addr) -> Self {
        Self::Solicitation { from: Ipv6Addr::UNSPECIFIED, target, mac: None }
    }

    /// Says that `target` is at `mac` now, to all who remember another place.
    #[must_use]
    pub fn unsolicited(target: Ipv6Addr, mac: Mac) -> Self {
        Self::Advertisement { from: target, to: EVERYBODY, target, mac: Some(mac), is_answer: false }
    }

    /// The answer to who asks for an address that is at `mac`; who wants it for itself is told with all others.
    #[must_use]
    pub fn answer(asker: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Self {
        let is_answer = !asker.is_unspecified();
        let to = if is_answer { asker } else { EVERYBODY };
        Self::Advertisement { from: target, to, target, mac: Some(mac), is_answer }
    }

    /// Reads a packet with its IP header; none if it is something else, was altered on its way, or came from another link.
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        let [version, _, _, _, length @ .., next, hops] = bytes::<8>(packet, 0)?;
        let (from, to) = (Ipv6Addr::from(bytes::<16>(packet, 8)?), Ipv6Addr::from(bytes::<16>(packet, 24)?));
        if version >> 4 != 6 || next != ICMPV6 || hops != HOP_LIMIT {
            return None;
        }
        let body = packet.get(HEADER..)?.get(..usize::from(u16::from_be_bytes(length)))?;
        if checksum(from, to, body) != 0 {
            return None;
        }
        let ([kind, 0, ..], target) = (bytes::<8>(body, 0)?, Ipv6Addr::from(bytes::<16>(body, 8)?)) else {
            return None;
        };
        if target.is_multicast() {
            return None;
        }
        let options = body.get(24..)?;
        match kind {
            SOLICITATION => {
                let mac = option(options, SOURCE_ADDRESS)?;
                // RFC 4861, 7.1.1: who has no address yet names no place.
                (!(from.is_unspecified() && mac.is_some())).then_some(Self::Solicitation {
                    from,
                    target,
                    mac,
                })
            }
            ADVERTISEMENT => {
                let is_answer = *body.get(4)? & SOLICITED != 0;
                let mac = option(options, TARGET_ADDRESS)?;
                Some(Self::Advertisement { from, to, target, mac, is_answer })
            }
            _ => None,
        }
    }

    /// The packet, with its IP header, and where on the link it goes if that is a group.
    #[must_use]
    pub fn write(&self) -> (Vec<u8>, Option<Mac>) {
        let (from, to, target, mac) = match *self {
            Self::Solicitation { from, target, mac } => (from, solicited(target), target, mac),
            Self::Advertisement { from, to, target, mac, .. } => (from, to, target, mac),
        };
        let (kind, flags, option) = match self {
            Self::Solicitation { .. } => (SOLICITATION, 0, SOURCE_ADDRESS),
            Self::Advertisement { is_answer: true, .. } => {
                (ADVERTISEMENT, SOLICITED | OVERRIDE, TARGET_ADDRESS)
            }
            Self::Advertisement { .. } => (ADVERTISEMENT, OVERRIDE, TARGET_ADDRESS),
        };
        let mut body = vec![kind, 0, 0, 0, flags, 0, 0, 0];
        body.extend(target.octets());
        if let Some(Mac(mac)) = mac {
            body.extend([option, 1]);
            body.extend(mac);
        }
        let sum = checksum(from, to, &body).to_be_bytes();
        body[2..4].copy_from_slice(&sum);
        let mut packet = vec![0x60, 0, 0, 0, 0, body.len() as u8, ICMPV6, HOP_LIMIT];
        packet.extend(from.octets());
        packet.extend(to.octets());
        packet.extend(body);
        (packet, to.is_multicast().then(|| multicast(to)))
    }
}

/// The link-layer address among options; none at all if they are malformed (RFC 4861, 4.6: a length of zero).
#[allow(clippy::option_option, reason = "malformed, absent and present are three things")]
fn option(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    while let [kind, length, rest @ ..] = options {
        let length = usize::from(*length) * 8;
        let value = rest.get(..length.checked_sub(2)?)?;
        if *kind == wanted && length == 8 {
            return Some(Some(Mac(*value.first_chunk()?)));
        }
        options = options.get(length..)?;
    }
    options.is_empty().then_some(None)
}

/// Of ICMPv6, with the header that RFC 8200, 8.1 has for it; zero for a body that has the right one.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, body: &[u8]) -> u16 {
    let pseudo = datagram::sum(&[from.octets(), to.octets()].concat(), body.len() as u32 + u32::from(ICMPV6));
    !datagram::sum(body, u32::from(pseudo))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn at(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let asks = Neighbour::Solicitation { from: at("fe80::1"), target: at("2001:db8::7"), mac: Some(A) };
        for one in [
            asks,
            Neighbour::probe(at("2001:db8::7")),
            Neighbour::unsolicited(at("2001:db8::7"), A),
            Neighbour::answer(at("fe80::1"), at("2001:db8::7"), A),
            Neighbour::answer(Ipv6Addr::UNSPECIFIED, at("2001:db8::7"), A),
        ] {
            let (packet, _) = one.write();
            assert_eq!(Neighbour::read(&packet), Some(one));
            assert!((0..packet.len()).all(|length| Neighbour::read(&packet[..length]).is_none()));
            for changed in 4..packet.len() {
                let mut other = packet.clone();
                other[changed] ^= 1;
                assert_eq!(Neighbour::read(&other), None, "byte {changed} of {one:?}");
            }
        }
    }

    #[test]
    fn groups_are_those_of_the_rfcs() {
        let group = solicited(at("2001:db8::a1b2:c3d4"));
        assert_eq!(
            (group, multicast(group)),
            (at("ff02::1:ffb2:c3d4"), Mac([0x33, 0x33, 0xff, 0xb2, 0xc3, 0xd4]))
        );
        assert_eq!(
            Neighbour::unsolicited(at("2001:db8::7"), A).write().1,
            Some(Mac([0x33, 0x33, 0, 0, 0, 1]))
        );
        assert_eq!(Neighbour::answer(at("fe80::1"), at("2001:db8::7"), A).write().1, None);
    }

    #[test]
    fn malformed_options_are_refused_and_unknown_ones_passed_over() {
        let mut nonce = vec![14, 1, 1, 2, 3, 4, 5, 6];
        assert_eq!(option(&nonce, SOURCE_ADDRESS), Some(None));
        nonce.extend([1, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(option(&nonce, SOURCE_ADDRESS), Some(Some(A)));
        assert_eq!(option(&nonce[..15], SOURCE_ADDRESS), None);
        assert_eq!(option(&[1, 0, 0, 0, 0, 0, 0, 0], SOURCE_ADDRESS), None);
        assert_eq!(option(&[1], SOURCE_ADDRESS), None);
    }
}
