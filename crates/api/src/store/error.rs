//! What can go wrong in the store.

use super::{Key, Stored};
use std::io;
use std::path::PathBuf;

/// What a call to the store came to.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong in the store.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A revision whose history is gone: lists and watches have to start anew.
    #[error("cannot go back to revision {asked}: the history before {oldest} is gone")]
    Compacted {
        /// The revision that was asked for.
        asked: u64,
        /// The oldest one that can be had.
        oldest: u64,
    },
    /// A revision that has not been yet.
    #[error("cannot look at revision {asked}: the last one is {current}")]
    Future {
        /// The revision that was asked for.
        asked: u64,
        /// The revision of the last change.
        current: u64,
    },
    /// A condition of a transaction did not hold; nothing of it was done.
    #[error("cannot write {}: it is not as it was expected to be", shown(key))]
    Unexpected {
        /// Which write of the transaction, from 0.
        index: usize,
        /// The object of that write.
        key: Box<Key>,
        /// What is there instead.
        found: Option<Box<Stored>>,
    },
    /// One transaction with two writes of one object.
    #[error("cannot write {} twice in one transaction", shown(key))]
    Repeated {
        /// The object.
        key: Key,
    },
    /// A name that no object can have.
    #[error("cannot keep an object with the {part} {text:?}: it is empty, or has a '/' or a zero byte")]
    Name {
        /// Which part of the key.
        part: &'static str,
        /// What it was.
        text: String,
    },
    /// An object that is larger than objects may be.
    #[error("cannot keep an object of {bytes} bytes: {most} is the most")]
    Large {
        /// Its bytes of JSON.
        bytes: usize,
        /// The bound.
        most: usize,
    },
    /// A document whose `revision_at` is not where an empty resource version is.
    #[error("cannot write {}: byte {at} of its JSON is not inside an empty resourceVersion", shown(key))]
    Document {
        /// The object.
        key: Key,
        /// [`super::Document::revision_at`].
        at: usize,
    },
    /// A folder or file cannot be made, opened or locked.
    #[error("cannot open the store {}: cannot {verb} {}: {source}", store.display(), path.display())]
    Access {
        /// The store's folder.
        store: PathBuf,
        /// The act.
        verb: &'static str,
        /// On which folder or file.
        path: PathBuf,
        /// The cause.
        source: std::sync::Arc<io::Error>,
    },
    /// Another process has it.
    #[error("cannot open the store {}: another process has it open", store.display())]
    InUse {
        /// The store's folder.
        store: PathBuf,
    },
    /// The file is something else.
    #[error("cannot open the store {}: {why}; move {} away, and a new one is made", store.display(), super::FILE)]
    Foreign {
        /// The store's folder.
        store: PathBuf,
        /// What is wrong with the file.
        why: String,
    },
    /// A newer version has written it.
    #[error(
        "cannot open the store {}: its format is {found}, this version knows {known}; use the version that wrote it",
        store.display()
    )]
    Newer {
        /// The store's folder.
        store: PathBuf,
        /// The format of the file.
        found: u64,
        /// The newest format known.
        known: u64,
    },
    /// The disk cannot be read, or what is there makes no sense.
    #[error("cannot read the store: {0}")]
    Read(String),
    /// The disk did not take it. It was not done; the next one is tried again.
    #[error("cannot write to the store: {0}")]
    Write(String),
    /// The disk failed in the middle of it: whether it was done shows when the store can be read again.
    #[error("cannot tell whether the store took it: {0}")]
    Unknown(String),
    /// The disk failed to keep what it had taken: what is on it is unknown until the next start.
    #[error("cannot write to the store: it failed before ({0}); start anew when the disk is well")]
    Failed(String),
    /// The store was closed.
    #[error("cannot use the store: it is closed")]
    Closed,
}

/// A key as it is shown to people.
fn shown(key: &Key) -> String {
    let Key { resource, namespace, name } = key;
    if namespace.is_empty() { format!("{resource} {name}") } else { format!("{resource} {namespace}/{name}") }
}

impl Error {
    /// What redb says when it cannot be read.
    pub(super) fn read(source: impl Into<redb::Error>) -> Error {
        Error::Read(source.into().to_string())
    }

    /// The database is not as this version writes it.
    pub(super) fn lacks(what: &str) -> Error {
        Error::Read(format!("it lacks {what}: it is damaged"))
    }
}
