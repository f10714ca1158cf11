use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::folder::Lock;
use crate::glance::Glance;
use crate::journal::{Entry, Journal};
use crate::kept::{self, Root};
use crate::shared::{Shared, User};
use crate::{Effect, Error, Ledger, Make, OwnerId, Record, RecordId, membership};

/// One owner's records, locked for this process.
///
/// Dropping it leaves the records (as a crash would) and releases the lock; an owner without records leaves no folder.
#[derive(Debug)]
pub struct Owner {
    ledger: Ledger,
    id: OwnerId,
    run: Journal,
    run_path: PathBuf,
    /// Opened only once there is something in it.
    data: Option<Journal>,
    data_path: PathBuf,
    next: u64,
    /// Shared effects that this process has made it a user of, and what was there of them: while it is locked, nobody takes
    /// them from it.
    joined: BTreeMap<String, Arc<Glance>>,
    leftovers: Vec<Error>,
    /// Also keeps the lock, until the journals and the folder are gone.
    lock: Lock,
}

impl Owner {
    pub(crate) fn open(ledger: Ledger, id: OwnerId, lock: Lock) -> Result<Self, Error> {
        let roots = &ledger.inner;
        let run_path = roots.run.path().join(&id);
        let data_path = roots.data.path().join(&id);
        let run = if lock.is_of_made() {
            Journal::open_made(lock.dir(), &run_path)?
        } else {
            Journal::open(lock.dir(), &run_path, false)?
        };
        let data = match roots.data.open(id.as_str())? {
            Some(dir) => Some(Journal::open(Arc::new(dir), &data_path, true)?),
            None => None,
        };
        let next = data.as_ref().map_or(run.next, |data| data.next.max(run.next));
        let (joined, leftovers) = (BTreeMap::new(), Vec::new());
        let mut owner = Self { run, data, next, joined, leftovers, run_path, data_path, id, ledger, lock };
        let history = owner.run.drop_history(&owner.ledger.inner.boot);
        owner.leftovers.extend(history);
        Ok(owner)
    }

    /// Who this is.
    pub fn id(&self) -> &OwnerId {
        &self.id
    }

    /// What is recorded and not yet undone, in the order it was recorded.
    pub fn records(&self) -> Vec<(RecordId, Effect)> {
        let mut all: Vec<_> = self.journals().flat_map(|journal| &journal.live).collect();
        all.sort_by_key(|(id, _)| **id);
        let known = all.into_iter().filter_map(|(&id, entry)| match entry {
            Entry::Known(effect) => Some((RecordId(id), effect.clone())),
            Entry::Newer(_) => None,
        });
        known.collect()
    }

    /// Whether anything is recorded.
    pub fn is_empty(&self) -> bool {
        self.journals().all(|journal| journal.live.is_empty())
    }

    /// [`Record::record`], with the record on the disk (fsync of the file and its folders) before it returns: for
    /// effects that a power cut does not undo, such as a cloud volume.
    pub fn record_durable(&mut self, effect: Effect) -> Result<RecordId, Error> {
        let id = self.write(effect, true)?;
        self.data_journal()?.sync()?;
        for path in self.ledger.inner.data.path().ancestors().take(2) {
            if let Some(dir) = kept::open(path)? {
                rustix::fs::fsync(&dir).map_err(|e| Error::access("sync", path, e))?;
            }
        }
        Ok(id)
    }

    /// Strikes a record without undoing it: its effect is gone by itself, or has passed into other hands.
    pub fn strike(&mut self, id: RecordId) -> Result<(), Error> {
        let roots = &self.ledger.inner;
        self.run.strike(id.0, &roots.boot, &roots.crash)?;
        self.data.as_mut().map_or(Ok(()), |data| data.strike(id.0, &roots.boot, &roots.crash))
    }

    /// Takes the effect `id` over from another owner. In between, a crash leaves it with both; undoing twice is
    /// harmless.
    pub fn adopt(&mut self, from: &mut Self, id: RecordId) -> Result<Option<RecordId>, Error> {
        let Some(Entry::Known(effect)) = from.find(id).cloned() else { return Ok(None) };
        let mine = self.record(effect)?;
        from.strike(id)?;
        Ok(Some(mine))
    }

    /// Undoes everything, the last first, going on past errors. What failed stays recorded.
    pub fn undo_all(mut self) -> Vec<Error> {
        let mut errors = std::mem::take(&mut self.leftovers);
        errors.extend(self.journals_mut().flat_map(Journal::take_damage));
        let mut ids: Vec<u64> = self.journals().flat_map(|journal| journal.live.keys().copied()).collect();
        ids.sort_unstable();
        for id in ids.into_iter().rev() {
            match self.bring_about_inverse(RecordId(id)) {
                Ok(()) => self.strike_later(id),
                Err(e) => errors.push(e),
            }
        }
        // Of one that owes nothing the file goes, strikes and all.
        if !self.is_empty() {
            errors.extend(self.flush().err());
        }
        errors
    }

