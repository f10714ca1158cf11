//! What becomes of each address on each link: who has it, when that is said, and what to do if somebody else says so, too. No I/O, no
//! clock: it is told what time it is and what was heard, and says what to send.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::netlink::Mac;

use crate::owner::owner;
use crate::pace::Pace;
use crate::peers::{Peers, SILENCE};
use crate::wire::heartbeat::Heartbeat;
use crate::{Said, Wanted};

/// How long somebody else has to say that an address is in use, before this node says that it is here. A host on the same link answers
/// within a millisecond or two; who does so later is found out, too.
pub(crate) const PROBE: Duration = Duration::from_millis(20);
/// When it is said, from the first time on: a link that has just come up, or a switch that learns, may lose some.
const REPEATS: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_secs(1), Duration::from_secs(3)];
/// An address that somebody else has is asked for again after that.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);
/// Who says within that time for the second time that an address is theirs is left it (RFC 5227, 2.4, `DEFEND_INTERVAL`).
const DEFENCE: Duration = Duration::from_secs(10);
/// What somebody says within that time is one saying: it comes as a question and as an answer, and again where the first may be lost.
const SAYING: Duration = Duration::from_secs(1);
/// What this node has is said anew no more often than that, however many nodes come and go.
const REPEATED: Duration = Duration::from_secs(1);
/// When it is asked again who has an address, if the question could not be sent.
const UNASKED: Duration = Duration::from_secs(1);

/// What is to be done on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Ask who has the address; its group of solicitations is to be heard from now on.
    Probe(u32, IpAddr),
    /// Say that it is here.
    Tell(u32, IpAddr),
    /// Hear its group no more.
    Leave(u32, IpAddr),
    /// Let the caller know.
    Say(Said),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not asked for yet: it could not be.
    Unasked { again: Instant },
    /// Asked for, and not answered for yet.
    Probing { until: Instant },
    /// Here: said so many times, and to be said again then. Who was contradicted last, and when.
    Held { told: usize, next: Option<Instant>, defended: Option<(Instant, Mac)> },
    /// Somebody else has it.
    Contested { by: Mac, again: Instant },
}

/// A link on which this node takes part.
#[derive(Debug)]
struct Place {
    name: String,
    mac: Mac,
    /// Since when it is listened to: before anybody can have been heard nobody is known to be gone.
    since: Instant,
    is_known: bool,
    peers: Peers,
    /// When all that is held here was last said anew.
    repeated: Option<Instant>,
}

/// All that this node claims.
#[derive(Debug)]
pub(crate) struct Claims {
    node: String,
    places: BTreeMap<u32, Place>,
    wanted: Arc<Wanted>,
    /// On which links an address belongs.
    homes: BTreeMap<IpAddr, Vec<u32>>,
    claims: BTreeMap<(u32, IpAddr), State>,
    pace: Pace,
}

impl Claims {
    pub(crate) fn new(node: String) -> Self {
        Self {
            node,
            places: BTreeMap::new(),
            wanted: Arc::default(),
            homes: BTreeMap::new(),
            claims: BTreeMap::new(),
            pace: Pace::default(),
        }
    }

    /// Takes the links there are now (number, name, address); those that were there before keep what was heard on them, and what is
    /// claimed there. What was claimed on others is not here any more.
    pub(crate) fn set_links(&mut self, links: &[(u32, String, Mac)], now: Instant) -> Vec<Act> {
        let is_there = |index: &u32, place: &Place| {
            links.iter().any(|(other, name, mac)| other == index && *name == place.name && *mac == place.mac)
        };
        let gone: BTreeSet<u32> = self
            .places
            .iter()
            .filter(|(index, place)| !is_there(index, place))
            .map(|(index, _)| *index)
            .collect();
        let lost: Vec<_> = self.claims.keys().filter(|(link, _)| gone.contains(link)).copied().collect();
        let acts = lost.into_iter().flat_map(|(link, address)| self.let_go(link, address)).collect();
        self.places.retain(|index, _| !gone.contains(index));
        for (index, name, mac) in links {
            self.places.entry(*index).or_insert_with(|| Place {
                name: name.clone(),
                mac: *mac,
                since: now,
                is_known: false,
                peers: Peers::default(),
                repeated: None,
            });
        }
        acts
    }

