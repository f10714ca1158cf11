//! Which nodes are heard on a link. No I/O, no clock.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kernel::netlink::Mac;

use crate::wire::heartbeat::Heartbeat;

/// How often a node gives a sign of life.
pub(crate) const BEAT: Duration = Duration::from_millis(150);
/// After such a silence it is taken for gone: three signs in a row may be lost.
pub(crate) const SILENCE: Duration = Duration::from_millis(550);
/// As many nodes are remembered on one link; a link has room for no more signs of life than that.
const MOST: usize = 4096;

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    started: u64,
    count: u64,
    mac: Mac,
}

/// Those heard on one link, but this node itself.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    heard: BTreeMap<String, Heard>,
}

impl Peers {
    /// Takes a sign of life; whether another node than before lives now, or by another address.
    pub(crate) fn hear(&mut self, beat: &Heartbeat, now: Instant) -> bool {
        let known = self.heard.get(&beat.node).filter(|known| known.at + SILENCE > now).copied();
        if known.is_some_and(|known| (known.started, known.count) >= (beat.started, beat.count)) {
            return false;
        }
        if beat.leaves {
            return self.heard.remove(&beat.node).is_some();
        }
        if known.is_none() && self.heard.len() >= MOST {
            return false;
        }
        let heard = Heard { at: now, started: beat.started, count: beat.count, mac: beat.mac };
        self.heard.insert(beat.node.clone(), heard);
        known.is_none_or(|known| known.mac != beat.mac)
    }

    /// Forgets those that were silent for too long; whether there were any.
    pub(crate) fn forget_silent(&mut self, now: Instant) -> bool {
        let before = self.heard.len();
        self.heard.retain(|_, heard| heard.at + SILENCE > now);
        self.heard.len() != before
    }

    /// When the next one will have been silent for too long.
    pub(crate) fn next_silent(&self) -> Option<Instant> {
        self.heard.values().map(|heard| heard.at + SILENCE).min()
    }

    /// Whether a node is there.
    pub(crate) fn has(&self, node: &str) -> bool {
        self.heard.contains_key(node)
    }

    /// Whether it is the address of one of them.
    pub(crate) fn have(&self, mac: Mac) -> bool {
        self.heard.values().any(|heard| heard.mac == mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(node: &str, started: u64, count: u64) -> Heartbeat {
        Heartbeat {
            cluster: [0; 16],
            started,
            count,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            node: node.into(),
            leaves: false,
        }
    }

    #[test]
    fn a_node_lives_until_it_is_silent_or_leaves() {
        let (mut peers, begun) = (Peers::default(), Instant::now());
        assert!(peers.hear(&beat("a", 1, 0), begun));
        assert!(!peers.hear(&beat("a", 1, 1), begun + BEAT));
        assert!(!peers.forget_silent(begun + SILENCE) && peers.has("a"));
        assert_eq!(peers.next_silent(), Some(begun + BEAT + SILENCE));
        assert!(peers.forget_silent(begun + BEAT + SILENCE) && !peers.has("a"));
        assert!(peers.hear(&beat("a", 1, 2), begun + SILENCE * 2));
        let leaves = Heartbeat { leaves: true, ..beat("a", 1, 3) };
        assert!(peers.hear(&leaves, begun + SILENCE * 2) && !peers.has("a"));
        assert!(!peers.hear(&leaves, begun + SILENCE * 2));
    }

    #[test]
    fn what_comes_late_or_twice_says_nothing_while_the_node_lives() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        peers.hear(&beat("a", 5, 7), now);
        for (started, count) in [(5, 7), (5, 6), (4, 9)] {
            let leaves = Heartbeat { leaves: true, ..beat("a", started, count) };
            assert!(!peers.hear(&leaves, now) && peers.has("a"), "{started} {count}");
        }
        // A new process counts anew; and one whose clock went back is heard once the old one is forgotten.
        assert!(!peers.hear(&beat("a", 6, 0), now) && peers.has("a"));
        assert!(peers.hear(&beat("a", 1, 0), now + SILENCE));
    }

    #[test]
    fn another_place_is_a_change() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        peers.hear(&beat("a", 1, 0), now);
        let moved = Heartbeat { mac: Mac([2, 0, 0, 0, 0, 9]), ..beat("a", 1, 1) };
        assert!(peers.hear(&moved, now));
        assert!(peers.have(Mac([2, 0, 0, 0, 0, 9])) && !peers.have(Mac([2, 0, 0, 0, 0, 1])));
    }
}
