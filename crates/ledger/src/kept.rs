//! Directories that a ledger keeps open, so that their paths are not walked for each owner.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::folder;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder; none if it is not there.
pub(crate) fn open(path: &Path) -> Result<Option<OwnedFd>, Error> {
    found(rustix::fs::open(path, FOLDER, Mode::empty()), path)
}

fn found(opened: rustix::io::Result<OwnedFd>, path: &Path) -> Result<Option<OwnedFd>, Error> {
    match opened {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::access("open", path, e)),
    }
}

/// One of the ledger's two roots, with a folder for each owner. It need not be there, and may be removed and made again.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    dir: Mutex<Option<Arc<OwnedFd>>>,
}

impl Root {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, dir: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a folder, and the root only if it is missing, 0700. False if it was there.
    pub(crate) fn make(&self, name: &str) -> Result<bool, Error> {
        let kept = self.dir()?;
        match kept.map(|dir| rustix::fs::mkdirat(dir, name, Mode::RWXU)) {
            Some(Ok(())) => Ok(true),
            Some(Err(Errno::EXIST)) => Ok(false),
            Some(Err(Errno::NOENT)) | None => {
                self.forget();
                folder::make(&self.path, &self.path.join(name))
            }
            Some(Err(e)) => Err(Error::access("create", self.path.join(name), e)),
        }
    }

    /// Opens a folder; none if it is not there.
    pub(crate) fn open(&self, name: &str) -> Result<Option<OwnedFd>, Error> {
        let Some(dir) = self.dir()? else { return Ok(None) };
        let path = || self.path.join(name);
        match rustix::fs::openat(&dir, name, FOLDER, Mode::empty()) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT) if is_removed(&dir) => {
                self.forget();
                open(&path())
            }
            Err(Errno::NOENT) => Ok(None),
            Err(e) => Err(Error::access("open", path(), e)),
        }
    }

    /// Removes a folder that should be empty: [`folder::remove`].
    pub(crate) fn remove(&self, name: &str) -> Result<bool, Error> {
        let kept = self.dir()?.map(|dir| rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR));
        match kept {
            Some(Ok(())) => Ok(true),
            // Not there, or not in a root that was removed since it was opened; or what the path's error says better.
            _ => folder::remove(&self.path.join(name)),
        }
    }

    /// The root; none if it is not there.
    fn dir(&self) -> Result<Option<Arc<OwnedFd>>, Error> {
        let mut kept = self.dir.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            *kept = open(&self.path)?.map(Arc::new);
        }
        Ok(kept.clone())
    }

    fn forget(&self) {
        *self.dir.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Nobody finds it any more.
pub(crate) fn is_removed(dir: &OwnedFd) -> bool {
    rustix::fs::fstat(dir).is_ok_and(|found| found.st_nlink == 0)
}

/// How many folders of shared effects are kept open: those of the networks that most hosts have.
const IDLE: usize = 8;

/// Folders of shared effects that nobody in this process is at work on, the last used at the end. None of them is locked: a
/// lock is the descriptor's, so whoever takes one has it alone.
#[derive(Debug, Default)]
pub(crate) struct Idle(Mutex<Vec<(String, Arc<OwnedFd>)>>);

impl Idle {
    pub(crate) fn take(&self, name: &str) -> Option<Arc<OwnedFd>> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = idle.iter().rposition(|(known, _)| known == name)?;
        Some(idle.remove(at).1)
    }

    pub(crate) fn keep(&self, name: String, dir: Arc<OwnedFd>) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = (idle.len() >= IDLE).then(|| idle.remove(0));
        idle.push((name, dir));
        // Nobody waits while it is closed.
        drop(idle);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{Effect, Ledger, OwnerId, Record as _};

    #[test]
    fn a_root_that_was_removed_is_found_where_it_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger");
        let root = Root::new(path.clone());
        assert!(root.open("a").unwrap().is_none());
        assert!(root.make("a").unwrap() && !root.make("a").unwrap());
        assert!(root.open("a").unwrap().is_some());
        fs::remove_dir_all(&path).unwrap();
        assert!(root.open("a").unwrap().is_none());
        fs::create_dir_all(path.join("b")).unwrap();
        assert!(root.open("b").unwrap().is_some() && !root.make("b").unwrap());
        fs::remove_dir_all(&path).unwrap();
        assert!(root.make("c").unwrap() && path.join("c").is_dir());
    }

    #[test]
    fn a_shared_folder_that_is_kept_open_is_not_believed_once_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Ledger::open(&dir.path().join("run"), &dir.path().join("data")).unwrap();
        let (one, other) = (open(), open());
        let path = dir.path().join("effect");
        let join = |ledger: &Ledger, name: &str| {
            let mut owner = ledger.owner(&OwnerId::new(name).unwrap()).unwrap();
            let shared = owner.share("shared", &mut |record| {
                record.record(Effect::File { path: path.clone() })?;
                Ok(fs::write(&path, "")?)
            });
            shared.unwrap();
        };
        let leave = |ledger: &Ledger, name: &str| {
            let errors = ledger.owner(&OwnerId::new(name).unwrap()).unwrap().undo_all();
            assert!(errors.is_empty(), "{errors:?}");
        };
        join(&one, "a");
        join(&one, "b");
        assert_eq!(one.inner.idle.0.lock().unwrap().len(), 1);
        leave(&other, "a");
        leave(&other, "b");
        assert!(!path.exists());
        join(&one, "c");
        assert!(path.exists());
        // The folder that others find is the one that is locked.
        join(&other, "d");
        leave(&one, "c");
        assert!(path.exists());
        leave(&one, "d");
        assert!(!path.exists());
    }
}
