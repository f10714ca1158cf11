//! File systems held still: everything is written, whoever would write waits, until it is thawed.
//!
//! A freeze outlives its process. Who may be killed meanwhile thaws at its next start ([`thaw`] is idempotent).
//! A directory is one opened for reading: what fsmount(2) gives is a place alone (`O_PATH`), and answers `EBADF`.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

use crate::{Act, Error, Result};

const FIFREEZE: u32 = opcode::read_write::<i32>(b'X', 119);
const FITHAW: u32 = opcode::read_write::<i32>(b'X', 120);

/// A file system that is frozen until this is dropped, or [thawed](Self::thaw).
#[derive(Debug)]
#[must_use = "the file system is thawed where this is dropped"]
pub struct Frozen {
    root: Option<OwnedFd>,
}

/// Freezes the file system that `mount` is an open directory of, for everybody who has it mounted.
///
/// # Errors
/// `EBUSY` where somebody has frozen it already, `EOPNOTSUPP` where it cannot be, those of the writing it begins with.
pub fn freeze(mount: OwnedFd) -> Result<Frozen> {
    // SAFETY: the number takes no argument; the kernel reads nothing through the pointer.
    unsafe { ioctl(&mount, Setter::<FIFREEZE, i32>::new(0)) }.act("freeze", || "a file system")?;
    Ok(Frozen { root: Some(mount) })
}

/// Thaws the file system that `mount` is an open directory of. Returns whether it was frozen.
///
/// # Errors
/// What the kernel says but that it is not frozen.
pub fn thaw(mount: impl AsFd) -> Result<bool> {
    // SAFETY: as in `freeze`.
    match unsafe { ioctl(mount, Setter::<FITHAW, i32>::new(0)) } {
        Ok(()) => Ok(true),
        Err(Errno::INVAL) => Ok(false),
        Err(e) => Err(Error::new("thaw", "a file system", e)),
    }
}

impl Frozen {
    /// Thaws it.
    ///
    /// # Errors
    /// Those of [`thaw`].
    pub fn thaw(mut self) -> Result<()> {
        self.root.take().map_or(Ok(()), |root| thaw(root).map(|_| ()))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(root) = self.root.take() {
            let _ = thaw(root);
        }
    }
}
