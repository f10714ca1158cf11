//! Every pod and container of the node, in memory: what List calls are answered from.
//!
//! The truth is in files and in shims ([`recover`](super::recover) reads it back); this is its copy. The lock is held for
//! looking up and for copying, never while something is waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::container::Container;
use super::pod::Pod;
use crate::contract::{Code, Error};

/// Pods and containers by id.
#[derive(Debug, Default)]
pub(crate) struct State {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    pods: BTreeMap<String, Arc<Pod>>,
    containers: BTreeMap<String, Arc<Container>>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every pod.
    pub(crate) fn pods(&self) -> Vec<Arc<Pod>> {
        self.lock().pods.values().cloned().collect()
    }

    /// Every container.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.lock().containers.values().cloned().collect()
    }

    /// The containers of a pod, the newest first: of several attempts the kubelet takes the first for the last one where
    /// statuses come with their time (EventedPLEG).
    pub(crate) fn containers_of(&self, pod: &str) -> Vec<Arc<Container>> {
        let mut all: Vec<_> =
            self.lock().containers.values().filter(|c| c.record.pod == pod).cloned().collect();
        all.sort_by_key(|c| std::cmp::Reverse(c.record.created));
        all
    }

    /// The pod that `id` is, or is the only beginning of.
    pub(crate) fn pod(&self, id: &str) -> Result<Arc<Pod>, Error> {
        find(&self.lock().pods, "pod sandbox", id)
    }

    /// The container that `id` is, or is the only beginning of.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        find(&self.lock().containers, "container", id)
    }

    /// A new pod.
    pub(crate) fn add_pod(&self, pod: Arc<Pod>) {
        self.lock().pods.insert(pod.record.id.clone(), pod);
    }

    /// A new container.
    pub(crate) fn add_container(&self, container: Arc<Container>) {
        self.lock().containers.insert(container.record.id.clone(), container);
    }

    /// The pod is no more.
    pub(crate) fn forget_pod(&self, id: &str) {
        self.lock().pods.remove(id);
    }

    /// The container is no more.
    pub(crate) fn forget_container(&self, id: &str) {
        self.lock().containers.remove(id);
    }
}

/// Ids are ordered, so what begins with `id` stands behind it.
fn find<T>(all: &BTreeMap<String, Arc<T>>, what: &str, id: &str) -> Result<Arc<T>, Error> {
    if id.is_empty() {
        return Err(Error::invalid(format!("{}_id", what.replace(' ', "_")), "is empty: give an id"));
    }
    let mut candidates = all.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    match (candidates.next(), candidates.next()) {
        (Some((key, one)), next) if key == id || next.is_none() => Ok(Arc::clone(one)),
        (Some(_), Some(_)) => Err(Error::new(
            Code::NotFound,
            format!("more than one {what} id begins with {id:?}: give more of it"),
        )),
        _ => Err(Error::not_found(what, id)),
    }
}
