//! Which pods are captured: those of this node that the model says are members, from when somebody tells of their sandboxes, or the runtime lists them as
//! ready, until they are not; and which are closed meanwhile.

mod datagrams;
mod guard;
mod sources;
mod told;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use ledger::{Effect, Owner, Record as _, RecordId};
use mesh::capture::{self, Capture, FAMILY, Names, RETURNING};
use mesh::datagrams::Admissions;
use mesh::identity::{Certificates, Identity};
use mesh::node::{Node, Pod};
use mesh::proxy::{Network, Tables};
use smi::contract::Name;
use smi::model::{Delta, Entry, Key, Mode};

use super::known::Known;
use super::sandboxes::{Found, Sandboxes};
use crate::failure::{Context, Failure, Result};
use datagrams::Datagrams;
use guard::{Barred, own_addresses};
use sources::Sources;
use told::Awaited;

/// What the runtime has told, and who has asked it.
pub(super) type Answer = (Sandboxes, Result<Found>);
/// An answer that is not there yet.
pub(super) type Asking = Pin<Box<dyn Future<Output = Answer>>>;

/// All of it. What it has made in pods is on record before it is made.
pub(super) struct Members {
    serving: Node,
    owner: Owner,
    names: Names,
    /// Who asks the runtime, unless it is being asked.
    sandboxes: Option<Sandboxes>,
    /// What members prove who they are with. Without it they are known to nobody, and what comes to them is nobody's business.
    certificates: Option<Arc<Certificates>>,
    /// The node's name.
    node: String,
    /// Members among its pods.
    wanted: BTreeMap<Name, Wanted>,
    /// From whom members take datagrams.
    admissions: Admissions,
    /// From where members may send.
    sources: Sources,
    captured: BTreeMap<Name, Captured>,
    /// Members that are closed, because they cannot be served yet and not everybody may come to them.
    barred: BTreeMap<Name, Barred>,
    /// Pods that are captured no more, until their last connection has ended.
    leaving: BTreeMap<Network, Kept>,
    /// The number of the last one that was captured.
    last: u64,
    /// The inode of the node's own network namespace.
    home: u64,
    /// What a process before this one has left in pods that it may have closed: it goes when no member needs it to stay closed.
    old: Vec<Left>,
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
    netns: Arc<File>,
    /// Whether it is closed for when nobody serves it, once that is known.
    is_closed: Option<bool>,
    /// From whom it takes datagrams now.
    datagrams: Datagrams,
    /// Where its links end.
    links: sources::Links,
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
    /// Of the table that admits datagrams, where there may be one.
    datagrams: Option<RecordId>,
    /// Of what brings answers back to who connects for others, where that is needed.
    returning: Option<RecordId>,
    /// Of values of the namespace that are others meanwhile.
    settings: [Option<RecordId>; 2],
}

/// What a process before this one has left in a network namespace.
#[derive(Debug, Clone, Copy)]
struct Left {
    inode: u64,
    record: RecordId,
    /// It is what brings answers back.
    is_returning: bool,
}

/// What of a network namespace is needed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needs {
    /// The tables and the values.
    kept: bool,
    /// What brings answers back, which who is closed only does not have.
    returning: bool,
}

impl Needs {
    fn of(inode: u64, others: impl Iterator<Item = Kept>, old: &[Left]) -> Self {
        // What was left there may be of any kind.
        let is_old = old.iter().any(|left| left.inode == inode);
        let start = Self { kept: is_old, returning: is_old };
        others.filter(|other| other.inode == inode).fold(start, |needs, other| Self {
            kept: true,
            returning: needs.returning || other.returning.is_some(),
        })
    }
}

impl Members {
    /// Without `certificates`, what one before this has left is gone already. With `checks_sources` members may send from their own addresses alone.
    pub(super) fn new(
        serving: Node,
        mut owner: Owner,
        (names, sandboxes, node): (Names, Sandboxes, String),
        (certificates, checks_sources): (Option<Arc<Certificates>>, bool),
        known: Known,
    ) -> Result<Self> {
        if let Some(certificates) = &certificates {
            serving.identify(certificates.clone()).context(|| "tell who serves pods of a change".into())?;
        }
        let path = "/proc/thread-self/ns/net";
        let home = std::fs::metadata(path).context(|| format!("look at {path}"))?.ino();
        let old = owner.records().into_iter().filter_map(|(record, effect)| {
            let is_returning = matches!(effect, Effect::NetnsReturn { .. });
            Some(Left { inode: namespace(&effect)?, record, is_returning })
        });
        // What was recorded last goes first.
        let old = old.rev().collect();
        let sources = Sources::new(&names.sources, checks_sources, &mut owner);
        Ok(Self {
            serving,
            owner,
            names,
            sandboxes: Some(sandboxes),
            certificates,
            node,
            old,
            wanted: BTreeMap::new(),
            admissions: Admissions::default(),
            sources,
            captured: BTreeMap::new(),
            barred: BTreeMap::new(),
            leaving: BTreeMap::new(),
            last: 0,
            home,
            troubles: BTreeMap::new(),
            known,
        })
    }

