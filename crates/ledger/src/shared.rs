//! What several owners use together: one folder a name, `node/<name>/`, with `effects` and [`users`](membership).
//!
//! Joining: `uses` recorded by the owner, lock the name, enter the user, then the part that is wanted (records, effects,
//! `made`), unless it is made already. Leaving: the user goes out; only if nobody is left, lock the name, and if that is so
//! still, undo the effects and remove the folder; strike `uses`. So whoever has a `uses` record but is no user has nothing to
//! lose, and what follows the last `made` is of a maker that has ended.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use crate::folder::{self, Lock, Locked, Wait};
use crate::glance::Glance;
use crate::journal::{Entry, Journal};
use crate::{Effect, Error, Ledger, Make, OwnerId, Record, RecordId, membership};

/// Who joins a shared effect: an owner, or another shared effect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) folder: membership::User<'a>,
    /// The name of the shared effect that it is, if it is one.
    pub(crate) shared: Option<&'a str>,
}

impl Glance {
    fn of_journal(journal: &Journal) -> Self {
        let uses = |entry: &Entry| match entry {
            Entry::Known(Effect::Uses { shared }) => Some(shared.clone()),
            _ => None,
        };
        Self { made: journal.made().clone(), uses: journal.live.values().filter_map(uses).collect() }
    }
}

/// A shared name's records, locked.
#[derive(Debug)]
pub(crate) struct Shared {
    ledger: Ledger,
    name: String,
    path: PathBuf,
    dir: Arc<OwnedFd>,
    journal: Journal,
    /// Another shared effect is joining it.
    within: bool,
    _lock: Lock,
}

impl Shared {
    /// Makes `user` a user of `name`, and makes `part` if it is not there. Answers with what there is for whoever has joined.
    pub(crate) fn join(user: User<'_>, name: &str, part: &str, make: Make<'_>) -> Result<Arc<Glance>, Error> {
        let (ledger, name) = (user.ledger, shared_name(name)?);
        let root = node(ledger);
        let path = root.join(&name);
        let lock = folder::lock_found(&root, &path, ledger.inner.idle.take(&name))?;
        let dir = lock.dir();
        // All is there and somebody holds it, nearly always: then the records need not be read.
        let roots = &ledger.inner;
        let glance = roots.glances.of(&dir, &path, &name, &roots.boot)?;
        if let Some(glance) = glance.filter(|glance| glance.made.contains(part))
            && membership::count(&dir, &path)? > 0
        {
            enter(user, &dir, &name)?;
            lock.keep(&roots.idle, name);
            return Ok(glance);
        }
        let mut shared = Self::open(ledger, name, lock)?;
        shared.within = user.shared.is_some();
        shared.join_anew(user, part, make)
    }

    fn join_anew(&mut self, user: User<'_>, part: &str, make: Make<'_>) -> Result<Arc<Glance>, Error> {
        let ledger = self.ledger.clone();
        if membership::count(&self.dir, &self.path)? == 0 {
            self.undo_effects()?;
            self.journal.clear()?;
            self.journal.begin(&ledger.inner.boot)?;
            membership::begin(&self.dir, &self.path)?;
        }
        let was_user = membership::is_user(&self.dir, user.folder, &self.name)?;
        enter(user, &self.dir, &self.name)?;
        if !self.journal.made().contains(part) {
            let made = self.undo(self.journal.unfinished()).and_then(|()| self.make(part, make));
            if let Err(error) = made {
                let undone = self.undo(self.journal.unfinished());
                if !was_user {
                    membership::leave(user.folder, &self.name)?;
                    self.settle()?;
                }
                undone?;
                return Err(error);
            }
        }
        Ok(Arc::new(Glance::of_journal(&self.journal)))
    }

    fn make(&mut self, part: &str, make: Make<'_>) -> Result<(), Error> {
        if let Err(source) = make(self) {
            return Err(Error::MakeShared { name: self.name.clone(), source });
        }
        let ledger = self.ledger.clone();
        self.journal.finish(part, &ledger.inner.crash)
    }

