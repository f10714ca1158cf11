//! DHCP messages (RFC 2131, options of RFC 2132): strict reading, and writing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use kernel::netlink::Mac;

/// What a message is for (option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are RFC 2131's words")]
pub(super) enum Kind {
    Discover = 1,
    Offer,
    Request,
    Decline,
    Ack,
    Nak,
    Release,
    Inform,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        use Kind::{Ack, Decline, Discover, Inform, Nak, Offer, Release, Request};
        [Discover, Offer, Request, Decline, Ack, Nak, Release, Inform].into_iter().find(|k| *k as u8 == byte)
    }
}

/// Option codes.
pub(super) mod option {
    pub(in super::super) const SUBNET_MASK: u8 = 1;
    pub(in super::super) const ROUTER: u8 = 3;
    pub(in super::super) const DNS: u8 = 6;
    pub(in super::super) const HOST_NAME: u8 = 12;
    pub(in super::super) const DOMAIN: u8 = 15;
    pub(in super::super) const STATIC_ROUTES: u8 = 33;
    pub(in super::super) const REQUESTED_ADDRESS: u8 = 50;
    pub(in super::super) const LEASE_TIME: u8 = 51;
    pub(in super::super) const OVERLOAD: u8 = 52;
    pub(in super::super) const KIND: u8 = 53;
    pub(in super::super) const SERVER: u8 = 54;
    pub(in super::super) const PARAMETERS: u8 = 55;
    pub(in super::super) const MAX_SIZE: u8 = 57;
    pub(in super::super) const RENEWAL_TIME: u8 = 58;
    pub(in super::super) const REBINDING_TIME: u8 = 59;
    pub(in super::super) const VENDOR_CLASS: u8 = 60;
    pub(in super::super) const CLIENT_ID: u8 = 61;
    pub(in super::super) const USER_CLASS: u8 = 77;
    pub(in super::super) const DOMAIN_SEARCH: u8 = 119;
    pub(in super::super) const CLASSLESS_ROUTES: u8 = 121;
}

/// Options by code. An option that is given in several parts is one (RFC 3396).
pub(super) type Options = BTreeMap<u8, Vec<u8>>;

/// A message for or of a client on Ethernet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// From a server, not to one.
    pub(super) reply: bool,
    pub(super) xid: u32,
    /// Seconds since the client began.
    pub(super) seconds: u16,
    /// The server shall broadcast its answer.
    pub(super) broadcast: bool,
    /// The client's address, which it can answer for already.
    pub(super) client: Ipv4Addr,
    /// "Your" address: the one that is given.
    pub(super) yours: Ipv4Addr,
    /// The relay that the message came by.
    pub(super) relay: Ipv4Addr,
    pub(super) mac: Mac,
    /// All but the kind.
    pub(super) options: Options,
}

const FIXED: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// BOOTP's smallest message; some relays drop smaller ones.
const LEAST: usize = 300;