    /// Takes note of who is a member on this node now: a control plane tells of members elsewhere, too. Whether something has changed for a pod.
    pub(super) fn take(&mut self, delta: &Delta) -> bool {
        self.admissions.take(delta);
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

    /// Lets go of who is no member any more, and guards who is, whether or not the runtime is there.
    ///
    /// # Errors
    /// Nobody serves pods any more.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.troubles.retain(|name, _| name.as_ref().is_none_or(|name| self.wanted.contains_key(name)));
        let unwanted = self.captured.keys().filter(|name| !self.wanted.contains_key(*name));
        for name in unwanted.cloned().collect::<Vec<Name>>() {
            self.leave(&name, true)?;
        }
        self.unbar(|members, name| !members.is_guarded(name));
        self.guard();
        if self.wanted.is_empty() {
            self.forget_old();
        }
        Ok(())
    }

    /// Asks the runtime for sandboxes of members, which may take as long as it likes; [`found`](Self::found) takes the answer. None if there are no
    /// members, or it is being asked.
    pub(super) fn ask(&mut self) -> Option<Asking> {
        let known = |name: &Name| {
            let captured = self.captured.get(name).map(|captured| &captured.sandbox);
            captured.or_else(|| self.barred.get(name).map(|barred| &barred.sandbox)).cloned()
        };
        // Who is neither served nor barred yet, though there is its sandbox, is looked at when there is its certificate.
        let is_asked = |name: &Name, known: &Option<String>| {
            known.is_some() || self.is_proved(name) || self.is_guarded(name)
        };
        let all = self.wanted.keys().map(|name| (name.clone(), known(name)));
        let wanted: BTreeMap<Name, Option<String>> =
            all.filter(|(name, known)| is_asked(name, known)).collect();
        if self.wanted.is_empty() {
            return None;
        }
        let mut sandboxes = self.sandboxes.take()?;
        Some(Box::pin(async move {
            let found = sandboxes.find(&wanted).await;
            (sandboxes, found)
        }))
    }

