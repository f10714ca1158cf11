//! Which nodes are heard on a link. No I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kernel::netlink::Mac;

use crate::wire::heartbeat::Heartbeat;

/// How often a node gives a sign of life.
pub(crate) const BEAT: Duration = Duration::from_millis(150);
/// After such a silence it is taken for gone: three signs in a row may be lost.
pub(crate) const SILENCE: Duration = Duration::from_millis(550);
/// As many addresses of one node are remembered on a link: whoever can send frames there can invent more.
const CARDS: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    started: u64,
    count: u64,
}

/// Those heard on one link, but this node itself, by name and by each address that they have there: two cards of one node may be in the
/// same network.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    heard: BTreeMap<String, BTreeMap<[u8; 6], Heard>>,
}

impl Peers {
    /// Takes a sign of life; whether another node than before lives now, or by another address.
    pub(crate) fn hear(&mut self, beat: &Heartbeat, now: Instant) -> bool {
        let addresses = self.heard.entry(beat.node.clone()).or_default();
        let known = addresses.get(&beat.mac.0).filter(|known| known.at + SILENCE > now);
        let is_new = known.is_none();
        let is_late = known.is_some_and(|known| (known.started, known.count) >= (beat.started, beat.count));
        let has_changed = match (is_late, beat.leaves) {
            (true, _) => false,
            (false, true) => addresses.remove(&beat.mac.0).is_some(),
            (false, false) if is_new && addresses.len() >= CARDS => false,
            (false, false) => {
                addresses.insert(beat.mac.0, Heard { at: now, started: beat.started, count: beat.count });
                is_new
            }
        };
        if addresses.is_empty() {
            self.heard.remove(&beat.node);
        }
        has_changed
    }

    /// Forgets those that were silent for too long; whether there were any.
    pub(crate) fn forget_silent(&mut self, now: Instant) -> bool {
        self.keep(|_, heard| heard.at + SILENCE > now)
    }

    /// Forgets all but those of these names.
    pub(crate) fn keep_only(&mut self, names: &BTreeSet<String>) {
        self.keep(|node, _| names.contains(node));
    }

    fn keep(&mut self, is_kept: impl Fn(&str, &Heard) -> bool) -> bool {
        let count = |all: &BTreeMap<_, BTreeMap<_, _>>| all.values().map(BTreeMap::len).sum::<usize>();
        let before = count(&self.heard);
        self.heard.retain(|node, addresses| {
            addresses.retain(|_, heard| is_kept(node, heard));
            !addresses.is_empty()
        });
        count(&self.heard) != before
    }

    /// When the next one will have been silent for too long.
    pub(crate) fn next_silent(&self) -> Option<Instant> {
        self.heard.values().flat_map(BTreeMap::values).map(|heard| heard.at + SILENCE).min()
    }

    /// The nodes that are there.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.heard.keys().map(String::as_str)
    }

    /// Whether a node is there.
    #[cfg(test)]
    pub(crate) fn has(&self, node: &str) -> bool {
        self.heard.contains_key(node)
    }

    /// Whether it is the address of one of them.
    pub(crate) fn have(&self, mac: Mac) -> bool {
        self.heard.values().any(|addresses| addresses.contains_key(&mac.0))
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
    fn a_node_may_have_several_places_and_lives_in_any() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let other = Mac([2, 0, 0, 0, 0, 9]);
        let there = |count: u64| Heartbeat { mac: other, ..beat("a", 1, count) };
        assert!(peers.hear(&beat("a", 1, 0), now) && peers.hear(&there(0), now));
        assert!(peers.have(other) && peers.have(Mac([2, 0, 0, 0, 0, 1])));
        // One is silent.
        assert!(!peers.hear(&there(1), now + BEAT) && peers.forget_silent(now + SILENCE));
        assert!(peers.has("a") && peers.have(other) && !peers.have(Mac([2, 0, 0, 0, 0, 1])));
        peers.keep_only(&BTreeSet::from(["b".to_owned()]));
        assert!(!peers.has("a") && peers.next_silent().is_none());
    }
}