impl Message {
    /// Reads what came in a datagram; none if it is no DHCP message for a client on Ethernet, or is malformed.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_at_checked(FIXED)?;
        let options = rest.strip_prefix(&COOKIE)?;
        let [op, htype, hlen, _, x0, x1, x2, x3, s0, s1, f0, _, ..] = *fixed else { return None };
        if !matches!(op, 1 | 2) || (htype, hlen) != (1, 6) {
            return None;
        }
        let mut found = Options::new();
        read_options(options, &mut found)?;
        // The fields for names may hold more options: the file first (RFC 2131, section 4.1).
        if let Some(overload) = found.remove(&option::OVERLOAD) {
            let &[overload @ 1..=3] = overload.as_slice() else { return None };
            for (bit, field) in [(1, FILE), (2, SNAME)] {
                if overload & bit != 0 {
                    read_options(fixed.get(field)?, &mut found)?;
                }
            }
        }
        let &[kind] = found.remove(&option::KIND)?.as_slice() else { return None };
        let address = |at: usize| Some(Ipv4Addr::from(*fixed.get(at..)?.first_chunk::<4>()?));
        Some(Self {
            kind: Kind::of(kind)?,
            reply: op == 2,
            xid: u32::from_be_bytes([x0, x1, x2, x3]),
            seconds: u16::from_be_bytes([s0, s1]),
            broadcast: f0 & 0x80 != 0,
            client: address(12)?,
            yours: address(16)?,
            relay: address(24)?,
            mac: Mac(*fixed.get(28..)?.first_chunk::<6>()?),
            options: found,
        })
    }

    /// Writes it.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        bytes[..4].copy_from_slice(&[if self.reply { 2 } else { 1 }, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        bytes[10] = if self.broadcast { 0x80 } else { 0 };
        bytes[12..16].copy_from_slice(&self.client.octets());
        bytes[16..20].copy_from_slice(&self.yours.octets());
        bytes[24..28].copy_from_slice(&self.relay.octets());
        bytes[28..34].copy_from_slice(&self.mac.0);
        bytes.extend(COOKIE);
        bytes.extend([option::KIND, 1, self.kind as u8]);
        for (code, value) in &self.options {
            // An empty value is one part too.
            let parts = value.chunks(255).chain(value.is_empty().then_some(&[][..]));
            for part in parts {
                bytes.extend([*code, part.len() as u8]);
                bytes.extend(part);
            }
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(LEAST), 0);
        bytes
    }

    /// An option of addresses: one or more.
    pub(super) fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let value = self.options.get(&code).map(Vec::as_slice).unwrap_or_default();
        value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)).collect()
    }

    /// An option that is a number of seconds.
    pub(super) fn seconds_of(&self, code: u8) -> Option<u32> {
        let value = self.options.get(&code)?;
        Some(u32::from_be_bytes(value.as_slice().try_into().ok()?))
    }

    /// An option that is text; servers end it with a NUL or not.
    pub(super) fn text(&self, code: u8) -> Option<String> {
        let value = self.options.get(&code)?;
        let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
        (!text.is_empty() && text.chars().all(|c| c.is_ascii_graphic())).then(|| text.to_owned())
    }
}

const PAD: u8 = 0;
const END: u8 = 255;

fn read_options(mut bytes: &[u8], found: &mut Options) -> Option<()> {
    loop {
        match *bytes {
            [] | [END, ..] => return Some(()),
            [PAD, ref rest @ ..] => bytes = rest,
            [code, length, ref rest @ ..] => {
                let (value, rest) = rest.split_at_checked(usize::from(length))?;
                found.entry(code).or_default().extend(value);
                bytes = rest;
            }
            [_] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn sample() -> Message {
        Message {
            kind: Kind::Ack,
            reply: true,
            xid: 0x0102_0304,
            seconds: 7,
            broadcast: true,
            client: [10, 0, 0, 1].into(),
            yours: [10, 0, 0, 2].into(),
            relay: [10, 0, 0, 3].into(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            options: Options::from([
                (option::LEASE_TIME, vec![0, 0, 0, 60]),
                (option::ROUTER, vec![10, 0, 0, 9, 10, 0, 0, 8]),
            ]),
        }
    }

    #[test]
    fn options_may_be_in_the_fields_for_names_and_in_parts() {
        let mut bytes = sample().to_bytes();
        bytes[108..116].copy_from_slice(&[6, 4, 10, 0, 0, 53, END, 0]);
        bytes[44..50].copy_from_slice(&[6, 4, 10, 0, 0, 54]);
        assert!(!Message::parse(&bytes).unwrap().options.contains_key(&option::DNS));
        bytes.splice(240..240, [option::OVERLOAD, 1, 3]);
        let read = Message::parse(&bytes).unwrap();
        assert_eq!(read.addresses(option::DNS), [Ipv4Addr::new(10, 0, 0, 53), Ipv4Addr::new(10, 0, 0, 54)]);
        bytes[242] = 4;
        assert!(Message::parse(&bytes).is_none());
    }

    #[test]
    fn malformed_messages_are_none() {
        let good = sample().to_bytes();
        assert_eq!(Message::parse(&good), Some(sample()));
        for (at, byte) in [(0, 3), (1, 6), (2, 16), (236, 0), (240, 54), (241, 2), (242, 9), (244, 200)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Message::parse(&bad), None, "{at}");
        }
        for length in [0, 1, 235, 239, 241, 242] {
            assert_eq!(Message::parse(&good[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            options in proptest::collection::btree_map(1u8..255, proptest::collection::vec(any::<u8>(), 0..600), 0..5),
            xid in any::<u32>(),
        ) {
            let mut message = Message { xid, ..sample() };
            message.options.extend(options.into_iter().filter(|(code, _)| ![option::KIND, option::OVERLOAD].contains(code)));
            prop_assert_eq!(Message::parse(&message.to_bytes()), Some(message));
        }
    }
}