    /// Captures the members that have a sandbox, and lets go of those whose sandbox is gone; whether each member has one.
    ///
    /// # Errors
    /// Nobody serves pods any more.
    pub(super) fn found(&mut self, (sandboxes, found): Answer) -> Result<bool> {
        self.sandboxes = Some(sandboxes);
        let Found { ready, mut netns } = match found {
            Ok(found) => found,
            // Those that are captured stay so: it is the runtime that is away, not they.
            Err(failure) => {
                self.trouble(None, failure.to_string());
                return Ok(false);
            }
        };
        self.troubles.remove(&None);
        self.listed(&ready);
        let gone = |(name, captured): &(&Name, &Captured)| {
            captured.awaited.is_none() && ready.get(*name) != Some(&captured.sandbox)
        };
        let gone: Vec<Name> = self.captured.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            // A member whose sandbox is not ready, or another, is still to be guarded.
            self.leave(&name, false)?;
        }
        let gone = |(name, barred): &(&Name, &Barred)| ready.get(*name) != Some(&barred.sandbox);
        let gone: Vec<Name> = self.barred.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in gone {
            self.pass(&name);
        }
        let missing: Vec<Name> =
            self.wanted.keys().filter(|name| !self.captured.contains_key(*name)).cloned().collect();
        let mut have_all = true;
        for name in missing {
            let Some(sandbox) = ready.get(&name) else {
                have_all = false;
                continue;
            };
            // Nobody is led here before it can be told who it is: it would reach no other member. When there is a certificate, this is asked again.
            let is_proved = self.is_proved(&name);
            let known = self.barred.get(&name).map(|barred| barred.path.clone());
            let path = match known.map(Ok).or_else(|| netns.remove(sandbox)) {
                Some(Ok(path)) => path,
                Some(Err(failure)) => {
                    self.trouble(Some(name.clone()), format!("pod {name} is not served: {failure}"));
                    continue;
                }
                // It is to be served, or guarded, only since the runtime was asked.
                None => {
                    have_all &= !(is_proved || self.is_guarded(&name));
                    continue;
                }
            };
            self.serve(&name, sandbox, &path, is_proved);
        }
        self.guard();
        // What one before this has closed stays so until this has, and what it has said of senders' addresses until somebody is there whose they are.
        // Whoever has no sandbox has nothing that could be open.
        let is_empty = self.captured.is_empty() && self.barred.is_empty();
        let waits = |name: &Name| {
            let is_entered = self.captured.contains_key(name) || self.barred.contains_key(name);
            let is_needed = self.is_guarded(name) || is_empty && !self.is_proved(name);
            is_needed && ready.contains_key(name) && !is_entered
        };
        if !self.wanted.keys().any(waits) {
            self.forget_old();
        }
        Ok(have_all)
    }

    /// Captures a member, or bars it if that cannot be, and says so.
    fn serve(&mut self, name: &Name, sandbox: &str, path: &Path, is_proved: bool) {
        let mut troubles = Vec::new();
        if is_proved {
            match self.enter(name, sandbox, path) {
                Ok(()) => {
                    self.pass(name);
                    self.troubles.remove(&Some(name.clone()));
                    eprintln!("sextant mesh: serves pod {name}");
                    return;
                }
                // What has failed will hardly be another thing at once.
                Err(failure) => troubles.push(format!("pod {name} is not served: {failure}")),
            }
        }
        if let Err(failure) = self.bar(name, sandbox, path) {
            troubles.push(format!("pod {name} is open to others while it cannot be served: {failure}"));
        }
        match troubles.is_empty() {
            true => drop(self.troubles.remove(&Some(name.clone()))),
            false => self.trouble(Some(name.clone()), troubles.join("; ")),
        }
    }

    /// Takes away what one before this has left and nobody needs.
    fn forget_old(&mut self) {
        for Left { inode, record, is_returning } in std::mem::take(&mut self.old) {
            let needs = self.needs(inode);
            self.let_go(record, if is_returning { needs.returning } else { needs.kept });
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

    /// A network namespace that is not the node's own, and its inode.
    fn namespace_at(&self, path: &Path) -> Result<(File, u64)> {
        let file = File::open(path).context(|| format!("open its network namespace {}", path.display()))?;
        let inode = self.inode_of(&file, path)?;
        Ok((file, inode))
    }

    fn inode_of(&self, file: &File, path: &Path) -> Result<u64> {
        let found =
            file.metadata().context(|| format!("look at its network namespace {}", path.display()))?;
        if found.ino() == self.home {
            return Err(Failure::new("it has the node's network, which is everybody's"));
        }
        Ok(found.ino())
    }

    /// Puts on record that a namespace has the table which keeps connections, and, where it can be told who comes, that it may have the one which admits
    /// datagrams.
    fn keep(&mut self, path: &Path, inode: u64) -> Result<Kept> {
        let of = |table: &str| {
            let (netns, family, table) = (path.to_owned(), FAMILY.to_string(), table.to_owned());
            Effect::NetnsTable { netns, inode, family, table }
        };
        let record = self.owner.record(of(&self.names.kept))?;
        let datagrams = match &self.certificates {
            Some(_) => Some(self.owner.record(of(&self.names.datagrams))?),
            None => None,
        };
        Ok(Kept { inode, record, datagrams, returning: None, settings: [None; 2] })
    }

    fn enter(&mut self, name: &Name, sandbox: &str, path: &Path) -> Result<()> {
        let (file, _) = self.namespace_at(path)?;
        self.enter_at(name, sandbox, path, file)
    }

    /// The same, of a namespace that is open already.
    fn enter_at(&mut self, name: &Name, sandbox: &str, path: &Path, file: File) -> Result<()> {
        let inode = self.inode_of(&file, path)?;
        let node = match &self.certificates {
            Some(_) => Some(own_addresses()?),
            None => None,
        };
        let mut kept = self.keep(path, inode)?;
        if node.is_some() {
            let (netns, mark, table) = (path.to_owned(), RETURNING.mark, RETURNING.table);
            kept.returning = Some(self.owner.record(Effect::NetnsReturn { netns, inode, mark, table })?);
        }
        let begun = self
            .prepare(&file, path, &mut kept)
            .and_then(|()| Capture::begin(&file, &self.names, node.as_deref()).map_err(Failure::from))
            .and_then(|(capture, listeners)| {
                let network = Network(self.last + 1);
                let netns = file.try_clone().context(|| "keep its network namespace".into())?;
                let pod = Pod { network, name: name.clone(), netns: file.into(), listeners };
                self.known.enters(network, name);
                self.serving
                    .enter(pod)
                    .context(|| "serve it".into())
                    .inspect_err(|_| self.known.is_over(network))?;
                Ok((network, capture, netns))
            });
        match begun {
            Ok((network, capture, netns)) => {
                self.last += 1;
                let sandbox = sandbox.to_owned();
                let (is_closed, awaited) = (None, None);
                let (datagrams, links) = (Datagrams::default(), self.ends_of(name, &netns));
                let netns = Arc::new(netns);
                let captured =
                    Captured { sandbox, network, kept, netns, is_closed, datagrams, links, awaited, capture };
                self.captured.insert(name.clone(), captured);
                Ok(())
            }
            Err(failure) => {
                self.forget(kept);
                Err(failure)
            }
        }
    }

    /// Has connections of a pod kept that are open, those from before included, when its rules come.
    fn prepare(&mut self, file: &File, path: &Path, kept: &mut Kept) -> Result<()> {
        let settings = capture::keep(file, &self.names)?;
        let known = self.owner.records();
        for (record, setting) in kept.settings.iter_mut().zip(&settings) {
            // What is there may be of this, or of one before it: on record is what was there before both.
            let before = known.iter().find_map(|(_, effect)| match effect {
                Effect::NetnsSysctl { inode, name, value, .. }
                    if *inode == kept.inode && name == setting.name =>
                {
                    Some(value.clone())
                }
                _ => None,
            });
            let effect = Effect::NetnsSysctl {
                netns: path.to_owned(),
                inode: kept.inode,
                name: setting.name.into(),
                value: before.unwrap_or_else(|| setting.before.clone()),
            };
            *record = Some(self.owner.record(effect)?);
        }
        capture::set(file, &settings).map_err(Failure::from)
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
        if opens && self.certificates.is_some() {
            self.admit_all(name, &netns);
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
        let needs = self.needs(kept.inode);
        // The table says what values were, to another mesh that finds them set.
        for record in kept.settings.into_iter().flatten() {
            self.let_go(record, needs.kept);
        }
        for record in [Some(kept.record), kept.datagrams].into_iter().flatten() {
            self.let_go(record, needs.kept);
        }
        if let Some(record) = kept.returning {
            self.let_go(record, needs.returning);
        }
    }

    /// What is needed yet of a network namespace, by who is there and what one before this has left there.
    fn needs(&self, inode: u64) -> Needs {
        let served = self.captured.values().map(|captured| captured.kept);
        let barred = self.barred.values().map(|barred| barred.kept);
        Needs::of(inode, served.chain(barred).chain(self.leaving.values().copied()), &self.old)
    }

    /// Strikes a record, and brings about its inverse first, unless others who have the same on record need what it is of.
    fn let_go(&mut self, record: RecordId, is_needed: bool) {
        let done = if is_needed { self.owner.strike(record) } else { self.owner.undo(record) };
        if let Err(error) = done {
            eprintln!("sextant mesh: warning: {error}");
        }
    }

    /// Lets go of all pods, and has connections whose requests are read end after the request that they have.
    pub(super) fn leave_all(&mut self) {
        let names: Vec<Name> = self.captured.keys().cloned().collect();
        // Who serves pods may be the one that has ended: then there is no connection either.
        for name in names {
            let _ended = self.leave(&name, true);
        }
        self.unbar(|_, _| true);
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
        Effect::NetnsTable { inode, .. }
        | Effect::NetnsReturn { inode, .. }
        | Effect::NetnsSysctl { inode, .. } => Some(*inode),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brings_answers_back_is_needed_by_those_alone_who_have_it() {
        let record = RecordId(1);
        let closed = Kept { inode: 7, record, datagrams: None, returning: None, settings: [None; 2] };
        let served = Kept { returning: Some(record), ..closed };
        let elsewhere = Kept { inode: 8, ..served };
        let left = Left { inode: 7, record, is_returning: false };
        let of = |others: &[Kept], old: &[Left]| {
            let needs = Needs::of(7, others.iter().copied(), old);
            (needs.kept, needs.returning)
        };
        assert_eq!(of(&[elsewhere], &[Left { inode: 8, ..left }]), (false, false));
        assert_eq!(of(&[elsewhere, closed], &[]), (true, false));
        assert_eq!(of(&[served, closed], &[]), (true, true));
        assert_eq!(of(&[], &[left]), (true, true));
    }
}
