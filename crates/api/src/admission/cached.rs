//! Configurations of admission, read once for each of their versions.

use crate::contract::{Object, Result, Status};
use crate::registry::Registry;
use crate::store::Scope;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What was made of the objects of one kind, by their names.
pub(super) struct Cached<T> {
    stored_as: &'static str,
    make: fn(&Object) -> T,
    held: Mutex<BTreeMap<String, (u64, Arc<T>)>>,
}

impl<T> Cached<T> {
    pub(super) fn new(stored_as: &'static str, make: fn(&Object) -> T) -> Cached<T> {
        Cached { stored_as, make, held: Mutex::default() }
    }

    /// What there is now, in the order of the names.
    pub(super) fn all(&self, registry: &Registry) -> Result<Vec<Arc<T>>> {
        let scope = Scope { resource: self.stored_as.to_owned(), namespace: None };
        let page = registry.store().list(&scope, None, None, None).map_err(Status::internal)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = std::mem::take(&mut *held);
        for stored in page.items {
            let name = stored.key.name;
            let entry = match known.remove(&name) {
                Some(entry) if entry.0 == stored.revision => entry,
                _ => {
                    let object: Object =
                        serde_json::from_slice(&stored.json).map(Object).map_err(Status::internal)?;
                    (stored.revision, Arc::new((self.make)(&object)))
                }
            };
            held.insert(name, entry);
        }
        Ok(held.values().map(|(_, made)| Arc::clone(made)).collect())
    }
}