    /// Takes what is wanted, and on which links each address belongs.
    pub(crate) fn set_wanted(&mut self, wanted: Arc<Wanted>, homes: BTreeMap<IpAddr, Vec<u32>>) {
        (self.wanted, self.homes) = (wanted, homes);
        // Any host of the link can say that it is a node of any name: only those of the cluster count.
        self.places.values_mut().for_each(|place| place.peers.keep_only(&self.wanted.nodes));
    }

    /// Takes a sign of life that came by a link; whether that changes who lives.
    pub(crate) fn hear(&mut self, link: u32, beat: &Heartbeat, now: Instant) -> bool {
        let is_other = beat.node != self.node && self.wanted.nodes.contains(&beat.node);
        is_other && self.places.get_mut(&link).is_some_and(|place| place.peers.hear(beat, now))
    }

    /// This node has the address on the link and says so: questions for it are to be answered.
    pub(crate) fn answers(&self, link: u32, address: IpAddr) -> bool {
        matches!(self.claims.get(&(link, address)), Some(State::Held { .. }))
    }

    /// Whether other nodes are there to be heard.
    pub(crate) fn is_alone(&self) -> bool {
        self.wanted.nodes.iter().all(|node| *node == self.node)
    }

    /// Brings claims in line with what is wanted and who lives.
    pub(crate) fn settle(&mut self, now: Instant) -> Vec<Act> {
        let mut mine = BTreeSet::new();
        for (address, links) in &self.homes {
            let Some(claim) = self.wanted.addresses.get(address) else { continue };
            for link in links {
                let Some(place) = self.places.get(link) else { continue };
                let listened = self.is_alone() || place.is_known;
                // Of those that are heard, which are few: a claim may have thousands.
                let may_have = |node: &&str| claim.nodes.contains(*node);
                let living = place.peers.names().chain([self.node.as_str()]).filter(may_have);
                if listened && owner(*address, living) == Some(self.node.as_str()) {
                    mine.insert((*link, *address));
                }
            }
        }
        let mut acts = Vec::new();
        let gone: Vec<_> = self.claims.keys().filter(|key| !mine.contains(key)).copied().collect();
        for (link, address) in gone {
            acts.extend(self.let_go(link, address));
        }
        for (link, address) in mine {
            let state = self.claims.get(&(link, address)).copied();
            // It was a node of ours that has the address, which had not been heard then, and gives way now.
            let is_free = match state {
                Some(State::Contested { by, .. }) => self.is_ours(link, by),
                state => state.is_none(),
            };
            if is_free && self.pace.affords(now) {
                self.claims.insert((link, address), State::Probing { until: now + PROBE });
                acts.push(Act::Probe(link, address));
            } else if is_free {
                self.claims.insert((link, address), State::Unasked { again: now });
            }
        }
        acts
    }

    fn let_go(&mut self, link: u32, address: IpAddr) -> Vec<Act> {
        let state = self.claims.remove(&(link, address));
        let mut acts = vec![Act::Leave(link, address)];
        if matches!(state, Some(State::Held { .. })) {
            acts.push(Act::Say(Said::Withdrawn { address, link: self.name_of(link) }));
        }
        acts
    }

    /// Somebody said by `link` that `address` is at `mac`.
    pub(crate) fn said(&mut self, link: u32, address: IpAddr, mac: Mac, now: Instant) -> Vec<Act> {
        // Another node of ours that has not heard yet that it is not its any more: heartbeats decide that.
        let is_ours = self.is_ours(link, mac);
        let name = self.name_of(link);
        let Some(state) = self.claims.get_mut(&(link, address)).filter(|_| !is_ours) else {
            return Vec::new();
        };
        match *state {
            State::Held { defended: Some((at, by)), .. } if by == mac && at + SAYING > now => Vec::new(),
            State::Held { told, next, defended } if defended.is_none_or(|(at, _)| at + DEFENCE <= now) => {
                *state = State::Held { told, next, defended: Some((now, mac)) };
                vec![Act::Tell(link, address), Act::Say(Said::Defended { address, link: name, mac })]
            }
            State::Unasked { .. } | State::Probing { .. } | State::Held { .. } => {
                *state = State::Contested { by: mac, again: now + AGAIN };
                vec![Act::Say(Said::Contested { address, link: name, mac })]
            }
            State::Contested { .. } => {
                *state = State::Contested { by: mac, again: now + AGAIN };
                Vec::new()
            }
        }
    }

