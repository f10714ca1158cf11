//! Which pods are captured: those of this node that the model says are members, while their sandboxes are ready.

mod told;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use kernel::netlink::{Protocol, Socket, addresses};
use ledger::{Effect, Owner, Record as _, RecordId};
use mesh::capture::{self, Capture, FAMILY, Names, RETURNING};
use mesh::identity::{Certificates, Identity};
use mesh::node::{Node, Pod};
use mesh::proxy::{Network, Tables};
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode};

use super::known::Known;
use super::sandboxes::Sandboxes;
use crate::failure::{Context, Failure, Result};
use told::Awaited;

/// All of it. What it has made in pods is on record before it is made.
pub(super) struct Members {
    serving: Node,
    owner: Owner,
    names: Names,
    sandboxes: Sandboxes,
    /// What members prove who they are with. Without it they are known to nobody, and what comes to them is nobody's business.
    certificates: Option<Arc<Certificates>>,
    /// The node's name.
    node: String,
    /// Members among its pods.
    wanted: BTreeMap<Name, Wanted>,
    captured: BTreeMap<Name, Captured>,
    /// Pods that are captured no more, until their last connection has ended.
    leaving: BTreeMap<Network, Kept>,
    /// The number of the last one that was captured.
    last: u64,
    /// The inode of the node's own network namespace.
    home: u64,
    /// What a process before this one has left in pods that it may have closed: it goes when all members are captured anew.
    old: Vec<(RecordId, u64)>,
    /// What was told of a pod, or under no name of the runtime, and is not over.
    troubles: BTreeMap<Option<Name>, String>,
    /// Who is told of pods, for people.
    known: Known,
}

/// A member.
struct Wanted {
    identity: String,
    /// Not everybody may come to it.
    is_guarded: bool,
}

struct Captured {
    sandbox: String,
    network: Network,
    kept: Kept,
    netns: File,
    /// Whether it is closed for when nobody serves it, once that is known.
    is_closed: Option<bool>,
    /// Somebody has told of it, and the runtime does not list it yet.
    awaited: Option<Awaited>,
    /// The rules, which go with it.
    capture: Capture,
}

/// The table that keeps connections of a network namespace translated.
#[derive(Debug, Clone, Copy)]
struct Kept {
    inode: u64,
    record: RecordId,
    /// Of what brings answers back to who connects for others, where that is needed.
    returning: Option<RecordId>,
}

