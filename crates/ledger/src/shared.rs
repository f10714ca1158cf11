//! What several owners use together: one folder a name, `node/<name>/`, with `effects` and one file a user.
//!
//! Joining: `uses` recorded by the owner, lock the name, make (records, effects), enter `users/<owner>`.
//! Leaving: lock the name, remove `users/<owner>`, the last undoes the effects and removes the folder, strike `uses`.
//! So a user entry means "completely made", and whoever has a `uses` record but no entry has nothing to lose.

use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::folder::{self, Lock, Locked, Wait};
use crate::journal::{Entry, Journal};
use crate::{Effect, Error, Ledger, Make, Owner, OwnerId, Record, RecordId};

const USERS: &str = "users";

/// A shared name's records, locked.
#[derive(Debug)]
pub(crate) struct Shared {
    ledger: Ledger,
    name: String,
    path: PathBuf,
    journal: Journal,
    _lock: Lock,
}

impl Shared {
    /// Makes `owner` a user of `name`, making the effect if it has no live user.
    pub(crate) fn join(owner: &Owner, name: &str, make: Make<'_>) -> Result<(), Error> {
        let (ledger, user) = (owner.ledger(), owner.id());
        let mut shared = Self::lock(ledger, name)?;
        if shared.has_user(user)? {
            return Ok(());
        }
        if !shared.has_live_user()? {
            shared.undo_effects()?;
            if let Err(source) = make(&mut shared) {
                let undone = shared.undo_effects();
                shared.remove_if_spent()?;
                undone?;
                return Err(Error::MakeShared { name: name.to_owned(), source });
            }
        }
        ledger.inner.crash.step("before-join");
        shared.add_user(user)?;
        ledger.inner.crash.step("after-join");
        Ok(())
    }

    /// Makes `user` no user of `name`; the last to leave undoes the effect.
    pub(crate) fn leave(ledger: &Ledger, user: &OwnerId, name: &str) -> Result<(), Error> {
        let Some(mut shared) = Self::lock_existing(ledger, name, Wait::Yes)? else { return Ok(()) };
        ledger.inner.crash.step("before-leave");
        shared.remove_user(user.as_str())?;
        ledger.inner.crash.step("after-leave");
        shared.settle()
    }

    /// Takes back the shared effects that have no live user; those that are locked are being looked after.
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
        let unused = names.into_iter().filter(|name| !looks_used(ledger, &root.join(name).join(USERS)));
        let settle = |name: OwnerId| match Self::lock_existing(ledger, name.as_str(), Wait::No) {
            Ok(Some(mut shared)) => shared.settle().err(),
            Ok(None) => None,
            Err(e) => Some(e),
        };
        unused.filter_map(settle).collect()
    }

    fn settle(&mut self) -> Result<(), Error> {
        if self.has_live_user()? {
            return Ok(());
        }
        self.undo_effects()?;
        self.remove_if_spent()
    }

    fn lock(ledger: &Ledger, name: &str) -> Result<Self, Error> {
        let name = shared_name(name)?;
        let root = node(ledger);
        match folder::lock(&root, &name, Wait::Yes)? {
            Some(dir) => Self::open(ledger, name, dir),
            None => Err(Error::access("lock", root.join(name), Errno::WOULDBLOCK)),
        }
    }

    fn lock_existing(ledger: &Ledger, name: &str, wait: Wait) -> Result<Option<Self>, Error> {
        let name = shared_name(name)?;
        match folder::lock_existing(&node(ledger).join(&name), wait)? {
            Locked::Yes(dir) => Self::open(ledger, name, dir).map(Some),
            Locked::No | Locked::Gone => Ok(None),
        }
    }

    fn open(ledger: &Ledger, name: String, lock: Lock) -> Result<Self, Error> {
        let path = node(ledger).join(&name);
        let journal = Journal::open(lock.dir(&path)?, &path, false)?;
        let mut shared = Self { ledger: ledger.clone(), name, path, journal, _lock: lock };
        let boot = &shared.ledger.inner.boot;
        if shared.journal.boot.as_ref().is_some_and(|written| written != boot) {
            for user in shared.users()? {
                shared.remove_user(&user)?;
            }
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
        let ids: Vec<u64> = self.journal.live.keys().rev().copied().collect();
        for id in ids {
            errors.extend(self.undo(RecordId(id)).err());
        }
        if errors.is_empty() { Ok(()) } else { Err(Error::UndoShared { name: self.name.clone(), errors }) }
    }

    fn remove_if_spent(&mut self) -> Result<(), Error> {
        if !self.journal.live.is_empty() {
            return Ok(());
        }
        folder::remove(&self.path.join(USERS))?;
        self.ledger.inner.crash.step("before-remove-shared");
        self.journal.clear()?;
        folder::remove(&self.path)?;
        remove_node(&self.ledger)
    }

    fn users(&self) -> Result<Vec<String>, Error> {
        let mut users = Vec::new();
        look_through(&self.path.join(USERS), |user| {
            users.push(user.to_owned());
            Ok(false)
        })?;
        Ok(users)
    }

    fn has_user(&self, user: &OwnerId) -> Result<bool, Error> {
        exists(&self.path.join(USERS).join(user))
    }

    /// Looks for one user whose records are still there, dropping the stale ones it meets on the way.
    fn has_live_user(&self) -> Result<bool, Error> {
        look_through(&self.path.join(USERS), |user| {
            let known = OwnerId::new(user).is_ok();
            if known && exists(&self.ledger.inner.run.join(user))? {
                return Ok(true);
            }
            self.remove_user(user)?;
            Ok(false)
        })
    }

    fn add_user(&self, user: &OwnerId) -> Result<(), Error> {
        let users = self.path.join(USERS);
        folder::make(&self.path, &users)?;
        let path = users.join(user);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::access("create", path, e)),
        }
    }

    fn remove_user(&self, user: &str) -> Result<(), Error> {
        let path = self.path.join(USERS).join(user);
        match rustix::fs::unlinkat(rustix::fs::CWD, &path, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::access("remove", path, e)),
        }
    }
}

