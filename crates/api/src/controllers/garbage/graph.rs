//! Who owns whom, as far as it has been seen.

use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A reference to an owner.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Owner {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Whether the owner waits for this object when it is deleted in the foreground.
    pub(super) block_owner_deletion: bool,
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) stored_as: Arc<str>,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) owners: Vec<Owner>,
    /// Somebody has asked for its deletion.
    pub(super) is_deleted: bool,
    /// It waits for those that it owns.
    pub(super) is_foreground: bool,
    /// It leaves those that it owns alone.
    pub(super) orphans: bool,
}

impl Known {
    /// Whether it has to be remembered: it is owned, or waits for what it owns.
    fn matters(&self) -> bool {
        !self.owners.is_empty() || self.waits()
    }

    /// Whether it is to go, and something is to be done about what it owns before.
    pub(super) fn waits(&self) -> bool {
        self.is_deleted && (self.is_foreground || self.orphans)
    }
}

/// Objects that are owned or wait for what they own, and who is owned by whom.
#[derive(Default)]
pub(super) struct Graph {
    known: HashMap<String, Known>,
    owned: HashMap<String, Owned>,
}

/// Those that name an owner.
#[derive(Default)]
struct Owned {
    by: HashSet<String>,
    /// Whether the owner has been told to be gone.
    is_gone: bool,
}

impl Graph {
    /// Learns of an object: whether something is new that matters, and those of its former owners that waited for it.
    pub(super) fn add(&mut self, object: &Known) -> (bool, Vec<Known>) {
        if self.known.get(&object.uid) == Some(object) {
            return (false, Vec::new());
        }
        let mut freed = Vec::new();
        if let Some(before) = self.known.remove(&object.uid) {
            self.unlink(&before);
            let left = before.owners.iter().filter(|owner| !object.owners.contains(owner));
            let owners = left.filter_map(|owner| self.known.get(&owner.uid));
            freed.extend(owners.filter(|owner| owner.is_deleted).cloned());
        }
        if !object.matters() {
            return (false, freed);
        }
        for owner in &object.owners {
            self.owned.entry(owner.uid.clone()).or_default().by.insert(object.uid.clone());
        }
        self.known.insert(object.uid.clone(), object.clone());
        (true, freed)
    }

    /// Forgets an object; returns those that it owned, and those of its owners that wait for it.
    pub(super) fn remove(&mut self, uid: &str) -> (Vec<Known>, Vec<Known>) {
        let owned = self.owned_by(uid).cloned().collect();
        if let Some(owned) = self.owned.get_mut(uid) {
            owned.is_gone = true;
        }
        let Some(gone) = self.known.remove(uid) else { return (owned, Vec::new()) };
        self.unlink(&gone);
        let owners = gone.owners.iter().filter_map(|owner| self.known.get(&owner.uid));
        (owned, owners.filter(|owner| owner.is_deleted).cloned().collect())
    }

    /// Those that an object owns.
    pub(super) fn owned_by(&self, uid: &str) -> impl Iterator<Item = &Known> {
        let owned = self.owned.get(uid).into_iter().flat_map(|owned| &owned.by);
        owned.filter_map(|owned| self.known.get(owned))
    }

    /// Whether an owner that is named has been told to be gone.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.owned.get(uid).is_some_and(|owned| owned.is_gone)
    }

    fn unlink(&mut self, object: &Known) {
        for owner in &object.owners {
            if let Some(owned) = self.owned.get_mut(&owner.uid) {
                owned.by.remove(&object.uid);
                if owned.by.is_empty() {
                    self.owned.remove(&owner.uid);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(uid: &str, owners: &[&str]) -> Known {
        let owner = |uid: &&str| Owner { uid: (*uid).to_owned(), ..Owner::default() };
        Known {
            stored_as: "pods".into(),
            namespace: "n".to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            owners: owners.iter().map(owner).collect(),
            is_deleted: false,
            is_foreground: false,
            orphans: false,
        }
    }

    #[test]
    fn what_owns_nothing_and_is_owned_by_nobody_is_not_remembered() {
        let mut graph = Graph::default();
        assert!(!graph.add(&object("a", &[])).0);
        assert!(graph.known.is_empty());
    }

    #[test]
    fn those_of_an_owner_are_found_whether_it_was_seen_or_not() {
        let mut graph = Graph::default();
        assert!(graph.add(&object("a", &["o"])).0);
        assert!(!graph.add(&object("a", &["o"])).0);
        let (owned, owners) = graph.remove("o");
        assert_eq!((owned.len(), owners.len()), (1, 0));
        graph.add(&object("a", &[]));
        assert!(graph.owned.is_empty() && graph.known.is_empty());
    }

    #[test]
    fn an_owner_that_waits_is_told_when_what_it_owned_is_set_free() {
        let mut graph = Graph::default();
        let waiting = Known { is_deleted: true, is_foreground: true, ..object("o", &[]) };
        graph.add(&waiting);
        let mut owned = object("a", &["o"]);
        owned.owners[0].block_owner_deletion = true;
        graph.add(&owned);
        let mut changed = owned.clone();
        changed.owners[0].block_owner_deletion = false;
        assert_eq!(graph.add(&changed), (true, vec![waiting.clone()]));
        assert_eq!(graph.add(&object("a", &[])), (false, vec![waiting]));
    }

    #[test]
    fn an_owner_that_waits_is_told_when_the_last_of_its_own_is_gone() {
        let mut graph = Graph::default();
        let waiting = Known { is_deleted: true, is_foreground: true, ..object("o", &[]) };
        graph.add(&waiting);
        graph.add(&object("a", &["o"]));
        let (owned, owners) = graph.remove("a");
        assert_eq!((owned.len(), owners), (0, vec![waiting]));
    }
}
