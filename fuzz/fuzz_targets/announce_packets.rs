//! Any bytes as what comes by a link: no panic, and what is read is written and read the same.

use announce::wire::arp::Arp;
use announce::wire::heartbeat::Heartbeat;
use announce::wire::neighbour::Neighbour;
use kernel::packet::datagram;

pub fn run(bytes: &[u8]) {
    if let Some(arp) = Arp::read(bytes) {
        assert_eq!(Arp::read(&arp.write()), Some(arp));
    }
    if let Some(beat) = Heartbeat::read(datagram::unwrap(bytes, 7455, 7455).unwrap_or(bytes)) {
        assert_eq!(Heartbeat::read(&beat.write()), Some(beat));
    }
    if let Some(neighbour) = Neighbour::read(bytes) {
        let (packet, _) = neighbour.write();
        // A question goes where questions for its target go, wherever this one went.
        assert_eq!(Neighbour::read(&packet), Some(neighbour));
    }
}