    /// Makes `user` no user of `name`; the last to leave undoes the effect.
    pub(crate) fn leave(user: User<'_>, name: &str) -> Result<(), Error> {
        let (ledger, name) = (user.ledger, shared_name(name)?);
        let path = node(ledger).join(&name);
        let open = ledger.inner.idle.take(&name);
        ledger.inner.crash.step("before-leave");
        membership::leave(user.folder, &name)?;
        ledger.inner.crash.step("after-leave");
        // That others are users can be seen without the lock: the last of them undoes the effects.
        let left =
            open.as_ref().map_or_else(|| membership::count_at(&path), |dir| membership::count(dir, &path));
        if left? > 0 {
            open.into_iter().for_each(|dir| ledger.inner.idle.keep(name.clone(), dir));
            return Ok(());
        }
        let lock = match folder::lock_kept(open, &path)? {
            Locked::Yes(lock) => lock,
            // Of a boot before, or taken away by hand or by another who has left.
            Locked::No | Locked::Gone => return Ok(()),
        };
        let mut shared = Self::open(ledger, name, lock)?;
        shared.settle()
    }

    /// Takes back the shared effects that nobody uses; those that are locked are being looked after.
    pub(crate) fn sweep(ledger: &Ledger) -> Vec<Error> {
        let root = node(ledger);
        let names = match folder::names(&root) {
            Ok(names) => names,
            Err(e) => return vec![e],
        };
        if names.is_empty() {
            // Two that let go at once may each have left it to the other.
            return remove_node(ledger).err().into_iter().collect();
        }
        // Without the lock first: at every start of every command, and nearly always somebody uses them.
        let is_used = |name: &OwnerId| membership::count_at(&root.join(name)).is_ok_and(|count| count > 0);
        let settle = |name: OwnerId| match Self::lock_existing(ledger, name.as_str(), Wait::No) {
            Ok(Some(mut shared)) => shared.settle().err(),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        names.into_iter().filter(|name| !is_used(name)).filter_map(settle).collect()
    }

    fn settle(&mut self) -> Result<(), Error> {
        if membership::count(&self.dir, &self.path)? > 0 {
            return Ok(());
        }
        self.undo_effects()?;
        self.remove_if_spent()
    }

    fn lock_existing(ledger: &Ledger, name: &str, wait: Wait) -> Result<Option<Self>, Error> {
        let name = shared_name(name)?;
        match folder::lock_existing(&node(ledger).join(&name), wait)? {
            Locked::Yes(lock) => Self::open(ledger, name, lock).map(Some),
            Locked::No | Locked::Gone => Ok(None),
        }
    }

    fn open(ledger: &Ledger, name: String, lock: Lock) -> Result<Self, Error> {
        let path = node(ledger).join(&name);
        let dir = lock.dir();
        let journal = Journal::open(Arc::clone(&dir), &path, false)?;
        let mut shared =
            Self { ledger: ledger.clone(), name, path, dir, journal, within: false, _lock: lock };
        let boot = &shared.ledger.inner.boot;
        if shared.journal.boot.as_ref().is_some_and(|written| written != boot) {
            membership::end(&shared.dir, &shared.path)?;
            let errors = shared.journal.drop_history(boot);
            if !errors.is_empty() {
                return Err(Error::UndoShared { name: shared.name.clone(), errors });
            }
        }
        shared.journal.begin(boot)?;
        Ok(shared)
    }

    fn undo_effects(&mut self) -> Result<(), Error> {
        let mut errors = self.journal.take_damage();
        let ids = self.journal.live.keys().rev().copied().collect();
        match self.undo(ids) {
            Err(Error::UndoShared { errors: more, .. }) => errors.extend(more),
            undone => errors.extend(undone.err()),
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::UndoShared { name: self.name.clone(), errors }) }
    }

