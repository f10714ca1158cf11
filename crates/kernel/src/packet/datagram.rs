//! UDP over IPv4 with its headers, for who has no address that the kernel could send from, or is to be told by which link something came.

use std::net::SocketAddrV4;

const UDP: u8 = 17;
const HEADERS: usize = 28;

/// The whole packet of a datagram.
#[must_use]
pub fn wrap(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADERS + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    let checksum = !sum(&bytes, 0);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    let udp = length.saturating_sub(20);
    for field in [from.port(), to.port(), udp, 0] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(payload);
    let pseudo = u32::from(UDP) + u32::from(udp);
    let addresses = bytes.get(12..).unwrap_or_default();
    // Zero would say that there is no checksum.
    let checksum = match !sum(addresses, pseudo) {
        0 => u16::MAX,
        sum => sum,
    };
    bytes[26..28].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The payload of a datagram from one port to another; none if it is something else or malformed.
///
/// The UDP checksum is not looked at: over a virtual cable the sender's kernel leaves it to a card that is not there.
#[must_use]
pub fn unwrap(packet: &[u8], from: u16, to: u16) -> Option<&[u8]> {
    let (&first, _) = packet.split_first()?;
    let header = usize::from(first & 15) * 4;
    let length = usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?));
    let (header, rest) = packet.get(..length)?.split_at_checked(header)?;
    let fragment = u16::from_be_bytes(*header.get(6..)?.first_chunk()?) & 0x3fff;
    if first >> 4 != 4 || header.len() < 20 || sum(header, 0) != u16::MAX || header[9] != UDP || fragment != 0
    {
        return None;
    }
    let (&[s0, s1, d0, d1, l0, l1, _, _], _) = rest.split_first_chunk::<8>()?;
    let ports = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    let payload = rest.get(8..usize::from(u16::from_be_bytes([l0, l1])))?;
    (ports == (from, to)).then_some(payload)
}

/// The Internet checksum before its complement (RFC 1071), from `start` on.
#[must_use]
pub fn sum(bytes: &[u8], start: u32) -> u16 {
    let (pairs, odd) = bytes.as_chunks::<2>();
    let pairs = pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair)));
    let odd = odd.first().map_or(0, |byte| u32::from(*byte) << 8);
    let mut sum = start + odd + pairs.sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::{SocketAddrV4, sum, wrap};

    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 68);
    const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 67);

    fn answer(payload: &[u8]) -> Vec<u8> {
        wrap(SERVER, CLIENT, payload)
    }

    fn unwrap(packet: &[u8]) -> Option<&[u8]> {
        super::unwrap(packet, 67, 68)
    }

    #[test]
    fn checksums_are_right() {
        for payload in [&b"even"[..], b"odd", b""] {
            let bytes = wrap(CLIENT, SERVER, payload);
            assert_eq!(sum(&bytes[..20], 0), u16::MAX);
            assert_eq!(sum(&bytes[12..], 17 + 8 + payload.len() as u32), u16::MAX);
            assert_eq!(unwrap(&bytes), None, "it is for the server");
            assert_eq!(unwrap(&answer(payload)), Some(payload));
        }
    }

    #[test]
    fn what_is_malformed_is_none() {
        let good = answer(b"payload");
        for (at, byte) in
            [(0, 0x65), (0, 0x4f), (0, 0x44), (2, 1), (3, 7), (6, 0x20), (9, 6), (11, 0), (25, 90), (23, 67)]
        {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(unwrap(&bad), None, "{at}");
        }
        // What Ethernet pads a short frame with is no payload.
        assert_eq!(unwrap(&[&good[..], &[0; 9]].concat()), Some(&b"payload"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = unwrap(&bytes);
        }
    }
}
