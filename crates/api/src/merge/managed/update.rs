//! Who owns what after an object has changed.

use super::compare::{self, Comparison};
use super::entries::{Entries, Entry, Identity};
use super::path::Element;
use super::set::Set;
use super::typed::Type;
use super::{Owned, field_set, remove, structured};
use serde_json::Value;

/// A field that somebody else owns with another value.
#[derive(Clone, Debug)]
pub(super) struct Conflict {
    pub(super) manager: Identity,
    pub(super) path: Vec<Element>,
}

impl Owned<'_> {
    fn of(self, set: &Set) -> Set {
        match self {
            Owned::All => set.clone(),
            Owned::Without(paths) => set.filtered(paths, false),
            Owned::Only(paths) => set.filtered(paths, true),
        }
    }

    fn of_comparison(self, found: Comparison) -> Comparison {
        match self {
            Owned::All => found,
            _ => Comparison {
                removed: self.of(&found.removed),
                modified: self.of(&found.modified),
                added: self.of(&found.added),
            },
        }
    }
}

/// Takes from all managers but `own` what changed from `old` to `new`.
///
/// # Errors
/// Where something changed that another manager owns, unless `force`.
pub(super) fn others(
    entries: &mut Entries,
    own: Option<&Identity>,
    found: &Comparison,
    force: bool,
) -> Result<(), Vec<Conflict>> {
    let changed = found.modified.union(&found.added);
    let conflicts = |identity: &Identity, entry: &Entry| {
        if own == Some(identity) { Set::default() } else { entry.set.intersection(&changed) }
    };
    if !force {
        let mut all = Vec::new();
        for (identity, entry) in entries.iter() {
            conflicts(identity, entry).each(&mut |path| {
                all.push(Conflict { manager: identity.clone(), path: path.to_vec() });
            });
        }
        if !all.is_empty() {
            return Err(all);
        }
    }
    for (identity, entry) in entries.iter_mut().filter(|(identity, _)| own != Some(*identity)) {
        let conflicts = conflicts(identity, entry);
        if !conflicts.is_empty() {
            entry.set = entry.set.difference(&conflicts);
        }
        if !found.removed.is_empty() {
            entry.set = entry.set.difference(&found.removed);
        }
    }
    entries.retain(|_, entry| !entry.set.is_empty());
    Ok(())
}

/// An update: what it changed belongs to `identity` from now on, and nothing of it to others.
pub(super) fn update(
    entries: &mut Entries,
    kind: Type<'_>,
    old: &Value,
    new: &Value,
    identity: &Identity,
    now: (&str, &str),
    owned: Owned<'_>,
) {
    reconcile(entries, kind);
    let found = owned.of_comparison(compare::objects(kind, old, new));
    // The manager itself is handled like any other, so that what it takes from itself shows that something changed.
    let _ = others(entries, None, &found, true);
    let taken = without_meta(&owned.of(&found.modified.union(&found.added)));
    if !taken.is_empty() {
        let (api_version, time) = now;
        let entry = entries.entry(identity.clone()).or_insert_with(|| Entry {
            api_version: api_version.to_owned(),
            set: Set::default(),
            time: String::new(),
        });
        entry.set = entry.set.union(&taken);
        api_version.clone_into(&mut entry.api_version);
        time.clone_into(&mut entry.time);
    }
}

/// An apply: the new object, or `None` where it is the old one.
///
/// # Errors
/// Conflicts, or why the configuration cannot be merged.
pub(super) fn apply(
    entries: &mut Entries,
    kind: Type<'_>,
    live: &Value,
    config: &Value,
    identity: &Identity,
    now: (&str, &str),
    (force, owned): (bool, Owned<'_>),
) -> Result<Option<Value>, Failure> {
    reconcile(entries, kind);
    let merged = structured::merge(kind, live, config).map_err(Failure::Merge)?;
    let last = entries.get(identity).map(|entry| (entry.set.clone(), entry.time.clone()));
    let set = owned.of(&field_set::of(kind, config));
    let (api_version, time) = now;
    entries
        .insert(identity.clone(), Entry { api_version: api_version.to_owned(), set, time: time.to_owned() });
    let new = match &last {
        Some((last, _)) if !last.is_empty() => prune(kind, &merged, last, entries),
        _ => merged,
    };
    let found = owned.of_comparison(compare::objects(kind, live, &new));
    others(entries, Some(identity), &found, force).map_err(Failure::Conflicts)?;
    let changed = *live != new;
    if let Some(entry) = entries.get_mut(identity) {
        entry.set = without_meta(&entry.set);
        if entry.set.is_empty() {
            entries.remove(identity);
        } else if !changed {
            entry.time = last.map(|(_, time)| time).unwrap_or_default();
        }
    }
    Ok(changed.then_some(new))
}

/// Why an apply failed.
pub(super) enum Failure {
    Merge(String),
    Conflicts(Vec<Conflict>),
}

/// Takes out of `merged` what the manager applied last time and not this time, unless somebody else owns it.
fn prune(kind: Type<'_>, merged: &Value, last: &Set, entries: &Entries) -> Value {
    let last = field_set::with_named(last, Some(kind));
    let pruned = remove::remove(kind, merged, &last);
    let owned = entries.values().fold(Set::default(), |all, entry| all.union(&entry.set));
    let merged_set = field_set::with_named(&field_set::of(kind, merged), Some(kind));
    let pruned_set = field_set::with_named(&field_set::of(kind, &pruned), Some(kind));
    let kept = pruned_set.union(&field_set::with_named(&owned, Some(kind)));
    let pruned = remove::remove(kind, merged, &merged_set.difference(&kept));
    // What nobody owned before does not go with what it hangs on.
    let pruned_set = field_set::with_named(&field_set::of(kind, &pruned), Some(kind));
    remove::remove(kind, merged, &merged_set.difference(&pruned_set).intersection(&last))
}

/// Where a type has become one that is replaced as a whole since somebody came to own parts of it, they own the whole.
fn reconcile(entries: &mut Entries, kind: Type<'_>) {
    for entry in entries.values_mut() {
        if let Some(set) = reconciled(&entry.set, kind) {
            entry.set = set;
        }
    }
}

/// The set with wholes for parts, or `None` where it is right as it is.
fn reconciled(set: &Set, kind: Type<'_>) -> Option<Set> {
    let mut out: Option<Set> = None;
    for (element, below) in set.children() {
        let below_kind = match element {
            Element::Field(name) => kind.field(name),
            _ => Some(kind.items()),
        };
        let Some(below_kind) = below_kind else { continue };
        let path = std::slice::from_ref(element);
        if below_kind.is_replaced_whole() {
            let set = out.get_or_insert_with(|| set.clone());
            let mut whole = Set::default();
            whole.insert(path);
            *set = set.recursive_difference(&whole).union(&whole);
        } else if let Some(below) = reconciled(below, below_kind) {
            let set = out.get_or_insert_with(|| set.clone());
            let mut whole = Set::default();
            whole.insert(path);
            let mut anew = Set::default();
            if set.has_member(element) {
                anew.insert(path);
            }
            anew.insert_below(element, below);
            *set = set.recursive_difference(&whole).union(&anew);
        }
    }
    out
}

/// Without the fields that nobody owns.
fn without_meta(set: &Set) -> Set {
    let mut nobody = Set::default();
    for name in ["apiVersion", "kind", "metadata"] {
        nobody.insert_member(Element::field(name));
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        nobody.insert(&[Element::field("metadata"), Element::field(name)]);
    }
    set.difference(&nobody)
}