impl Record for Shared {
    fn record(&mut self, effect: Effect) -> Result<RecordId, Error> {
        effect.check()?;
        let id = self.journal.next;
        let ledger = self.ledger.clone();
        self.journal.record(id, &effect, &ledger.inner.boot, &ledger.inner.crash)?;
        Ok(RecordId(id))
    }

    fn undo(&mut self, id: RecordId) -> Result<(), Error> {
        self.ledger.inner.crash.step("before-undo");
        match self.journal.live.get(&id.0) {
            None => return Ok(()),
            Some(Entry::Known(effect)) => effect.undo()?,
            Some(Entry::Newer(record)) => {
                return Err(Error::UndoUnknown {
                    path: self.journal.path().to_owned(),
                    record: record.clone(),
                });
            }
        }
        let ledger = self.ledger.clone();
        self.journal.strike(id.0, &ledger.inner.boot, &ledger.inner.crash)
    }

    fn share(&mut self, name: &str, _make: Make<'_>) -> Result<(), Error> {
        Err(Error::NestShare { name: name.to_owned(), within: self.name.clone() })
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
        Locked::Yes(_lock) => folder::remove(&root),
        Locked::No | Locked::Gone => Ok(()),
    }
}

fn node(ledger: &Ledger) -> PathBuf {
    ledger.inner.run.join(OwnerId::node())
}

fn looks_used(ledger: &Ledger, users: &Path) -> bool {
    look_through(users, |user| exists(&ledger.inner.run.join(user))).unwrap_or(false)
}

/// Whether `is` holds of one name in the directory; no more of it is read than that takes, for it has a name a user. One
/// that is not there has none.
fn look_through(path: &Path, mut is: impl FnMut(&str) -> Result<bool, Error>) -> Result<bool, Error> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(false),
        opened => opened.map_err(|e| Error::access("list", path, e))?,
    };
    // A name is at most 255 bytes long.
    let mut buffer = [MaybeUninit::uninit(); 512];
    let mut entries = RawDir::new(&dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|e| Error::access("list", path, e))?;
        let name = entry.file_name().to_str().ok().filter(|name| !matches!(*name, "." | ".."));
        if name.map_or(Ok(false), &mut is)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn exists(path: &Path) -> Result<bool, Error> {
    match rustix::fs::lstat(path) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(Error::access("stat", path, e)),
    }
}