    fn strike_later(&mut self, id: u64) {
        self.journals_mut().for_each(|journal| journal.strike_later(id));
    }

    /// Writes down what was struck.
    fn flush(&mut self) -> Result<(), Error> {
        let ledger = self.ledger.clone();
        self.journals_mut().try_for_each(|journal| journal.flush(&ledger.inner.boot, &ledger.inner.crash))
    }

    fn bring_about_inverse(&mut self, id: RecordId) -> Result<(), Error> {
        self.ledger.inner.crash.step("before-undo");
        match self.find(id) {
            None => Ok(()),
            Some(Entry::Known(Effect::Uses { shared })) => {
                let shared = shared.clone();
                self.joined.remove(&shared);
                Shared::leave(self.user(), &shared)
            }
            Some(Entry::Known(effect)) => effect.undo(),
            Some(Entry::Newer(record)) => {
                Err(Error::UndoUnknown { path: self.run.path().to_owned(), record: record.clone() })
            }
        }
    }

    fn folder(&self) -> membership::User<'_> {
        membership::User { dir: self.lock.fd(), path: &self.run_path }
    }

    fn user(&self) -> User<'_> {
        User { ledger: &self.ledger, folder: self.folder(), shared: None }
    }

    /// Whether it is known to hold that part: itself, or by something that it has joined.
    fn holds(&self, name: &str, part: &str) -> bool {
        match self.joined.get(name) {
            Some(joined) => joined.made.contains(part),
            None => part.is_empty() && self.joined.values().any(|joined| joined.uses.contains(name)),
        }
    }

    /// Errors met while history (records of another boot) was dropped; also part of what [`Owner::undo_all`] returns.
    pub fn leftovers(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.leftovers)
    }

    fn journals(&self) -> impl Iterator<Item = &Journal> {
        std::iter::once(&self.run).chain(&self.data)
    }

    fn journals_mut(&mut self) -> impl Iterator<Item = &mut Journal> {
        std::iter::once(&mut self.run).chain(&mut self.data)
    }

    fn find(&self, id: RecordId) -> Option<&Entry> {
        self.journals().find_map(|journal| journal.live.get(&id.0))
    }

    fn write(&mut self, effect: Effect, data: bool) -> Result<RecordId, Error> {
        effect.check()?;
        let id = self.next;
        let ledger = self.ledger.clone();
        let journal = if data { self.data_journal()? } else { &mut self.run };
        journal.record(id, effect, &ledger.inner.boot, &ledger.inner.crash)?;
        self.next += 1;
        Ok(RecordId(id))
    }

    fn data_journal(&mut self) -> Result<&mut Journal, Error> {
        let journal = match self.data.take() {
            Some(journal) => journal,
            None => {
                let root = &self.ledger.inner.data;
                root.make(self.id.as_str())?;
                let dir = root
                    .open(self.id.as_str())?
                    .ok_or_else(|| Error::access("open", &self.data_path, rustix::io::Errno::NOENT))?;
                Journal::open(Arc::new(dir), &self.data_path, true)?
            }
        };
        Ok(self.data.insert(journal))
    }
}

impl Record for Owner {
    fn record(&mut self, effect: Effect) -> Result<RecordId, Error> {
        let data = self.ledger.inner.outlives(&effect);
        self.write(effect, data)
    }

    fn undo(&mut self, id: RecordId) -> Result<(), Error> {
        self.bring_about_inverse(id)?;
        self.strike(id)
    }

    fn undone(&mut self, effect: &Effect) -> Result<(), Error> {
        let id = self.journals().find_map(|journal| journal.find(effect));
        if let Some(id) = id {
            self.strike_later(id);
        }
        Ok(())
    }

    fn share_part(&mut self, name: &str, part: &str, make: Make<'_>) -> Result<(), Error> {
        if self.holds(name, part) {
            return Ok(());
        }
        let uses = Effect::Uses { shared: name.to_owned() };
        let known = self.journals().find_map(|journal| journal.find(&uses));
        let id = known.map_or_else(|| self.record(uses), |id| Ok(RecordId(id)))?;
        match Shared::join(self.user(), name, part, make) {
            Ok(joined) => {
                self.joined.insert(name.to_owned(), joined);
                Ok(())
            }
            Err(error) => {
                if !membership::has_name(self.folder(), name) {
                    // It is no user: there is nothing to leave.
                    self.strike(id)?;
                }
                Err(error)
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // What cannot be removed here is an empty folder that the next to converge removes.
        let (roots, id) = (&self.ledger.inner, self.id.as_str());
        if self.data.as_ref().is_some_and(Journal::is_spent) {
            let _ = self.data.as_mut().map(|data| remove(data, &roots.data, id));
        }
        if self.run.is_spent() {
            let _ = remove(&mut self.run, &roots.run, id);
        }
        let _ = self.flush();
    }
}

fn remove(journal: &mut Journal, root: &Root, name: &str) -> Result<(), Error> {
    journal.clear()?;
    if !root.remove(name)? {
        journal.tidy()?;
        root.remove(name)?;
    }
    Ok(())
}
