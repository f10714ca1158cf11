//! Objects that pods name: each is followed alone, as the node's rights allow it, and as long as a pod needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::cache::{Cache, Kind, Name};
use client::queue::Queue;
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::watcher;
use kube::{Api, Client, Resource};

use crate::names::Key;

/// How long the first answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

type Users = Arc<Mutex<BTreeSet<Key>>>;
type Followed<K> = BTreeMap<Name, (Arc<Cache<K>>, Users)>;

/// Objects of one kind; the pods that use one are looked at when it changes.
pub(crate) struct Objects<K> {
    client: Client,
    queue: Arc<Queue<Key>>,
    followed: Mutex<Followed<K>>,
}

impl<K: Kind + Resource<Scope = NamespaceResourceScope>> Objects<K> {
    /// None is followed yet.
    pub(crate) fn new(client: &Client, queue: &Arc<Queue<Key>>) -> Self {
        Self { client: client.clone(), queue: queue.clone(), followed: Mutex::default() }
    }

    fn followed(&self) -> MutexGuard<'_, Followed<K>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of this name in the pod's namespace, for the pod.
    ///
    /// # Errors
    /// It is not known whether it is there: in a kubelet's words.
    pub(crate) async fn get(&self, key: &Key, name: &str) -> Result<Option<Arc<K>>, String> {
        let name = Name::new(&key.name.namespace, name);
        let cache = {
            let mut followed = self.followed();
            let (cache, users) = followed.entry(name.clone()).or_insert_with(|| self.follow(&name));
            users.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone());
            cache.clone()
        };
        if !cache.filled_within(PATIENCE).await {
            let kind = K::kind(&()).to_lowercase();
            return Err(format!("failed to sync {kind} cache: timed out waiting for the condition"));
        }
        Ok(cache.get(&name))
    }

    fn follow(&self, name: &Name) -> (Arc<Cache<K>>, Users) {
        let config = watcher::Config::default().fields(&format!("metadata.name={}", name.name));
        let cache = Cache::follow(Api::namespaced(self.client.clone(), &name.namespace), config);
        let users = Users::default();
        let (queue, weak) = (self.queue.clone(), Arc::downgrade(&users));
        cache.listen(move |_| {
            if let Some(users) = weak.upgrade() {
                queue.add_all(users.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
            }
        });
        (cache, users)
    }

    /// The pod needs none any more.
    pub(crate) fn release(&self, key: &Key) {
        self.followed().retain(|_, (_, users)| {
            let mut users = users.lock().unwrap_or_else(PoisonError::into_inner);
            users.remove(key);
            !users.is_empty()
        });
    }
}
