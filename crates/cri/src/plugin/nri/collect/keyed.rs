//! Maps and lists whose entries have keys: set one, or take one away.

use std::collections::BTreeMap;

use super::Asking;
use crate::contract::Error;
use crate::plugin::nri::wire::{Field, removal};

/// Puts what a plugin wants into the map that later plugins see, and into what is wanted in all. There an entry whose key
/// has the mark of removal is a removal; it comes before what is set.
pub(super) fn map<V: Clone + Default>(
    asking: &mut Asking<'_>,
    field: Field,
    asked: BTreeMap<String, V>,
    seen: &mut BTreeMap<String, V>,
    wanted: &mut BTreeMap<String, V>,
) -> Result<(), Error> {
    for marked in asked.keys() {
        if let Some(key) = removal(marked) {
            asking.clear(field, Some(key));
            seen.remove(key);
            wanted.remove(key);
            wanted.insert(marked.clone(), V::default());
        }
    }
    for (key, value) in asked.into_iter().filter(|(key, _)| removal(key).is_none()) {
        asking.claim(&[(field, Some(&key))])?;
        seen.insert(key.clone(), value.clone());
        wanted.insert(key, value);
    }
    Ok(())
}

/// The same for a list whose entries have their key by `key`.
pub(super) fn list<T: Clone>(
    asking: &mut Asking<'_>,
    field: Field,
    asked: Vec<T>,
    key: fn(&T) -> &str,
    seen: &mut Vec<T>,
    wanted: &mut Vec<T>,
) -> Result<(), Error> {
    let (removed, set): (Vec<T>, Vec<T>) = asked.into_iter().partition(|entry| removal(key(entry)).is_some());
    for entry in removed {
        if let Some(gone) = removal(key(&entry)) {
            asking.clear(field, Some(gone));
            seen.retain(|old| key(old) != gone);
            wanted.retain(|old| key(old) != gone && key(old) != key(&entry));
        }
        wanted.push(entry);
    }
    for entry in set {
        asking.claim(&[(field, Some(key(&entry)))])?;
        seen.retain(|old| key(old) != key(&entry));
        wanted.retain(|old| key(old) != key(&entry));
        seen.push(entry.clone());
        wanted.push(entry);
    }
    Ok(())
}
