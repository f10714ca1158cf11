//! ARP for IPv4 over Ethernet (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use kernel::netlink::Mac;

use super::bytes;

/// All of a link.
pub const EVERYBODY: Mac = Mac([0xff; 6]);
const NOBODY: Mac = Mac([0; 6]);

/// A question for an address, or an answer to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// An answer.
    pub is_reply: bool,
    /// Who sends it, and the address that it says is its own; unspecified in a probe.
    pub sender: (Mac, Ipv4Addr),
    /// Who is asked or told; of a question only the address counts.
    pub target: (Mac, Ipv4Addr),
}

impl Arp {
    /// Asks who has `address`, without saying anything of the asker's own (RFC 5227, 2.1.1).
    #[must_use]
    pub fn probe(from: Mac, address: Ipv4Addr) -> Self {
        Self { is_reply: false, sender: (from, Ipv4Addr::UNSPECIFIED), target: (NOBODY, address) }
    }

    /// Says that `address` is at `from` now, to all who remember another place. Some hear questions alone and some answers, so both kinds
    /// are sent.
    #[must_use]
    pub fn gratuitous(from: Mac, address: Ipv4Addr, is_reply: bool) -> Self {
        let target = if is_reply { EVERYBODY } else { NOBODY };
        Self { is_reply, sender: (from, address), target: (target, address) }
    }

    /// The answer to who asks for an address that is at `from`.
    #[must_use]
    pub fn answer(&self, from: Mac) -> Self {
        Self { is_reply: true, sender: (from, self.target.1), target: self.sender }
    }

    /// Reads a packet; none if it is of other networks than Ethernet and IPv4, or neither question nor answer.
    #[must_use]
    pub fn read(packet: &[u8]) -> Option<Self> {
        // Hardware type, protocol and the lengths of their addresses.
        if bytes(packet, 0)? != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let is_reply = match bytes(packet, 6)? {
            [0, 1] => false,
            [0, 2] => true,
            _ => return None,
        };
        let end = |at| Some((Mac(bytes(packet, at)?), Ipv4Addr::from(bytes::<4>(packet, at + 6)?)));
        Some(Self { is_reply, sender: end(8)?, target: end(18)? })
    }

    /// The packet.
    #[must_use]
    pub fn write(&self) -> [u8; 28] {
        let mut packet = [0; 28];
        packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, if self.is_reply { 2 } else { 1 }]);
        for (at, (mac, address)) in [(8, self.sender), (18, self.target)] {
            packet[at..at + 6].copy_from_slice(&mac.0);
            packet[at + 6..at + 10].copy_from_slice(&address.octets());
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn questions_and_answers_are_those_of_the_rfc() {
        let asks = Arp {
            is_reply: false,
            sender: (B, [192, 0, 2, 9].into()),
            target: (Mac([0; 6]), [192, 0, 2, 7].into()),
        };
        let packet = asks.write();
        assert_eq!(packet[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(packet[8..18], [2, 0, 0, 0, 0, 2, 192, 0, 2, 9]);
        assert_eq!(packet[18..], [0, 0, 0, 0, 0, 0, 192, 0, 2, 7]);
        let answer = Arp::read(&asks.answer(A).write()).unwrap();
        assert_eq!(answer.sender, (A, [192, 0, 2, 7].into()));
        assert_eq!(answer.target, (B, [192, 0, 2, 9].into()));
        assert!(answer.is_reply);
    }

    #[test]
    fn what_is_something_else_or_short_is_none() {
        let packet = Arp::probe(A, [192, 0, 2, 7].into()).write();
        assert!((0..28).all(|length| Arp::read(&packet[..length]).is_none()));
        // Ethernet pads frames.
        let padded = [packet.as_slice(), &[0; 18]].concat();
        assert_eq!(Arp::read(&padded), Some(Arp::probe(A, [192, 0, 2, 7].into())));
        for (at, byte) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (6, 1)] {
            let mut other = packet;
            other[at] = byte;
            assert_eq!(Arp::read(&other), None, "byte {at}");
        }
    }
}
