use std::{
    io,
    path::{Path, PathBuf},
};

use crate::contract::{self, Digest};

/// What the image store cannot do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused something.
    #[error("cannot {act} {}: {source}{}", path.display(), crate::layer::hint(source))]
    Io {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A document in the store, or given to it, is not what the spec says.
    #[error("{source} (in {what})")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong with it.
        source: contract::Error,
    },
    /// The folder is no image layout.
    #[error("cannot use {} as an image layout: {reason}", path.display())]
    Layout {
        /// The file at fault.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No image has this name or id.
    #[error("cannot find image {0:?}: pull it first, or see `sextant images`")]
    NoImage(String),
    /// Several images have an id that begins so.
    #[error("cannot tell which image {text:?} means: it could be {}", candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// Those it could be.
        candidates: Vec<String>,
    },
    /// An image still needs what its record names.
    #[error("cannot find {what} {digest} in the image store: pull the image again")]
    Missing {
        /// A blob or a layer.
        what: &'static str,
        /// Its digest.
        digest: Digest,
    },
    /// Content that is not what its name says.
    #[error("cannot accept blob {expected}: its digest is {found}")]
    Mismatch {
        /// The name it came under.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A pinned image is not removed.
    #[error("cannot remove image {0:?}: it is pinned; unpin it first")]
    Pinned(String),
    /// A part of an image to build is impossible.
    #[error("cannot build the image: {0}")]
    Part(String),
    /// The caller gave up waiting.
    #[error("cannot wait for {0}: cancelled")]
    Cancelled(String),
}

/// The result of using the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Puts an act and a path on a bare error.
pub(crate) trait At<T> {
    fn at(self, act: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, act: &'static str, path: &Path) -> Result<T> {
        self.map_err(|e| Error::Io { act, path: path.to_owned(), source: e.into() })
    }
}
