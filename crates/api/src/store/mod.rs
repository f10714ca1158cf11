//! Where objects are kept: keys, revisions, transactions and watches over redb.
//!
//! Every transaction gets the next revision of one counter, which never goes back. A transaction is acknowledged when it is
//! on the disk; many that come at the same time share one sync. Reads never wait for writes. The changes of the last minutes
//! are kept, for watches that resume and for lists at an older revision; what is older is compacted.
//!
//! It never looks into an object: the caller says where in the JSON the revision goes.

mod error;
mod event;
mod key;
mod watch;

pub use error::{Error, Result};
pub use event::{Event, Kind};
pub use key::{Key, Scope};
pub use watch::Watch;

use bytes::Bytes;
use std::path::Path;
use std::time::Duration;

/// The name of the database in the store's folder.
pub const FILE: &str = "objects.redb";

/// An object to be kept: its JSON, and where in it the revision is written when it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The JSON, with `"resourceVersion":""` in its metadata.
    pub json: Vec<u8>,
    /// Between the two quotes of that empty string.
    pub revision_at: usize,
}

/// An object as it is kept; its JSON is complete, with the resource version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub key: Key,
    /// The revision of its last change.
    pub revision: u64,
    /// Its JSON.
    pub json: Bytes,
}

/// What has to be so, or the transaction does not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// That there is no such object.
    Absent,
    /// That its last change was at this revision.
    Revision(u64),
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub struct Write {
    /// Of which object.
    pub key: Key,
    /// Under which condition.
    pub expect: Expect,
    /// The new object; `None` deletes it.
    pub value: Option<Document>,
}

/// A part of a list, in the order of the keys.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects.
    pub items: Vec<Stored>,
    /// The revision at which they were so.
    pub revision: u64,
    /// How many there are behind them, when the limit cut the list.
    pub more: Option<usize>,
}

/// How much memory and disk a store may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pages of the database kept in memory, in bytes.
    pub cache: usize,
    /// Recent events kept in memory for watchers, in bytes.
    pub recent: usize,
    /// How long history is kept.
    pub history: Duration,
    /// How much history is kept on the disk, in bytes: what is more goes before its time.
    pub history_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache: 8 << 20,
            recent: 8 << 20,
            history: Duration::from_secs(300),
            history_bytes: 64 << 20,
        }
    }
}

/// An open store. Clones are the same store; it is closed when the last one is gone.
#[derive(Clone, Debug)]
pub struct Store {}

impl Store {
    /// Opens the store in `folder`, which is made (with mode 0700) where there is none.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::InUse`], [`Error::Foreign`], [`Error::Newer`].
    pub fn open(folder: &Path, options: Options) -> Result<Store> {
        let _ = (folder, options);
        Err(Error::Closed)
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        0
    }

    /// The object of that name, as it is now.
    ///
    /// # Errors
    /// [`Error::Read`].
    pub fn get(&self, key: &Key) -> Result<Option<Stored>> {
        let _ = key;
        Err(Error::Closed)
    }

    /// The objects of a scope behind the key `after`, `limit` at most, as they were at the revision `at` (now, if there is
    /// none).
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for a revision that is too old or has not been; [`Error::Read`].
    pub fn list(
        &self,
        scope: &Scope,
        after: Option<&Key>,
        limit: Option<usize>,
        at: Option<u64>,
    ) -> Result<Page> {
        let _ = (scope, after, limit, at);
        Err(Error::Closed)
    }

    /// Does all the writes or none of them, and returns their revision when they are on the disk. Where nothing changes (no
    /// writes, or deletions of what is not there) no revision is spent, and it is the last one.
    ///
    /// A call that is dropped may have been done all the same.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when a condition does not hold; [`Error::Repeated`], [`Error::Name`] and [`Error::Document`]
    /// for what cannot be written; [`Error::Write`], [`Error::Failed`] when the disk does not take it.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<u64> {
        let _ = writes;
        Err(Error::Closed)
    }

    /// The changes of a scope behind the revision `from`.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for a revision that is too old or has not been; [`Error::Read`].
    pub fn watch(&self, scope: Scope, from: u64) -> Result<Watch> {
        let _ = (scope, from);
        Err(Error::Closed)
    }

    /// Forgets the history before `revision`: lists at older revisions and watches from them are refused.
    ///
    /// # Errors
    /// [`Error::Future`]; [`Error::Write`], [`Error::Failed`].
    pub async fn compact(&self, revision: u64) -> Result<()> {
        let _ = revision;
        Err(Error::Closed)
    }
}
