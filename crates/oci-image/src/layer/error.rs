use std::io;

use super::{LimitExceeded, tar};

/// A layer that cannot be unpacked, or a disk that does not take it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The tar, or the stream it comes from, is broken.
    #[error(transparent)]
    Tar(#[from] tar::Error),
    /// An entry whose name no honest layer has.
    #[error("cannot unpack {path:?}: {reason}")]
    Name {
        /// The name, printable.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The kernel refused to make what the entry says.
    #[error("cannot {act} {path:?}: {source}{}", hint(source))]
    Write {
        /// Which step.
        act: &'static str,
        /// The entry's name, printable.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The layer is larger than any layer may be.
    #[error("cannot unpack the layer: {0}")]
    Limit(#[from] LimitExceeded),
}

impl Error {
    pub(super) fn name(path: &[u8], reason: &'static str) -> Self {
        Self::Name { path: printable(path), reason }
    }

    pub(super) fn write(act: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Write { act, path: printable(path), source: source.into() }
    }
}

/// The result of unpacking.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Puts an act and a name on a bare errno.
pub(super) trait At<T> {
    fn at(self, act: &'static str, path: &[u8]) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, act: &'static str, path: &[u8]) -> Result<T> {
        self.map_err(|source| Error::write(act, path, source))
    }
}

pub(super) fn printable(path: &[u8]) -> String {
    crate::contract::shortened(&String::from_utf8_lossy(path))
}

/// What an operator can do about it.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => {
            "; the disk of the image store is full (blocks or inodes): free some, for example with `sextant prune`"
        }
        io::ErrorKind::QuotaExceeded => "; the quota of the image store's disk is used up",
        io::ErrorKind::ReadOnlyFilesystem => "; the image store's filesystem is mounted read-only",
        _ => "",
    }
}