impl Members {
    /// Without `certificates`, what one before this has left is gone already.
    pub(super) fn new(
        serving: Node,
        owner: Owner,
        (names, sandboxes, node): (Names, Sandboxes, String),
        certificates: Option<Arc<Certificates>>,
        known: Known,
    ) -> Result<Self> {
        if let Some(certificates) = &certificates {
            serving.identify(certificates.clone()).context(|| "tell who serves pods of a change".into())?;
        }
        let path = "/proc/thread-self/ns/net";
        let home = std::fs::metadata(path).context(|| format!("look at {path}"))?.ino();
        let old = owner.records().into_iter().filter_map(|(id, effect)| Some((id, namespace(&effect)?)));
        let old = old.collect();
        Ok(Self {
            serving,
            owner,
            names,
            sandboxes,
            certificates,
            node,
            old,
            wanted: BTreeMap::new(),
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
                let is_ours = workload.node.as_deref() == Some(&*self.node);
                if is_ours && workload.mode != Mode::Outside {
                    some = true;
                    let is_guarded = workload.mode == Mode::Strict || !workload.policies.is_empty();
                    let wanted = Wanted { identity: workload.identity.clone(), is_guarded };
                    self.wanted.insert(name.clone(), wanted);
                } else {
                    some |= self.wanted.remove(name).is_some();
                }
            }
        }
        for key in &delta.removed {
            if let Key::Workload(name) = key {
                some |= self.wanted.remove(name).is_some();
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
        self.troubles.retain(|name, _| name.as_ref().is_none_or(|name| self.wanted.contains_key(name)));
        // Who is no member any more is let go whether or not the runtime is there.
        let unwanted = self.captured.keys().filter(|name| !self.wanted.contains_key(*name));
        for name in unwanted.cloned().collect::<Vec<Name>>() {
            self.leave(&name, true)?;
        }
        if self.wanted.is_empty() {
            self.forget_old();
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
        self.listed(&there);
        let gone = |(name, captured): &(&Name, &Captured)| {
            captured.awaited.is_none() && there.get(*name) != Some(&captured.sandbox)
        };
        let gone: Vec<Name> = self.captured.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            // A member whose sandbox is not ready, or another, is still to be guarded.
            self.leave(&name, false)?;
        }
        let missing: Vec<Name> =
            self.wanted.keys().filter(|name| !self.captured.contains_key(*name)).cloned().collect();
        let (mut have_all, mut is_served) = (true, true);
        for name in missing {
            let Some(sandbox) = there.get(&name) else {
                have_all = false;
                continue;
            };
            // Nobody is led here before it can be told who it is: it would reach no other member. When there is a certificate, this is asked again.
            if !self.is_proved(&name) {
                is_served = false;
                continue;
            }
            match self.enter(&name, sandbox).await {
                Ok(()) => {
                    self.troubles.remove(&Some(name.clone()));
                    eprintln!("sextant mesh: serves pod {name}");
                }
                // What has failed will hardly be another thing at once.
                Err(failure) => {
                    let text = format!("pod {name} is not served: {failure}");
                    self.trouble(Some(name), text);
                    is_served = false;
                }
            }
        }
        self.guard();
        if have_all && is_served {
            self.forget_old();
        }
        Ok(have_all)
    }

    /// Sees that pods to which not everybody may come are closed for when nobody serves them, and others are not.
    fn guard(&mut self) {
        if self.certificates.is_none() {
            return;
        }
        let mut troubles = Vec::new();
        for (name, captured) in &mut self.captured {
            let Some(wanted) = self.wanted.get(name) else { continue };
            if captured.is_closed == Some(wanted.is_guarded) {
                continue;
            }
            let done = match wanted.is_guarded {
                true => own_addresses().and_then(|node| {
                    capture::close(&captured.netns, &self.names, &node).map_err(Failure::from)
                }),
                false => capture::open(&captured.netns, &self.names).map_err(Failure::from),
            };
            match done {
                Ok(()) => {
                    if wanted.is_guarded || captured.is_closed.is_some() {
                        let word = if wanted.is_guarded { "closed" } else { "open" };
                        eprintln!("sextant mesh: pod {name} is {word} to others for when nobody serves it");
                    }
                    captured.is_closed = Some(wanted.is_guarded);
                }
                Err(failure) => troubles.push((name.clone(), failure)),
            }
        }
        for (name, failure) in troubles {
            let text = format!("pod {name} is not guarded while nobody serves it: {failure}");
            self.trouble(Some(name), text);
        }
    }

    /// Takes away what one before this has left and nobody needs.
    fn forget_old(&mut self) {
        for (record, inode) in std::mem::take(&mut self.old) {
            self.forget(Kept { inode, record, returning: None });
        }
    }

    /// Says what is wrong, once.
    fn trouble(&mut self, name: Option<Name>, text: String) {
        if self.troubles.get(&name) != Some(&text) {
            eprintln!("sextant mesh: warning: {text}; tries again");
            self.troubles.insert(name, text);
        }
    }

    /// Whether there is what proves who a member is, where that is asked for.
    fn is_proved(&self, name: &Name) -> bool {
        let Some(certificates) = &self.certificates else { return true };
        let identity = self.wanted.get(name).and_then(|wanted| Identity::parse(&wanted.identity).ok());
        identity.is_some_and(|identity| certificates.has(&identity, SystemTime::now()))
    }

    async fn enter(&mut self, name: &Name, sandbox: &str) -> Result<()> {
        let netns = self.sandboxes.netns(sandbox).await?;
        let file =
            File::open(&netns).context(|| format!("open its network namespace {}", netns.display()))?;
        self.enter_at(name, sandbox, netns, file)
    }

    /// The same, where it is known where the sandbox's network namespace is.
    fn enter_at(&mut self, name: &Name, sandbox: &str, netns: PathBuf, file: File) -> Result<()> {
        let say = || format!("look at its network namespace {}", netns.display());
        let inode = file.metadata().context(say)?.ino();
        if inode == self.home {
            return Err(Failure::new("it has the node's network, which is everybody's"));
        }
        let (family, table) = (FAMILY.to_string(), self.names.kept.clone());
        let node = match &self.certificates {
            Some(_) => Some(own_addresses()?),
            None => None,
        };
        let table = Effect::NetnsTable { netns: netns.clone(), inode, family, table };
        let record = self.owner.record(table)?;
        let mut kept = Kept { inode, record, returning: None };
        if node.is_some() {
            let returning =
                Effect::NetnsReturn { netns, inode, mark: RETURNING.mark, table: RETURNING.table };
            kept.returning = Some(self.owner.record(returning)?);
        }
        let begun = Capture::begin(&file, &self.names, node.as_deref()).map_err(Failure::from).and_then(
            |(capture, listeners)| {
                let network = Network(self.last + 1);
                let netns = file.try_clone().context(|| "keep its network namespace".into())?;
                let pod = Pod { network, name: name.clone(), netns: file.into(), listeners };
                self.known.enters(network, name);
                self.serving
                    .enter(pod)
                    .context(|| "serve it".into())
                    .inspect_err(|_| self.known.is_over(network))?;
                Ok((network, capture, netns))
            },
        );
        match begun {
            Ok((network, capture, netns)) => {
                self.last += 1;
                let sandbox = sandbox.to_owned();
                let (is_closed, awaited) = (None, None);
                let captured = Captured { sandbox, network, kept, netns, is_closed, awaited, capture };
                self.captured.insert(name.clone(), captured);
                Ok(())
            }
            Err(failure) => {
                self.forget(kept);
                Err(failure)
            }
        }
    }

    /// New connections of a pod go their own way. One that was closed is open then, or when its last connection has ended.
    fn leave(&mut self, name: &Name, opens: bool) -> Result<()> {
        let Some(captured) = self.captured.remove(name) else { return Ok(()) };
        let Captured { network, kept, capture, netns, is_closed, .. } = captured;
        // Outside the mesh nobody stands before it. What one before this has closed, and this has not looked at yet, is closed, too.
        if opens
            && is_closed != Some(false)
            && self.certificates.is_some()
            && let Err(error) = capture::open(&netns, &self.names)
        {
            eprintln!("sextant mesh: warning: pod {name} stays closed to others: {error}");
        }
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
    /// connection had ended, or one that may have been closed before this process began, and is not to be opened because it cannot be served.
    fn forget(&mut self, kept: Kept) {
        let mut others =
            self.captured.values().map(|captured| captured.kept).chain(self.leaving.values().copied());
        let is_needed = others.any(|other| other.inode == kept.inode)
            || self.old.iter().any(|(_, inode)| *inode == kept.inode);
        for record in [Some(kept.record), kept.returning].into_iter().flatten() {
            let done = if is_needed { self.owner.strike(record) } else { self.owner.undo(record) };
            if let Err(error) = done {
                eprintln!("sextant mesh: warning: {error}");
            }
        }
    }

    /// Lets go of all pods, and has connections whose requests are read end after the request that they have.
    pub(super) fn leave_all(&mut self) {
        let names: Vec<Name> = self.captured.keys().cloned().collect();
        // Who serves pods may be the one that has ended: then there is no connection either.
        for name in names {
            let _ended = self.leave(&name, true);
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

/// The network namespace in which an effect is, by its inode.
fn namespace(effect: &Effect) -> Option<u64> {
    match effect {
        Effect::NetnsTable { inode, .. } | Effect::NetnsReturn { inode, .. } => Some(*inode),
        _ => None,
    }
}

/// The node's own addresses, which probes of its pods come from.
fn own_addresses() -> Result<Vec<IpAddr>> {
    let all = addresses(&mut Socket::open(Protocol::Route)?, None)?;
    let mut own: Vec<IpAddr> = all.iter().map(|address| address.net.address()).collect();
    own.retain(|address| !address.is_loopback());
    own.sort_unstable();
    own.dedup();
    Ok(own)
}
