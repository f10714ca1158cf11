//! The objects of one kind as the API server last told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::api::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

/// What a [`Cache`] can hold.
pub trait Kind:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

/// Namespace and name; a cluster's object has an empty namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Name {
    /// That of an object in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// That of a cluster's object.
    pub fn global(name: impl Into<String>) -> Self {
        Self { namespace: String::new(), name: name.into() }
    }

    /// That of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// How an object changed: one of both is there, and both are the same object (uid).
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// As it was; `None` for one that is new.
    pub old: Option<Arc<K>>,
    /// As it is; `None` for one that is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object as it is, or as it was at last.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        match (&self.new, &self.old) {
            (Some(object), _) | (None, Some(object)) => object,
            (None, None) => unreachable!("a change is of an object"),
        }
    }
}

type Listener<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// The objects of one kind. What it says may be a moment old.
pub struct Cache<K> {
    objects: RwLock<BTreeMap<Name, Arc<K>>>,
    listeners: RwLock<Vec<Listener<K>>>,
    filled: watch::Sender<bool>,
}

impl<K> Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("filled", &*self.filled.borrow()).finish_non_exhaustive()
    }
}

impl<K: Kind> Cache<K> {
    /// Follows all objects of the kind, in every namespace, by a task of the current runtime that lives as long as somebody holds
    /// the cache. A kind that the server does not know yet is asked for again and again: until it is, the cache is not
    /// [filled](Cache::filled).
    #[must_use]
    pub fn start(client: &Client) -> Arc<Self> {
        Self::start_with(client, watcher::Config::default())
    }

    /// The same, of those that `config` selects.
    #[must_use]
    pub fn start_with(client: &Client, config: watcher::Config) -> Arc<Self> {
        Self::follow(Api::all(client.clone()), config)
    }

    /// The same, of those that `api` names: of a namespace.
    #[must_use]
    pub fn follow(api: Api<K>, config: watcher::Config) -> Arc<Self> {
        let cache = Arc::new(Self {
            objects: RwLock::default(),
            listeners: RwLock::default(),
            filled: watch::Sender::new(false),
        });
        let weak = Arc::downgrade(&cache);
        tokio::spawn(async move {
            let events = watcher::watcher(api, config).default_backoff();
            let mut events = std::pin::pin!(events);
            let mut listed = BTreeMap::new();
            let mut told = false;
            while let Some(event) = events.next().await {
                let Some(cache) = weak.upgrade() else { return };
                match event {
                    Ok(event) => {
                        // That it begins with a list says nothing yet: each try to list does.
                        told &= matches!(event, Event::Init | Event::InitApply(_));
                        cache.take(event, &mut listed);
                    }
                    // The watcher begins anew by itself, later each time.
                    Err(error) if !std::mem::replace(&mut told, true) => {
                        let (kind, cause) = (K::plural(&()), crate::causes(&error));
                        eprintln!("sextant: warning: cannot watch {kind}, and tries again: {cause}");
                    }
                    Err(_) => {}
                }
            }
        });
        cache
    }

    fn take(&self, event: Event<K>, listed: &mut BTreeMap<Name, Arc<K>>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => {
                listed.insert(Name::of(&object), Arc::new(lean(object)));
            }
            Event::InitDone => {
                let new = std::mem::take(listed);
                let old = std::mem::replace(&mut *self.write(), new.clone());
                for (name, object) in &old {
                    if !new.contains_key(name) {
                        self.tell(&Change { old: Some(object.clone()), new: None });
                    }
                }
                for (name, object) in new {
                    self.tell_of(old.get(&name).cloned(), object);
                }
                self.filled.send_replace(true);
            }
            Event::Apply(object) => {
                let object = Arc::new(lean(object));
                let old = self.write().insert(Name::of(&*object), object.clone());
                self.tell_of(old, object);
            }
            Event::Delete(object) => {
                let object = Arc::new(lean(object));
                self.write().remove(&Name::of(&*object));
                self.tell(&Change { old: Some(object), new: None });
            }
        }
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<Name, Arc<K>>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of an object that is there. Where it has taken the place of another of its name, that one is gone.
    fn tell_of(&self, mut old: Option<Arc<K>>, new: Arc<K>) {
        if let Some(other) = old.take_if(|old| old.meta().uid != new.meta().uid) {
            self.tell(&Change { old: Some(other), new: None });
        }
        self.tell(&Change { old, new: Some(new) });
    }

    fn tell(&self, change: &Change<K>) {
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(change);
        }
    }

    /// Has `listener` called at every change from now on, and now once for each object there is. It must not wait, and not ask to
    /// listen.
    pub fn listen(&self, listener: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let mut listeners = self.listeners.write().unwrap_or_else(PoisonError::into_inner);
        for object in self.all() {
            listener(&Change { old: None, new: Some(object) });
        }
        listeners.push(Box::new(listener));
    }

    /// Resolves once all objects that were there at the start are known.
    pub async fn filled(&self) {
        // The sender lives in `self`.
        let _ = self.filled.subscribe().wait_for(|filled| *filled).await;
    }

    /// [`Cache::filled`], for so long at most; whether it is.
    pub async fn filled_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.filled()).await.is_ok()
    }

    /// The object of this name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All of them, by namespace and name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those of which `is` holds.
    #[must_use]
    pub fn find(&self, is: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.values().filter(|object| is(object)).cloned().collect()
    }
}

/// Without what no controller reads, and what is often more than all the rest.
fn lean<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests;
