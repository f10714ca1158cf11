use std::io;

use crate::{contract, layer::tar, pull, store};

/// Why an image file cannot be read, written or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("cannot {act} {object}: {source}{}", crate::layer::hint(source))]
    Io {
        /// What was attempted.
        act: &'static str,
        /// On what.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The archive's tar is broken.
    #[error("cannot read the archive: {0}")]
    Tar(#[from] tar::Error),
    /// It is no image archive, or an incomplete one.
    #[error("cannot use this as an image archive: {0}")]
    Format(String),
    /// A document in it is not what the spec says.
    #[error("{source} (in {what})")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong with it.
        source: contract::Error,
    },
    /// A part of an image to make is impossible.
    #[error("cannot put {path:?} into the image: {reason}")]
    Part {
        /// Its path in the image.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The image in it does not unpack.
    #[error(transparent)]
    Pull(#[from] pull::Error),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// The result of reading, writing or making an image file.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Puts an act and an object on a bare error.
pub(super) trait At<T> {
    fn at(self, act: &'static str, object: impl ToString) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, act: &'static str, object: impl ToString) -> Result<T> {
        self.map_err(|e| Error::Io { act, object: object.to_string(), source: e.into() })
    }
}
