//! The ledger's two roots and the locked folders in them.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode};
use rustix::io::Errno;

use crate::crash::Crash;
use crate::glance::Glances;
use crate::kept::{self, Idle, Root};
use crate::{Effect, Error, Owner, OwnerId};

/// The records of one instance of Sextant: a run directory and a data directory.
///
/// Cheap to clone and to open; nothing is created until something is recorded.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) inner: Arc<Roots>,
}

#[derive(Debug)]
pub(crate) struct Roots {
    run_dir: PathBuf,
    data_dir: PathBuf,
    pub(crate) run: Root,
    pub(crate) data: Root,
    pub(crate) boot: String,
    pub(crate) crash: Crash,
    pub(crate) glances: Glances,
    pub(crate) idle: Idle,
}

impl Ledger {
    /// The ledger under `<run_dir>/ledger` and `<data_dir>/ledger`. Both must be absolute; neither needs to exist.
    pub fn open(run_dir: &Path, data_dir: &Path) -> Result<Self, Error> {
        for path in [run_dir, data_dir] {
            if !path.is_absolute() {
                return Err(Error::access("use the relative directory", path, Errno::INVAL));
            }
        }
        let roots = Roots {
            run_dir: run_dir.to_owned(),
            data_dir: data_dir.to_owned(),
            run: Root::new(run_dir.join("ledger")),
            data: Root::new(data_dir.join("ledger")),
            boot: crate::boot::id()?,
            crash: Crash::from_env()?,
            glances: Glances::default(),
            idle: Idle::default(),
        };
        Ok(Self { inner: Arc::new(roots) })
    }

    /// The records of `id`, made if there are none; waits while another process holds them.
    pub fn owner(&self, id: &OwnerId) -> Result<Owner, Error> {
        match lock(&self.inner.run, id.as_str(), Wait::Yes)? {
            Some(dir) => Owner::open(self.clone(), id.clone(), dir),
            None => Err(Error::Busy { owner: id.clone() }),
        }
    }

    /// The records of `id`, made if there are none; `None` if another process (or another [`Owner`]) holds them.
    pub fn try_owner(&self, id: &OwnerId) -> Result<Option<Owner>, Error> {
        match lock(&self.inner.run, id.as_str(), Wait::No)? {
            Some(dir) => Owner::open(self.clone(), id.clone(), dir).map(Some),
            None => Ok(None),
        }
    }

    /// Everybody who has records, in the order of their names.
    pub fn owners(&self) -> Result<Vec<OwnerId>, Error> {
        let mut owners = names(self.inner.run.path())?;
        owners.extend(names(self.inner.data.path())?);
        owners.sort();
        owners.dedup();
        Ok(owners)
    }
}

impl Roots {
    /// Whether `effect` outlives the kernel: a file or tree under the data directory.
    pub(crate) fn outlives(&self, effect: &Effect) -> bool {
        match effect {
            Effect::File { path } | Effect::Tree { path } => {
                path.starts_with(&self.data_dir) && !path.starts_with(&self.run_dir)
            }
            _ => false,
        }
    }
}

/// A folder's lock.
///
/// It is given back by saying so, not by closing: a child that another thread has just forked holds a copy of the
/// descriptor until it execs.
#[derive(Debug)]
pub(crate) struct Lock {
    dir: Arc<OwnedFd>,
    made: bool,
}

impl Lock {
    /// The folder's descriptor.
    pub(crate) fn dir(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.dir)
    }

    /// The same, for as long as the lock is held.
    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.dir
    }

    /// Gives it back, and keeps the folder open for the next who wants it.
    pub(crate) fn keep(self, idle: &Idle, name: String) {
        let dir = self.dir();
        drop(self);
        idle.keep(name, dir);
    }

    fn of_made(mut self, made: bool) -> Self {
        self.made = made;
        self
    }

    /// Who has the lock has made the folder. (Another may have had the lock before all the same.)
    pub(crate) fn is_of_made(&self) -> bool {
        self.made
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.dir, FlockOperation::Unlock);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Yes,
    No,
}

