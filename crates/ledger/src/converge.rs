use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use crate::folder::{self, Locked, Wait};
use crate::shared::Shared;
use crate::{Error, Ledger, Owner, OwnerId};

/// What [`Ledger::converge`] found and did.
#[derive(Debug, Default)]
pub struct Report {
    /// Owners that nobody alive stood for; what they had is undone (except for `errors`).
    pub undone: Vec<OwnerId>,
    /// Owners that are not alive, but whose records another process holds: it is at work on them.
    pub busy: Vec<OwnerId>,
    /// Inverses that failed, with whose they were; they stay recorded and are tried again next time.
    pub errors: Vec<(OwnerId, Error)>,
}

impl Ledger {
    /// Undoes everything of owners that `alive` does not vouch for and whose records nobody holds.
    ///
    /// `alive` is asked again under the owner's lock, so that an owner that came to life in between is safe: make it
    /// alive (write the container's record) before its [`Owner`] is dropped. With nothing to do this lists two folders
    /// and reads one small file: 15 system calls however many owners are alive, and one for each shared effect.
    pub fn converge(&self, alive: &dyn Fn(&OwnerId) -> bool) -> Report {
        let mut report = Report::default();
        let owners = match self.owners() {
            Ok(owners) => owners,
            Err(e) => {
                report.errors.push((OwnerId::node(), e));
                return report;
            }
        };
        let first = !owners.is_empty() && !self.is_swept();
        let had_node = owners.contains(&OwnerId::node());
        for owner in owners {
            if first || !alive(&owner) {
                self.settle(owner, alive, &mut report);
            }
        }
        if had_node || !report.undone.is_empty() {
            report.errors.extend(Shared::sweep(self).into_iter().map(|e| (OwnerId::node(), e)));
        }
        if first && report.errors.is_empty() && report.busy.is_empty() {
            report.errors.extend(self.mark_swept().err().map(|e| (OwnerId::node(), e)));
        }
        report
    }

    fn settle(&self, id: OwnerId, alive: &dyn Fn(&OwnerId) -> bool, report: &mut Report) {
        let owner = match self.existing(&id) {
            Ok(Existing::Held(owner)) => owner,
            Ok(Existing::Busy) => return report.busy.push(id),
            Ok(Existing::None) => return,
            Err(e) => return report.errors.push((id, e)),
        };
        let errors = if alive(&id) {
            let mut owner = owner;
            owner.leftovers()
        } else {
            if !(id == OwnerId::node() && owner.is_empty()) {
                report.undone.push(id.clone());
            }
            owner.undo_all()
        };
        report.errors.extend(errors.into_iter().map(|e| (id.clone(), e)));
    }

    /// An owner that was listed; it may be gone or held by now.
    fn existing(&self, id: &OwnerId) -> Result<Existing, Error> {
        match folder::lock_existing(&self.inner.run.path().join(id), Wait::No)? {
            Locked::Yes(dir) => Owner::open(self.clone(), id.clone(), dir).map(Existing::held),
            Locked::No => Ok(Existing::Busy),
            // After a reboot there is only the data folder; the lock is on the run folder, so that one is made.
            Locked::Gone if self.inner.data.path().join(id).exists() => {
                Ok(self.try_owner(id)?.map_or(Existing::Busy, Existing::held))
            }
            Locked::Gone => Ok(Existing::None),
        }
    }

    /// Whether this boot has already looked through all folders for those of another boot.
    fn is_swept(&self) -> bool {
        std::fs::read_to_string(self.boot_marker()).is_ok_and(|boot| boot == self.inner.boot)
    }

    fn mark_swept(&self) -> Result<(), Error> {
        let path = self.boot_marker();
        let written = rustix::fs::open(
            &path,
            OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .and_then(|file| rustix::io::write(file, self.inner.boot.as_bytes()));
        match written {
            Ok(_) => Ok(()),
            Err(e) => Err(Error::access("write", path, e)),
        }
    }

    fn boot_marker(&self) -> PathBuf {
        self.inner.run.path().join(".boot")
    }
}

/// What became of an owner between its listing and its lock.
#[derive(Debug)]
enum Existing {
    Held(Box<Owner>),
    Busy,
    None,
}

impl Existing {
    fn held(owner: Owner) -> Self {
        Self::Held(Box::new(owner))
    }
}
