//! The recent events, in memory, by resource: what nearly every watcher reads.

use super::event::{Event, Position};
use super::{Counters, Scope};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The recent events of one resource. A change wakes those who watch this resource and nobody else.
#[derive(Debug)]
pub(super) struct Topic {
    ring: RwLock<Ring>,
    news: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    /// In the order of their positions.
    events: VecDeque<Arc<Event>>,
    /// Every event of the resource behind this place is in `events`.
    floor: Position,
    /// Every event of the resource behind this place is on the disk.
    lost: Position,
}

/// What comes behind a place.
#[derive(Debug)]
pub(super) enum Behind {
    /// This event.
    Event(Arc<Event>),
    /// Nothing of the scope; the next look may begin here.
    Nothing(Position),
    /// What comes behind it is no longer in memory.
    Gone,
}

impl Topic {
    fn new(floor: Position, lost: Position) -> Topic {
        let ring = RwLock::new(Ring { events: VecDeque::new(), floor, lost });
        Topic { ring, news: watch::channel(0).0 }
    }

    /// The first event of the scope behind `position`.
    pub(super) fn behind(&self, position: Position, scope: &Scope) -> Behind {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if position < ring.floor {
            return Behind::Gone;
        }
        let start = ring.events.partition_point(|event| event.position() <= position);
        match ring.events.iter().skip(start).find(|event| scope.holds(&event.key)) {
            Some(event) => Behind::Event(event.clone()),
            None => {
                Behind::Nothing(ring.events.back().map_or(position, |last| last.position().max(position)))
            }
        }
    }

    /// The place behind which nothing of the resource was forgotten on the disk: who reads there asks after the read has begun.
    pub(super) fn lost(&self) -> Position {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).lost
    }

    /// Tells when there are new events.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn push(&self, event: Arc<Event>) {
        self.ring.write().unwrap_or_else(PoisonError::into_inner).events.push_back(event);
    }

    fn pop(&self) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(event) = ring.events.pop_front() {
            ring.floor = event.position();
            slim(&mut ring.events);
        }
    }
}

/// Gives back the room of a queue that was long once.
fn slim<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > 64 && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.capacity() / 2);
    }
}

/// All topics, and the revision up to which they are complete.
#[derive(Debug)]
pub(super) struct Recent {
    topics: RwLock<HashMap<String, Arc<Topic>>>,
    /// The revision at which the store was opened: older events are on the disk only.
    start: Position,
    /// Up to where the disk had forgotten then.
    lost: Position,
    revision: AtomicU64,
}

impl Recent {
    /// No events, at the revision of an opened store.
    pub(super) fn new(counters: Counters) -> Recent {
        let start = Position::after(counters.revision);
        let lost = Position::after(counters.compacted);
        Recent { topics: RwLock::default(), start, lost, revision: AtomicU64::new(counters.revision) }
    }

    /// The revision of the last change that watchers can see.
    pub(super) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// The topic of a resource.
    pub(super) fn topic(&self, resource: &str) -> Arc<Topic> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(resource) {
            return topic.clone();
        }
        drop(topics);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        // Every event since the start has made its topic: one that is new has missed none.
        let topic = || Arc::new(Topic::new(self.start, self.lost));
        topics.entry(resource.to_owned()).or_insert_with(topic).clone()
    }

    /// The disk is about to forget events up to these, the last ones of their resources: who reads it and does not find them asks
    /// [`Topic::lost`] afterwards.
    pub(super) fn lose(&self, last: &HashMap<Vec<u8>, Position>) {
        for (resource, last) in last {
            // Names in the log are text: they were when they were written.
            let topic = self.topic(&String::from_utf8_lossy(resource));
            let mut ring = topic.ring.write().unwrap_or_else(PoisonError::into_inner);
            ring.lost = ring.lost.max(*last);
        }
    }

    /// Wakes every watcher: there is something to be told to all.
    pub(super) fn wake_all(&self) {
        for topic in self.topics.read().unwrap_or_else(PoisonError::into_inner).values() {
            topic.news.send_modify(|_| ());
        }
    }
}

/// The one who adds events: the writer.
#[derive(Debug)]
pub(super) struct Publisher {
    recent: Arc<Recent>,
    /// What is in memory, the oldest first: its topic, its weight, and since when.
    order: VecDeque<(Arc<Topic>, usize, Instant)>,
    weight: usize,
    limit: usize,
    age: Duration,
}

impl Publisher {
    /// Keeps at most `limit` bytes of events, and none for longer than `age`.
    pub(super) fn new(recent: Arc<Recent>, limit: usize, age: Duration) -> Publisher {
        Publisher { recent, order: VecDeque::new(), weight: 0, limit, age }
    }

    /// Whom it adds them to.
    pub(super) fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Shows watchers the events up to a revision, which are on the disk by now.
    pub(super) fn publish(&mut self, events: Vec<Event>, revision: u64) {
        let now = Instant::now();
        let mut touched: Vec<Arc<Topic>> = Vec::new();
        for event in events {
            let topic = self.recent.topic(&event.key.resource);
            let weight = event.weight();
            topic.push(Arc::new(event));
            if !touched.iter().any(|other| Arc::ptr_eq(other, &topic)) {
                touched.push(topic.clone());
            }
            self.order.push_back((topic, weight, now));
            self.weight += weight;
        }
        // Before the oldest go: who sees this revision finds its events, or that they are gone.
        self.recent.revision.store(revision, Ordering::Release);
        self.age(now);
        for topic in touched {
            topic.news.send_replace(revision);
        }
    }

