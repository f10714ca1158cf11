//! What the kernel has counted of members' packets, by rules that this mesh has made. It is read when somebody asks.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh::capture::{self, Names};
use mesh::sources;
use mesh::telemetry::Packets;
use smi::contract::Name;

/// Where that is, and whose. Clones are the same.
///
/// It is read on the thread that makes the rules, so no rules are made anew meanwhile, and no count goes back.
#[derive(Debug, Clone)]
pub(super) struct Counters(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    names: Names,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How many there were among `pods`.
    last: u64,
    /// Pods that have rules for datagrams, and their network namespaces.
    pods: BTreeMap<u64, (Name, Arc<File>)>,
    /// Pods by the number of a link whose end is looked at.
    links: BTreeMap<u32, Name>,
}

/// A pod has rules for datagrams for as long as this is there.
#[derive(Debug)]
pub(super) struct Watched {
    counters: Counters,
    number: u64,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.counters.inner().pods.remove(&self.number);
    }
}

impl Counters {
    pub(super) fn new(names: Names) -> Self {
        Self(Arc::new(Shared { names, inner: Mutex::default() }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod has rules for datagrams.
    pub(super) fn watch(&self, pod: &Name, netns: &Arc<File>) -> Watched {
        let mut inner = self.inner();
        inner.last += 1;
        let number = inner.last;
        inner.pods.insert(number, (pod.clone(), netns.clone()));
        Watched { counters: self.clone(), number }
    }

    /// These links are looked at, and no others.
    pub(super) fn look_at(&self, links: BTreeMap<u32, Name>) {
        self.inner().links = links;
    }

    /// What was counted so far, of pods of which something is. What cannot be read now is not told now.
    pub(super) fn read(&self) -> BTreeMap<Name, Packets> {
        let (pods, links) = {
            let inner = self.inner();
            (inner.pods.values().cloned().collect::<Vec<_>>(), inner.links.clone())
        };
        let mut all: BTreeMap<Name, Packets> = BTreeMap::new();
        for (name, netns) in pods {
            if let Ok(Some(counted)) = capture::counted(&netns, &self.0.names) {
                all.entry(name).or_default().datagrams = Some(counted);
            }
        }
        if links.is_empty() {
            return all;
        }
        for (link, count) in sources::dropped(&self.0.names.sources).unwrap_or_default() {
            if let Some(name) = links.get(&link) {
                *all.entry(name.clone()).or_default().foreign.get_or_insert_default() += count;
            }
        }
        all
    }
}
