//! Which pods are captured: those of this node that the model says are members, while their sandboxes are ready.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use ledger::{Effect, Owner, Record as _, RecordId};
use mesh::capture::{Capture, FAMILY, Names};
use mesh::node::{Node, Pod};
use mesh::proxy::{Network, Tables};
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode};

use super::known::Known;
use super::sandboxes::Sandboxes;
use crate::failure::{Context, Failure, Result};

/// All of it. What it has made in pods is on record before it is made.
pub(super) struct Members {
    serving: Node,
    /// This node's name.
    node: String,
    owner: Owner,
    names: Names,
    sandboxes: Sandboxes,
    wanted: BTreeSet<Name>,
    captured: BTreeMap<Name, Captured>,
    /// Pods that are captured no more, until their last connection has ended.
    leaving: BTreeMap<Network, Kept>,
    /// The number of the last one that was captured.
    last: u64,
    /// The inode of the node's own network namespace.
    home: u64,
    /// What was told of a pod, or under no name of the runtime, and is not over.
    troubles: BTreeMap<Option<Name>, String>,
    /// Who is told of pods, for people.
    known: Known,
}

struct Captured {
    sandbox: String,
    network: Network,
    kept: Kept,
    /// The rules, which go with it.
    capture: Capture,
}

/// The table that keeps connections of a network namespace translated.
#[derive(Debug, Clone, Copy)]
struct Kept {
    inode: u64,
    record: RecordId,
}

impl Members {
    pub(super) fn new(
        serving: Node,
        node: String,
        owner: Owner,
        names: Names,
        sandboxes: Sandboxes,
        known: Known,
    ) -> Result<Self> {
        let path = "/proc/thread-self/ns/net";
        let home = std::fs::metadata(path).context(|| format!("look at {path}"))?.ino();
        Ok(Self {
            serving,
            node,
            owner,
            names,
            sandboxes,
            wanted: BTreeSet::new(),
            captured: BTreeMap::new(),
            leaving: BTreeMap::new(),
            last: 0,
            home,
            troubles: BTreeMap::new(),
            known,
        })
    }

    /// Takes note of who is a member on this node now: a control plane tells of members elsewhere, too. Whether something has changed for a pod.
    pub(super) fn take(&mut self, delta: &Delta) -> bool {
        let mut some = false;
        for shared in &delta.set {
            if let (Key::Workload(name), Entry::Workload(workload)) = (&shared.key, &*shared.entry) {
                some = true;
                if workload.mode == Mode::Outside || workload.node.as_deref() != Some(self.node.as_str()) {
                    self.wanted.remove(name);
                } else {
                    self.wanted.insert(name.clone());
                }
            }
        }
        for key in &delta.removed {
            if let Key::Workload(name) = key {
                some = true;
                self.wanted.remove(name);
            }
        }
        some
    }

    /// Has connections go by these tables.
    pub(super) fn swap(&self, tables: Arc<Tables>) -> Result<()> {
        self.serving.swap(tables).context(|| "tell who serves pods of a change".into())
    }