    /// Lets go of what is too much or too old by `now`.
    pub(super) fn age(&mut self, now: Instant) {
        let (limit, age) = (self.limit, self.age);
        let mut over = self.weight.saturating_sub(limit);
        while let Some((topic, weight, _)) =
            self.order.pop_front_if(|(_, _, since)| over > 0 || now - *since >= age)
        {
            topic.pop();
            self.weight -= weight;
            over = over.saturating_sub(weight);
        }
        slim(&mut self.order);
    }

    /// When the oldest event is too old; never where there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.order.front().map(|(_, _, since)| *since + self.age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Key, Kind};
    use bytes::Bytes;

    const LONG: Duration = Duration::from_secs(3600);

    fn event(resource: &str, revision: u64, length: usize) -> Event {
        let key =
            Key { resource: resource.into(), namespace: format!("n{}", revision % 2), name: "x".into() };
        Event::new(Kind::Put, key, (revision, 0), Bytes::from(vec![b' '; length]), None)
    }

    fn next(topic: &Topic, from: u64, scope: &Scope) -> Option<u64> {
        match topic.behind(Position::after(from), scope) {
            Behind::Event(event) => Some(event.revision),
            Behind::Nothing(_) => None,
            Behind::Gone => Some(0),
        }
    }

    #[test]
    fn the_oldest_events_of_all_go_first() {
        let recent = Arc::new(Recent::new(Counters { revision: 10, ..Counters::default() }));
        let mut publisher = Publisher::new(recent.clone(), 10_000, LONG);
        publisher.publish(vec![event("a", 11, 1000), event("b", 11, 0)], 11);
        let (a, b) = (Scope::all("a"), Scope::all("b"));
        let topics = [recent.topic("a"), recent.topic("b")];
        assert_eq!([next(&topics[0], 10, &a), next(&topics[1], 10, &b)], [Some(11), Some(11)]);
        assert_eq!(next(&topics[0], 9, &a), Some(0), "what was before the start is not in memory");
        publisher.publish(vec![event("a", 12, 4000)], 12);
        assert_eq!([next(&topics[0], 10, &a), next(&topics[0], 11, &a)], [Some(0), Some(12)]);
        assert_eq!(next(&topics[1], 10, &b), Some(11));
        publisher.publish(vec![event("a", 13, 100_000)], 13);
        assert_eq!([next(&topics[0], 12, &a), next(&topics[0], 13, &a)], [Some(0), None]);
        assert_eq!(next(&topics[1], 10, &b), Some(0));
        assert_eq!(next(&recent.topic("c"), 10, &Scope::all("c")), None);
        assert_eq!(publisher.weight, 0);
    }

    #[test]
    fn what_is_too_old_goes_though_there_is_room() {
        let recent = Arc::new(Recent::new(Counters::default()));
        let mut publisher = Publisher::new(recent.clone(), 10_000, LONG);
        assert_eq!(publisher.due(), None);
        publisher.publish(vec![event("a", 1, 10), event("b", 1, 10)], 1);
        publisher.publish(vec![event("a", 2, 10)], 2);
        let (topic, scope, due) = (recent.topic("a"), Scope::all("a"), publisher.due().unwrap());
        publisher.age(due - Duration::from_millis(1));
        assert_eq!([next(&topic, 0, &scope), next(&topic, 1, &scope)], [Some(1), Some(2)]);
        publisher.age(due + LONG);
        assert_eq!([next(&topic, 1, &scope), next(&topic, 2, &scope)], [Some(0), None]);
        assert_eq!((publisher.due(), publisher.weight), (None, 0));
    }

    #[test]
    fn a_queue_that_was_long_is_short_again() {
        let mut queue: VecDeque<u64> = (0..10_000).collect();
        while queue.pop_front().is_some() {
            slim(&mut queue);
        }
        assert!(queue.capacity() <= 64, "{}", queue.capacity());
    }

    #[test]
    fn only_the_resource_that_changed_has_news() {
        let recent = Arc::new(Recent::new(Counters::default()));
        let mut publisher = Publisher::new(recent.clone(), 10_000, LONG);
        let (pods, leases) = (recent.topic("pods").news(), recent.topic("leases").news());
        publisher.publish(vec![event("pods", 1, 10)], 1);
        assert!(pods.has_changed().unwrap() && !leases.has_changed().unwrap());
    }

    #[test]
    fn a_namespace_skips_what_is_not_its_own() {
        let recent = Arc::new(Recent::new(Counters::default()));
        let mut publisher = Publisher::new(recent.clone(), 10_000, LONG);
        publisher.publish((1..=6).map(|revision| event("a", revision, 1)).collect(), 6);
        let (topic, odd) = (recent.topic("a"), Scope::within("a", "n1"));
        assert_eq!(next(&topic, 1, &odd), Some(3));
        let Behind::Nothing(place) = topic.behind(Position::after(5), &odd) else { panic!("there is one") };
        assert_eq!(place.revision, 6);
    }
}
