//! What watchers are told.

use super::Key;
use bytes::Bytes;
use std::sync::OnceLock;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It was created or changed.
    Put,
    /// It was deleted.
    Delete,
}

/// One change of one object, the same for all who watch.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: Kind,
    /// To which object.
    pub key: Key,
    /// The revision of the change: one for all writes of a transaction.
    pub revision: u64,
    /// Which of the transaction's changes it is, from 0.
    pub index: u32,
    /// The new object; of a deletion the last state, with the revision of the deletion as its resource version.
    pub json: Bytes,
    /// The object before the change, `None` where there was none.
    pub previous: Option<Bytes>,
    encoding: OnceLock<Bytes>,
}

/// What an event costs beside its bytes.
const OVERHEAD: usize = 256;

impl Event {
    pub(super) fn new(
        kind: Kind,
        key: Key,
        (revision, index): (u64, u32),
        json: Bytes,
        previous: Option<Bytes>,
    ) -> Event {
        Event { kind, key, revision, index, json, previous, encoding: OnceLock::new() }
    }

    /// Whether the object was not there before.
    #[must_use]
    pub fn created(&self) -> bool {
        self.previous.is_none()
    }

    /// The event as it goes over the wire as it is kept: `make` is called for the first watcher, and the others share what
    /// it made.
    pub fn encoding(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.encoding.get_or_init(make).clone()
    }

    /// How much memory it takes at most (bytes), with its encoding if that is about as long as the object.
    pub(super) fn weight(&self) -> usize {
        let previous = self.previous.as_ref().map_or(0, Bytes::len);
        2 * self.json.len() + previous + self.key.name.len() + OVERHEAD
    }

    /// Its place in the order of all changes.
    pub(super) fn position(&self) -> Position {
        Position { revision: self.revision, index: self.index }
    }
}

/// A place in the order of all changes: behind the change that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) revision: u64,
    pub(super) index: u32,
}

impl Position {
    /// Behind all changes of a revision.
    pub(super) fn after(revision: u64) -> Position {
        Position { revision, index: u32::MAX }
    }

    /// The last revision that has nothing behind this place: others of a transaction may be to come.
    pub(super) fn seen(self) -> u64 {
        if self.index == u32::MAX { self.revision } else { self.revision.saturating_sub(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_encoded_once() {
        let key = Key { resource: "pods".into(), namespace: "a".into(), name: "b".into() };
        let event = Event::new(Kind::Put, key, (1, 0), Bytes::from_static(b"{}"), None);
        for text in ["first", "second"] {
            assert_eq!(event.encoding(|| Bytes::from_static(text.as_bytes())), "first");
        }
    }
}