    /// Captures the members that have a sandbox, and lets go of all others; whether each member has one.
    ///
    /// # Errors
    /// Nobody serves pods any more.
    pub(super) async fn settle(&mut self) -> Result<bool> {
        self.troubles.retain(|name, _| name.as_ref().is_none_or(|name| self.wanted.contains(name)));
        // Who is no member any more is let go whether or not the runtime is there.
        let unwanted = self.captured.keys().filter(|name| !self.wanted.contains(*name));
        for name in unwanted.cloned().collect::<Vec<Name>>() {
            self.leave(&name)?;
        }
        if self.wanted.is_empty() {
            return Ok(true);
        }
        let there = match self.sandboxes.ready().await {
            Ok(there) => there,
            // Those that are captured stay so: it is the runtime that is away, not they.
            Err(failure) => {
                self.trouble(None, failure.to_string());
                return Ok(false);
            }
        };
        self.troubles.remove(&None);
        let gone = |(name, captured): &(&Name, &Captured)| there.get(*name) != Some(&captured.sandbox);
        let gone: Vec<Name> = self.captured.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.leave(&name)?;
        }
        let missing: Vec<Name> =
            self.wanted.iter().filter(|name| !self.captured.contains_key(*name)).cloned().collect();
        let mut have_all = true;
        for name in missing {
            let Some(sandbox) = there.get(&name) else {
                have_all = false;
                continue;
            };
            match self.enter(&name, sandbox).await {
                Ok(()) => {
                    self.troubles.remove(&Some(name.clone()));
                    eprintln!("sextant mesh: serves pod {name}");
                }
                // What has failed will hardly be another thing at once.
                Err(failure) => {
                    let text = format!("pod {name} is not served: {failure}");
                    self.trouble(Some(name), text);
                }
            }
        }
        Ok(have_all)
    }

    /// Says what is wrong, once.
    fn trouble(&mut self, name: Option<Name>, text: String) {
        if self.troubles.get(&name) != Some(&text) {
            eprintln!("sextant mesh: warning: {text}; tries again");
            self.troubles.insert(name, text);
        }
    }

    async fn enter(&mut self, name: &Name, sandbox: &str) -> Result<()> {
        let netns = self.sandboxes.netns(sandbox).await?;
        let say = || format!("open its network namespace {}", netns.display());
        let file = File::open(&netns).context(say)?;
        let inode = file.metadata().context(say)?.ino();
        if inode == self.home {
            return Err(Failure::new("it has the node's network, which is everybody's"));
        }
        let (family, table) = (FAMILY.to_string(), self.names.kept.clone());
        let record = self.owner.record(Effect::NetnsTable { netns, inode, family, table })?;
        let kept = Kept { inode, record };
        let begun =
            Capture::begin(&file, &self.names).map_err(Failure::from).and_then(|(capture, listeners)| {
                let network = Network(self.last + 1);
                let namespace = name.namespace.clone();
                let pod = Pod { network, namespace, netns: file.into(), listeners };
                self.known.enters(network, name);
                self.serving
                    .enter(pod)
                    .context(|| "serve it".into())
                    .inspect_err(|_| self.known.is_over(network))?;
                Ok((network, capture))
            });
        match begun {
            Ok((network, capture)) => {
                self.last += 1;
                let captured = Captured { sandbox: sandbox.to_owned(), network, kept, capture };
                self.captured.insert(name.clone(), captured);
                Ok(())
            }
            Err(failure) => {
                self.forget(kept);
                Err(failure)
            }
        }
    }

    /// New connections of a pod go their own way.
    fn leave(&mut self, name: &Name) -> Result<()> {
        let Some(Captured { network, kept, capture, .. }) = self.captured.remove(name) else { return Ok(()) };
        // Before nobody accepts what they lead there.
        drop(capture);
        self.leaving.insert(network, kept);
        self.known.leaves(network);
        eprintln!("sextant mesh: serves pod {name} no more");
        self.serving.leave(network).context(|| "tell who serves pods of a change".into())
    }

    /// Nothing of a pod that has left is open any more.
    pub(super) fn over(&mut self, network: Network) {
        if let Some(kept) = self.leaving.remove(&network) {
            self.known.is_over(network);
            self.forget(kept);
        }
    }

    /// Deletes the table that keeps connections, unless others of the same namespace need it: a pod that has come back before its last
    /// connection had ended.
    fn forget(&mut self, kept: Kept) {
        let mut others =
            self.captured.values().map(|captured| captured.kept).chain(self.leaving.values().copied());
        let done = match others.any(|other| other.inode == kept.inode) {
            true => self.owner.strike(kept.record),
            false => self.owner.undo(kept.record),
        };
        if let Err(error) = done {
            eprintln!("sextant mesh: warning: {error}");
        }
    }

    /// Lets go of all pods, and has connections whose requests are read end after the request that they have.
    pub(super) fn leave_all(&mut self) {
        let names: Vec<Name> = self.captured.keys().cloned().collect();
        // Who serves pods may be the one that has ended: then there is no connection either.
        for name in names {
            let _ended = self.leave(&name);
        }
        let _ended = self.serving.drain();
    }

    /// Whether pods that have left still have connections.
    pub(super) fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Ends what is open, and then what keeps it.
    pub(super) fn end(self) {
        let Self { serving, owner, .. } = self;
        drop(serving);
        for error in owner.undo_all() {
            eprintln!("sextant mesh: warning: {error}");
        }
    }
}
