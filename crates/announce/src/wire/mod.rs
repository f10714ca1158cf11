//! What goes over a link: questions for addresses and answers, and the sign of life of a node. No I/O.

pub mod arp;
pub mod heartbeat;
pub mod neighbour;

/// The bytes from `at` on, as many as `N`.
fn bytes<const N: usize>(packet: &[u8], at: usize) -> Option<[u8; N]> {
    packet.get(at..)?.first_chunk().copied()
}
