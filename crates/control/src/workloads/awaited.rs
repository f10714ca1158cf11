//! What was written and the cache does not show yet: until it does, nothing more is done for the same owner.
//!
//! A controller that counts what is there must not count what it was told before its own last change: it would make one pod too many,
//! or delete one. So it notes each change before it asks for it, under a name that it has chosen itself, and goes on when the cache has
//! shown the change; where that takes long, it asks the server what has become of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Change, Kind, Name};
use k8s_openapi::NamespaceResourceScope;
use kube::api::Api;
use kube::{Client, Resource, ResourceExt as _};
use tokio::time::Instant;

/// After so long the server is asked.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is awaited of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// That it is there.
    There,
    /// That the one of this uid is gone, or going.
    Gone(String),
    /// That it is of this resource version, or a later one.
    At(u64),
}

impl What {
    /// Whether a change shows it.
    fn is_shown<K: Kind>(&self, change: &Change<K>) -> bool {
        let Some(new) = &change.new else { return true };
        match self {
            Self::There => true,
            Self::Gone(uid) => new.uid().as_ref() != Some(uid) || new.meta().deletion_timestamp.is_some(),
            Self::At(version) => version_of(&**new) >= *version,
        }
    }
}

/// An object's resource version, as a number: they are to be compared so.
pub(super) fn version_of<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default()
}

#[derive(Debug)]
struct Wait {
    owner: String,
    what: What,
    since: Instant,
}

type Waits = Mutex<BTreeMap<Name, Wait>>;

/// The changes of objects of one kind that are awaited.
#[derive(Debug)]
pub(super) struct Awaited {
    waits: Arc<Waits>,
}

fn lock(waits: &Waits) -> MutexGuard<'_, BTreeMap<Name, Wait>> {
    waits.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Awaited {
    /// Those that this cache will show.
    pub(super) fn new<K: Kind>(cache: &Cache<K>) -> Self {
        let waits = Arc::<Waits>::default();
        let weak = Arc::downgrade(&waits);
        cache.listen(move |change| {
            let Some(waits) = weak.upgrade() else { return };
            let mut waits = lock(&waits);
            let name = Name::of(&**change.object());
            if waits.get(&name).is_some_and(|wait| wait.what.is_shown(change)) {
                waits.remove(&name);
            }
        });
        Self { waits }
    }

    /// Notes a change that is about to be asked for.
    pub(super) fn note(&self, owner: &str, name: Name, what: What) {
        lock(&self.waits).insert(name, Wait { owner: owner.into(), what, since: Instant::now() });
    }

    /// Notes a change that was done: this is the object as it is now.
    pub(super) fn note_version<K: Kind>(&self, owner: &str, object: &K, cache: &Cache<K>) {
        let (name, version) = (Name::of(object), version_of(object));
        self.note(owner, name.clone(), What::At(version));
        // It may have been shown before the answer came.
        if cache.get(&name).is_some_and(|shown| version_of(&*shown) >= version) {
            self.forget(&name);
        }
    }

    /// It will not come: the server has refused it.
    pub(super) fn forget(&self, name: &Name) {
        lock(&self.waits).remove(name);
    }

    /// Whether something is awaited for an owner; of what is late, the server is asked.
    pub(super) async fn is_any<K>(&self, client: &Client, owner: &str) -> bool
    where
        K: Kind + Resource<Scope = NamespaceResourceScope>,
    {
        let late: Vec<(Name, What)> = {
            let waits = lock(&self.waits);
            let of = waits.iter().filter(|(_, wait)| wait.owner == owner);
            let late = of.filter(|(_, wait)| wait.since.elapsed() > PATIENCE);
            late.map(|(name, wait)| (name.clone(), wait.what.clone())).collect()
        };
        for (name, what) in late {
            let api: Api<K> = Api::namespaced(client.clone(), &name.namespace);
            let Ok(found) = api.get_opt(&name.name).await else { continue };
            let is_over = match (found, what) {
                // It never came, or the cache has yet to say that it has gone again.
                (None, _) => true,
                // The server has never heard that it was to go.
                (Some(found), What::Gone(uid)) => {
                    found.uid() == Some(uid) && found.meta().deletion_timestamp.is_none()
                }
                // The cache is far behind.
                (Some(_), _) => false,
            };
            if is_over {
                lock(&self.waits).remove(&name);
            }
        }
        lock(&self.waits).values().any(|wait| wait.owner == owner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(uid: &str, version: u64, is_going: bool) -> Arc<Pod> {
        let gone = is_going.then_some("2026-01-01T00:00:00Z");
        let metadata = json!({"name": "a", "uid": uid, "resourceVersion": version.to_string(), "deletionTimestamp": gone});
        Arc::new(serde_json::from_value(json!({"metadata": metadata})).unwrap())
    }

    #[test]
    fn a_change_is_shown_by_what_comes_after_it() {
        let is = |pod: &Arc<Pod>| Change { old: None, new: Some(pod.clone()) };
        let gone = Change { old: Some(pod("u", 3, false)), new: None };
        assert!(What::There.is_shown(&is(&pod("u", 1, false))) && What::There.is_shown(&gone));
        let deleted = What::Gone("u".into());
        assert!(!deleted.is_shown(&is(&pod("u", 1, false))));
        assert!(deleted.is_shown(&is(&pod("u", 2, true))) && deleted.is_shown(&is(&pod("v", 2, false))));
        assert!(deleted.is_shown(&gone));
        assert!(
            !What::At(5).is_shown(&is(&pod("u", 4, false))) && What::At(5).is_shown(&is(&pod("u", 6, false)))
        );
    }
}