/// Makes the folder `name` if need be, opens and locks it. `None` if it is locked and `wait` says not to.
pub(crate) fn lock(root: &Root, name: &str, wait: Wait) -> Result<Option<Lock>, Error> {
    let path = root.path().join(name);
    loop {
        let made = root.make(name)?;
        match lock_opened(root.open(name)?, &path, wait)? {
            Locked::Yes(lock) => return Ok(Some(lock.of_made(made))),
            Locked::No => return Ok(None),
            Locked::Gone => {}
        }
    }
}

/// The same for a folder that is nearly always there already, and maybe open; it is waited for.
pub(crate) fn lock_found(parent: &Path, path: &Path, open: Option<Arc<OwnedFd>>) -> Result<Lock, Error> {
    let mut locked = lock_kept(open, path)?;
    loop {
        match locked {
            Locked::Yes(lock) => return Ok(lock),
            Locked::No | Locked::Gone => drop(make(parent, path)?),
        }
        locked = lock_existing(path, Wait::Yes)?;
    }
}

/// Locks `path`, which is maybe open, without making it; it is waited for.
pub(crate) fn lock_kept(open: Option<Arc<OwnedFd>>, path: &Path) -> Result<Locked, Error> {
    if let Some(dir) = open
        && let Locked::Yes(lock) = lock_dir(dir, path, Wait::Yes)?
    {
        return Ok(Locked::Yes(lock));
    }
    lock_existing(path, Wait::Yes)
}

/// What came of locking a folder that may vanish at any moment.
#[derive(Debug)]
pub(crate) enum Locked {
    Yes(Lock),
    No,
    Gone,
}

/// Opens and locks `path`, without making it.
pub(crate) fn lock_existing(path: &Path, wait: Wait) -> Result<Locked, Error> {
    lock_opened(kept::open(path)?, path, wait)
}

fn lock_opened(dir: Option<OwnedFd>, path: &Path, wait: Wait) -> Result<Locked, Error> {
    dir.map_or(Ok(Locked::Gone), |dir| lock_dir(Arc::new(dir), path, wait))
}

/// Locks a folder that is open, and known by `path`.
fn lock_dir(dir: Arc<OwnedFd>, path: &Path, wait: Wait) -> Result<Locked, Error> {
    let operation = match wait {
        Wait::Yes => FlockOperation::LockExclusive,
        Wait::No => FlockOperation::NonBlockingLockExclusive,
    };
    loop {
        match rustix::fs::flock(&dir, operation) {
            Ok(()) => break,
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => return Ok(Locked::No),
            Err(e) => return Err(Error::access("lock", path, e)),
        }
    }
    let lock = Lock { dir, made: false };
    // Whoever held it before may have removed it: then the lock is on a folder nobody can find.
    match rustix::fs::fstat(&lock.dir) {
        Ok(found) if found.st_nlink == 0 => Ok(Locked::Gone),
        Ok(_) => Ok(Locked::Yes(lock)),
        Err(e) => Err(Error::access("stat", path, e)),
    }
}

/// Makes `path`, and its parents only if they are missing, 0700. False if it was there.
pub(crate) fn make(parent: &Path, path: &Path) -> Result<bool, Error> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(Errno::NOENT) => {
            use std::os::unix::fs::DirBuilderExt as _;
            let mut builder = std::fs::DirBuilder::new();
            builder
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|e| Error::access("create", parent, e))?;
            match rustix::fs::mkdir(path, Mode::RWXU) {
                // Gone again already: the caller's loop tries once more.
                Ok(()) => Ok(true),
                Err(Errno::EXIST | Errno::NOENT) => Ok(false),
                Err(e) => Err(Error::access("create", path, e)),
            }
        }
        Err(e) => Err(Error::access("create", path, e)),
    }
}

/// Removes a folder that should be empty. False if it is not (any more): then it is left as it is. Gone counts as done.
pub(crate) fn remove(path: &Path) -> Result<bool, Error> {
    match rustix::fs::rmdir(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(e) => Err(Error::access("remove", path, e)),
    }
}

/// The owners (or shared names) that have a folder in `path`.
pub(crate) fn names(path: &Path) -> Result<Vec<OwnerId>, Error> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::access("list", path, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| Error::access("list", path, e))?;
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if let Some(name) = entry.file_name().to_str().filter(|_| folder) {
            // What cannot be a name is not ours: `.boot`, a stray file.
            names.extend(OwnerId::new(name));
        }
    }
    names.sort();
    Ok(names)
}
