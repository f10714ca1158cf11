//! The map of entries, and its changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Entry, Kept, Key};

/// All entries.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    entries: BTreeMap<Key, Kept>,
}

/// An entry with its key, as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Shared {
    /// Which.
    pub key: Key,
    /// What.
    pub entry: Kept,
}

#[derive(Serialize)]
struct Borrowed<'a> {
    key: &'a Key,
    entry: &'a Entry,
}

#[derive(Deserialize)]
struct Owned {
    key: Key,
    entry: Entry,
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Borrowed { key: &self.key, entry: &self.entry }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Owned { key, entry } = Owned::deserialize(deserializer)?;
        let fits = matches!(
            (&key, &entry),
            (Key::Frontend { .. }, Entry::Frontend(_))
                | (Key::Endpoints { .. }, Entry::Endpoints(_))
                | (Key::Policy(_), Entry::Policy(_))
                | (Key::Workload(_), Entry::Workload(_))
        );
        // A rule that is not there would be found when a request comes.
        let rules = match &entry {
            Entry::Frontend(super::Frontend { routing: super::Routing::Http(http), .. }) => {
                http.matches.iter().all(|matched| matched.rule < http.rules.len())
            }
            _ => true,
        };
        if fits && rules {
            Ok(Self { key, entry: Arc::new(entry) })
        } else {
            Err(serde::de::Error::custom(format!(
                "{key}: the entry is another key's, or names a rule it has not"
            )))
        }
    }
}

/// What makes one model another.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// Entries that are new or other than before, by key.
    pub set: Vec<Shared>,
    /// Keys whose entries are gone, in order.
    pub removed: Vec<Key>,
}

impl Delta {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }
}

impl Model {
    /// An entry.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Kept> {
        self.entries.get(key)
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Kept)> {
        self.entries.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes an entry so; whether it was not.
    pub(crate) fn put(&mut self, key: Key, entry: Kept) -> bool {
        match self.entries.get_mut(&key) {
            Some(before) if *before == entry => false,
            Some(before) => {
                *before = entry;
                true
            }
            None => {
                self.entries.insert(key, entry);
                true
            }
        }
    }

    /// Takes an entry away; whether it was there.
    pub(crate) fn remove(&mut self, key: &Key) -> bool {
        self.entries.remove(key).is_some()
    }

    /// What makes `before` this one.
    #[must_use]
    pub fn since(&self, before: &Self) -> Delta {
        let is_new = |key: &Key, entry: &Kept| {
            before.entries.get(key).is_none_or(|old| !Arc::ptr_eq(old, entry) && old != entry)
        };
        let changed = self.entries.iter().filter(|(key, entry)| is_new(key, entry));
        let set = changed.map(|(key, entry)| Shared { key: key.clone(), entry: entry.clone() }).collect();
        let removed = before.entries.keys().filter(|key| !self.entries.contains_key(key)).cloned().collect();
        Delta { set, removed }
    }

    /// Takes a change. It may come twice.
    pub fn apply(&mut self, delta: Delta) {
        for key in &delta.removed {
            self.entries.remove(key);
        }
        self.entries.extend(delta.set.into_iter().map(|Shared { key, entry }| (key, entry)));
    }

    /// All of it as a change from nothing: what somebody is told first.
    #[must_use]
    pub fn whole(&self) -> Delta {
        self.since(&Self::default())
    }
}
