//! flocks on files of the store.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::{At, Result};

/// Opens a lock file, or makes it.
pub(super) fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .at("open", path)
}

/// Waits until nobody holds it exclusively.
pub(super) fn shared(path: &Path) -> Result<File> {
    let file = open(path)?;
    wait(&file, FlockOperation::LockShared).at("lock", path)?;
    Ok(file)
}

/// Waits until nobody holds it.
pub(super) fn exclusive(path: &Path) -> Result<File> {
    let file = open(path)?;
    wait(&file, FlockOperation::LockExclusive).at("lock", path)?;
    Ok(file)
}

/// Takes it if nobody holds it.
pub(super) fn try_exclusive(file: &File) -> Result<bool, Errno> {
    match wait(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(e) => Err(e),
    }
}

fn wait(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    loop {
        match flock(file, operation) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}
