//! UDP over IPv4, for a client that has no address the kernel could send from.

use std::net::Ipv4Addr;

pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;
const UDP: u8 = 17;
const HEADERS: usize = 28;

/// A datagram from the client's port to the server's, with its headers.
pub(super) fn wrap(from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(HEADERS + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = vec![0x45, 0x10, 0, 0, 0, 0, 0, 0, 64, UDP, 0, 0];
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    let checksum = !sum(&bytes, 0);
    bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
    let udp = length.saturating_sub(20);
    for field in [CLIENT_PORT, SERVER_PORT, udp, 0] {
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

/// The payload of a datagram from a server's port to the client's; none if it is something else or malformed.
///
/// The UDP checksum is not looked at: over a virtual cable the sender's kernel leaves it to a card that is not there.
pub(super) fn unwrap(packet: &[u8]) -> Option<&[u8]> {
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
    (ports == (SERVER_PORT, CLIENT_PORT)).then_some(payload)
}

/// The Internet checksum before its complement.
fn sum(bytes: &[u8], start: u32) -> u16 {
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
    use proptest::prelude::*;

    use super::*;

    fn turned(payload: &[u8]) -> Vec<u8> {
        let mut bytes = wrap([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), payload);
        bytes[20..24].copy_from_slice(&[0, 67, 0, 68]);
        bytes
    }

    #[test]
    fn checksums_are_right() {
        for payload in [&b"even"[..], b"odd", b""] {
            let bytes = wrap([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), payload);
            assert_eq!(sum(&bytes[..20], 0), u16::MAX);
            assert_eq!(sum(&bytes[12..], 17 + 8 + payload.len() as u32), u16::MAX);
            assert_eq!(unwrap(&bytes), None, "it is for the server");
            assert_eq!(unwrap(&turned(payload)), Some(payload));
        }
    }

    #[test]
    fn what_is_malformed_is_none() {
        let good = turned(b"payload");
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
