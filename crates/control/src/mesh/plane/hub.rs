//! What is known, and what of it each node is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use meshwire::contract::Packed;
use serde_json::Error;
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode, Model, Shared};
use tokio::sync::{broadcast, watch};

/// So many changes wait for a node that takes none; one that is further behind is told everything again.
const WAITING: usize = 1024;

/// A change of what is known, written once for all nodes.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    set: Vec<(Shared, Bytes)>,
    removed: Vec<(Key, Bytes)>,
}

/// The model, and who follows it.
#[derive(Debug)]
pub(super) struct Hub {
    state: Mutex<State>,
    changes: broadcast::Sender<Arc<Change>>,
    known: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    model: Model,
}

/// What somebody is told who begins to follow.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) revision: u64,
    pub(super) packed: Packed,
    pub(super) view: View,
    pub(super) changes: broadcast::Receiver<Arc<Change>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: broadcast::Sender::new(WAITING),
            known: watch::Sender::new(false),
        }
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a change of the model; the first is all that there was at the start.
    pub(super) fn take(&self, delta: Delta) -> Result<(), Error> {
        let mut change = Change { revision: 0, set: Vec::new(), removed: Vec::new() };
        for entry in &delta.set {
            change.set.push((entry.clone(), Packed::entry(entry)?));
        }
        for key in &delta.removed {
            change.removed.push((key.clone(), Packed::key(key)?));
        }
        {
            let mut state = self.state();
            state.revision += 1;
            change.revision = state.revision;
            state.model.apply(delta);
            // Whoever begins meanwhile has it by the model, or by this: it is told while the model is held. Nobody may follow.
            let _nobody = self.changes.send(Arc::new(change));
        }
        self.known.send_replace(true);
        Ok(())
    }

    /// Waits until all that there was at the start is known.
    pub(super) async fn known(&self) {
        // The sender lives in `self`.
        let mut known = self.known.subscribe();
        let _never = known.wait_for(|known| *known).await;
    }

    /// What a node is told of everything, and from then on of what changes.
    pub(super) fn begin(&self, node: &str) -> Result<Beginning, Error> {
        let (revision, model, changes) = {
            let state = self.state();
            // Entries are shared: this copies their keys.
            (state.revision, state.model.clone(), self.changes.subscribe())
        };
        let (view, packed) = View::begin(node, &model)?;
        Ok(Beginning { revision, packed, view, changes })
    }

    /// What of a change a node is told.
    pub(super) fn tell(&self, view: &mut View, change: &Change) -> Result<Packed, Error> {
        view.change(change, |name| {
            let key = Key::Policy(name.clone());
            let entry = self.state().model.get(&key).cloned()?;
            Some(Shared { key, entry })
        })
    }

    /// Whether a member of the mesh on this node has this identity.
    pub(super) fn has(&self, node: &str, identity: &str) -> bool {
        self.state().model.iter().any(|(_, entry)| {
            matches!(&**entry, Entry::Workload(pod) if pod.mode != Mode::Outside
                && pod.identity == identity
                && pod.node.as_deref() == Some(node))
        })
    }
}

/// What a node has been told, as far as that says what it is told next: all of Services; its own pods; members of the mesh elsewhere, who are asked as such; and
/// the policies that guard its own pods.
#[derive(Debug, Default)]
pub(super) struct View {
    node: String,
    /// Its own pods, with the policies that guard them.
    own: BTreeMap<Name, Vec<Name>>,
    /// Members elsewhere.
    others: BTreeSet<Name>,
    /// Policies.
    policies: BTreeSet<Name>,
}

/// What becomes of an entry.
enum Fate {
    Told,
    /// It was told, and is to be as if it were not there.
    Gone,
    Untold,
}

impl View {
    fn begin(node: &str, model: &Model) -> Result<(Self, Packed), Error> {
        let mut view = Self { node: node.to_owned(), ..Self::default() };
        let mut packed = Packed::default();
        for (key, entry) in model.iter() {
            if let Fate::Told = view.enter(key, entry) {
                packed.set.push(Packed::entry(&Shared { key: key.clone(), entry: entry.clone() })?);
            }
        }
        let found = |name: &Name| {
            let key = Key::Policy(name.clone());
            let entry = model.get(&key).cloned()?;
            Some(Shared { key, entry })
        };
        view.guard(&mut packed, &BTreeMap::new(), found)?;
        Ok((view, packed))
    }

    fn change(&mut self, change: &Change, found: impl Fn(&Name) -> Option<Shared>) -> Result<Packed, Error> {
        let mut packed = Packed::default();
        let mut policies = BTreeMap::new();
        for (shared, bytes) in &change.set {
            if let Key::Policy(name) = &shared.key {
                policies.insert(name.clone(), bytes);
            }
            match self.enter(&shared.key, &shared.entry) {
                Fate::Told => packed.set.push(bytes.clone()),
                Fate::Gone => packed.removed.push(Packed::key(&shared.key)?),
                Fate::Untold => {}
            }
        }
        for (key, bytes) in &change.removed {
            let was_told = match key {
                Key::Workload(name) => self.own.remove(name).is_some() || self.others.remove(name),
                Key::Policy(name) => self.policies.remove(name),
                Key::Frontend { .. } | Key::Endpoints { .. } => true,
            };
            if was_told {
                packed.removed.push(bytes.clone());
            }
        }
        self.guard(&mut packed, &policies, found)?;
        Ok(packed)
    }

    /// Takes note of an entry. Policies come afterwards, with those whom they guard.
    fn enter(&mut self, key: &Key, entry: &Entry) -> Fate {
        let (name, pod) = match (key, entry) {
            (Key::Workload(name), Entry::Workload(pod)) => (name, pod),
            (Key::Policy(_), _) => return Fate::Untold,
            _ => return Fate::Told,
        };
        let was_own = self.own.remove(name).is_some();
        let was_other = self.others.remove(name);
        if pod.node.as_deref() == Some(self.node.as_str()) {
            self.own.insert(name.clone(), pod.policies.clone());
            Fate::Told
        } else if pod.mode != Mode::Outside {
            self.others.insert(name.clone());
            Fate::Told
        } else if was_own || was_other {
            Fate::Gone
        } else {
            Fate::Untold
        }
    }

    /// Tells of the policies that guard the node's own pods: those that are other now, those that it has not been told yet, and those that it needs no more.
    fn guard(
        &mut self,
        packed: &mut Packed,
        changed: &BTreeMap<Name, &Bytes>,
        found: impl Fn(&Name) -> Option<Shared>,
    ) -> Result<(), Error> {
        let needed: BTreeSet<&Name> = self.own.values().flatten().collect();
        let mut told = BTreeSet::new();
        for name in needed {
            if let Some(bytes) = changed.get(name) {
                packed.set.push((*bytes).clone());
            } else if !self.policies.contains(name) {
                // It may have changed again since: then it is told as it is now, and once more.
                let Some(policy) = found(name) else { continue };
                packed.set.push(Packed::entry(&policy)?);
            }
            told.insert(name.clone());
        }
        for name in self.policies.difference(&told) {
            packed.removed.push(Packed::key(&Key::Policy(name.clone()))?);
        }
        self.policies = told;
        Ok(())
    }
}