    /// Undoes these, in their order, and goes on past errors.
    fn undo(&mut self, ids: Vec<u64>) -> Result<(), Error> {
        let errors: Vec<_> =
            ids.into_iter().filter_map(|id| Record::undo(self, RecordId(id)).err()).collect();
        if errors.is_empty() { Ok(()) } else { Err(Error::UndoShared { name: self.name.clone(), errors }) }
    }

    fn remove_if_spent(&mut self) -> Result<(), Error> {
        if !self.journal.live.is_empty() {
            return Ok(());
        }
        self.ledger.inner.crash.step("before-remove-shared");
        membership::end(&self.dir, &self.path)?;
        self.journal.clear()?;
        if !folder::remove(&self.path)? {
            self.journal.tidy()?;
            folder::remove(&self.path)?;
        }
        remove_node(&self.ledger)
    }

    fn folder(&self) -> membership::User<'_> {
        membership::User { dir: &self.dir, path: &self.path }
    }

    fn user(&self) -> User<'_> {
        User { ledger: &self.ledger, folder: self.folder(), shared: Some(&self.name) }
    }

    fn strike(&mut self, id: u64) -> Result<(), Error> {
        let ledger = self.ledger.clone();
        self.journal.strike(id, &ledger.inner.boot, &ledger.inner.crash)
    }
}

fn enter(user: User<'_>, dir: &OwnedFd, name: &str) -> Result<(), Error> {
    user.ledger.inner.crash.step("before-join");
    membership::enter(dir, user.folder, name)?;
    user.ledger.inner.crash.step("after-join");
    Ok(())
}

impl Record for Shared {
    fn record(&mut self, effect: Effect) -> Result<RecordId, Error> {
        effect.check()?;
        let id = self.journal.next;
        let ledger = self.ledger.clone();
        self.journal.record(id, effect, &ledger.inner.boot, &ledger.inner.crash)?;
        Ok(RecordId(id))
    }

    fn undo(&mut self, id: RecordId) -> Result<(), Error> {
        self.ledger.inner.crash.step("before-undo");
        match self.journal.live.get(&id.0) {
            None => return Ok(()),
            Some(Entry::Known(Effect::Uses { shared })) => Self::leave(self.user(), shared)?,
            Some(Entry::Known(effect)) => effect.undo()?,
            Some(Entry::Newer(record)) => {
                return Err(Error::UndoUnknown {
                    path: self.journal.path().to_owned(),
                    record: record.clone(),
                });
            }
        }
        self.strike(id.0)
    }

    fn undone(&mut self, effect: &Effect) -> Result<(), Error> {
        match self.journal.find(effect) {
            Some(id) => self.strike(id),
            None => Ok(()),
        }
    }

    fn share_part(&mut self, name: &str, part: &str, make: Make<'_>) -> Result<(), Error> {
        if self.within {
            return Err(Error::NestShare { name: name.to_owned(), within: self.name.clone() });
        }
        let uses = Effect::Uses { shared: name.to_owned() };
        let known = self.journal.find(&uses);
        let id = known.map_or_else(|| self.record(uses), |id| Ok(RecordId(id)))?;
        let joined = Self::join(self.user(), name, part, make);
        if joined.is_err() && known.is_none() && !membership::has_name(self.folder(), name) {
            // It is no user: there is nothing to leave.
            self.strike(id.0)?;
        }
        joined.map(drop)
    }
}

/// A shared name follows the rules of owners; `effects` is the node's own file.
fn shared_name(name: &str) -> Result<String, Error> {
    if name == "effects" {
        return Err(Error::NameOwner { name: name.into(), why: "it is the node's own file" });
    }
    OwnerId::new(name).map(|name| name.to_string())
}

/// `node` goes with the last name in it, unless the daemon holds its own records there.
fn remove_node(ledger: &Ledger) -> Result<(), Error> {
    let root = node(ledger);
    match folder::lock_existing(&root, Wait::No)? {
        Locked::Yes(_lock) => folder::remove(&root).map(drop),
        Locked::No | Locked::Gone => Ok(()),
    }
}

fn node(ledger: &Ledger) -> PathBuf {
    ledger.inner.run.path().join(OwnerId::node())
}