    /// Does what is due by now.
    pub(crate) fn wake(&mut self, now: Instant) -> Vec<Act> {
        let mut has_changed = false;
        for place in self.places.values_mut() {
            has_changed |= place.peers.forget_silent(now);
            if !place.is_known && place.since + SILENCE <= now {
                (place.is_known, has_changed) = (true, true);
            }
        }
        let mut acts = if has_changed { self.settle(now) } else { Vec::new() };
        // What nobody answers for yet comes before what is said again.
        self.claim_due(now, &mut acts);
        self.repeat_due(now, &mut acts);
        acts
    }

    /// Asks for what is to be asked for, and takes what nobody had.
    fn claim_due(&mut self, now: Instant, acts: &mut Vec<Act>) {
        for ((link, address), state) in &mut self.claims {
            let (link, address) = (*link, *address);
            match *state {
                State::Probing { until } if until <= now && self.pace.affords(now) => {
                    *state = State::Held { told: 1, next: Some(now + REPEATS[0]), defended: None };
                    acts.push(Act::Tell(link, address));
                    let name = self.places.get(&link).map(|place| place.name.clone());
                    acts.push(Act::Say(Said::Announced { address, link: name.unwrap_or_default() }));
                }
                State::Contested { again, .. } | State::Unasked { again }
                    if again <= now && self.pace.affords(now) =>
                {
                    *state = State::Probing { until: now + PROBE };
                    acts.push(Act::Probe(link, address));
                }
                _ => {}
            }
        }
    }

    fn repeat_due(&mut self, now: Instant, acts: &mut Vec<Act>) {
        for ((link, address), state) in &mut self.claims {
            if let State::Held { told, next: Some(next), defended } = *state
                && next <= now
                && self.pace.affords(now)
            {
                let next = REPEATS.get(told).map(|pause| now + *pause);
                *state = State::Held { told: told + 1, next, defended };
                // The first question, or its answer, may have been lost.
                acts.extend([Act::Probe(*link, *address), Act::Tell(*link, *address)]);
            }
        }
    }

    /// The question for an address could not be sent: it is asked again before anybody is told that it is here.
    pub(crate) fn unasked(&mut self, link: u32, address: IpAddr, now: Instant) {
        if let Some(state @ State::Probing { .. }) = self.claims.get_mut(&(link, address)) {
            *state = State::Unasked { again: now + UNASKED };
        }
    }

    /// Others may have listened to who is gone meanwhile: what is here is said again.
    pub(crate) fn repeat(&mut self, link: u32, now: Instant) {
        let Some(place) = self.places.get_mut(&link) else { return };
        if place.repeated.is_some_and(|at| at + REPEATED > now) {
            return;
        }
        place.repeated = Some(now);
        for ((of, _), state) in &mut self.claims {
            if let State::Held { defended, .. } = *state
                && *of == link
            {
                *state = State::Held { told: 0, next: Some(now), defended };
            }
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let of_claims = self.claims.values().filter_map(|state| match *state {
            State::Probing { until } => Some(until),
            State::Held { next, .. } => next,
            State::Contested { again, .. } | State::Unasked { again } => Some(again),
        });
        let of_places = self.places.values().flat_map(|place| {
            let listened = Some(place.since + SILENCE).filter(|_| !place.is_known);
            listened.into_iter().chain(place.peers.next_silent())
        });
        // Whatever is due may be more than can be said at once.
        of_claims.min().map(|due| self.pace.not_before(due)).into_iter().chain(of_places).min()
    }

    fn is_ours(&self, link: u32, mac: Mac) -> bool {
        self.places.values().any(|place| place.mac == mac)
            || self.places.get(&link).is_some_and(|place| place.peers.have(mac))
    }

    fn name_of(&self, link: u32) -> String {
        self.places.get(&link).map_or_else(|| format!("number {link}"), |place| place.name.clone())
    }
}

#[cfg(test)]
mod tests;
