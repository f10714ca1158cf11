//! Where objects are kept: keys, revisions, transactions and watches over redb.
//!
//! Every transaction gets the next revision of one counter, which never goes back. A transaction is acknowledged when it is
//! on the disk; many that come at the same time share one sync. Reads never wait for writes. The changes of the last minutes
//! are kept, for watches that resume and for lists at an older revision; what is older is compacted.
//!
//! It never looks into an object: the caller says where in the JSON the revision goes.

mod apply;
mod batch;
mod engine;
mod error;
mod event;
mod folder;
mod key;
mod past;
mod read;
mod ring;
mod tables;
mod watch;
mod writer;

pub use error::{Error, Result};
pub use event::{Event, Kind};
pub use key::{Key, Scope};
pub use watch::Watch;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;

use batch::{Act, Request};
use bytes::Bytes;
use engine::Engine;
use folder::Folder;
use read::Counted;
use ring::{Publisher, Recent};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tables::Counters;
use tokio::sync::watch as watch_channel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use writer::Writer;

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
    /// The same, and nothing is done to it: it is only a condition of the transaction.
    Still(u64),
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

/// Where a part of a list ends.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// At so many objects.
    pub items: usize,
    /// As soon as they have so many bytes.
    pub bytes: usize,
    /// Whether those behind them are counted; else [`Page::more`] is 0 where there are any.
    pub counted: bool,
}

impl Most {
    pub(super) fn holds(self, items: &[Stored], bytes: usize) -> bool {
        items.len() < self.items && bytes < self.bytes
    }
}

/// How much memory and disk a store may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// Pages of the database kept in memory, in bytes.
    pub cache: usize,
    /// Recent events kept in memory for watchers, in bytes.
    pub recent: usize,
    /// How long they are kept there: a watcher that is behind reads on from the disk.
    pub recent_for: Duration,
    /// How long history is kept.
    pub history: Duration,
    /// How much history is kept on the disk, in bytes: what is more goes before its time.
    pub history_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cache: 2 << 20,
            recent: 8 << 20,
            recent_for: Duration::from_secs(10),
            history: Duration::from_secs(300),
            history_bytes: 64 << 20,
        }
    }
}

/// An open store. Clones are the same store; it is closed when the last one is gone, and its watches with it.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

/// What watches have, too.
#[derive(Debug)]
struct Shared {
    engine: Arc<Engine>,
    recent: Arc<Recent>,
    closed: AtomicBool,
}

impl Shared {
    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    /// `None` only while it is being closed.
    requests: Option<Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    /// Room for what waits to be written, in KiB.
    room: Arc<Semaphore>,
    counted: Counted,
    /// Locked as long as the store is open.
    _folder: Option<Folder>,
    /// Closed when all above are gone: fields go in their order.
    gone: watch_channel::Sender<()>,
}

/// How much may wait to be written, in KiB.
const ROOM: u32 = 32 << 10;

impl Store {
    /// Opens the store in `folder`, which is made (with mode 0700) where there is none.
    ///
    /// # Errors
    /// [`Error::Access`], [`Error::InUse`], [`Error::Foreign`], [`Error::Newer`].
    pub fn open(folder: &Path, options: Options) -> Result<Store> {
        let folder = Folder::lock(folder)?;
        let engine = folder.open(&options)?;
        Store::start(engine, Some(folder), options)
    }

    fn start(engine: Engine, folder: Option<Folder>, options: Options) -> Result<Store> {
        let engine = Arc::new(engine);
        let counters = engine.counters()?;
        let recent = Arc::new(Recent::new(counters));
        let publisher = Publisher::new(recent.clone(), options.recent, options.recent_for);
        let writer = Writer::new(engine.clone(), publisher, counters, options);
        let (requests, waiting) = channel();
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&waiting))
            .map_err(|e| Error::Write(format!("no thread for it can be started: {e}")))?;
        let shared = Arc::new(Shared { engine, recent, closed: AtomicBool::new(false) });
        let room = Arc::new(Semaphore::new(ROOM as usize));
        let (requests, writer, counted) = (Some(requests), Some(writer), Counted::default());
        let gone = watch_channel::channel(()).0;
        let inner = Inner { shared, requests, writer, room, counted, _folder: folder, gone };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Waits until everybody has let go of the store and its folder can be opened again. It does not hold it itself.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut gone = self.inner.gone.subscribe();
        async move { while gone.changed().await.is_ok() {} }
    }

    /// The revision of the last change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.inner.shared.recent.revision()
    }

    /// The object of that name, as it is now.
    ///
    /// # Errors
    /// [`Error::Name`], [`Error::Read`].
    pub fn get(&self, key: &Key) -> Result<Option<Stored>> {
        read::get(&self.inner.shared.engine, key)
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
        let most = Most { items: limit.unwrap_or(usize::MAX), bytes: usize::MAX, counted: true };
        self.page(scope, after, most, at)
    }

    /// As [`Store::list`], but for when it stops.
    ///
    /// # Errors
    /// As of [`Store::list`].
    pub fn page(&self, scope: &Scope, after: Option<&Key>, most: Most, at: Option<u64>) -> Result<Page> {
        read::list(&self.inner.shared.engine, &self.inner.counted, scope, after, most, at)
    }

    /// Does all the writes or none of them, and returns their revision when they are on the disk. Where nothing changes (no
    /// writes, or deletions of what is not there) no revision is spent, and it is the last one.
    ///
    /// A call that is dropped may have been done all the same.
    ///
    /// # Errors
    /// [`Error::Unexpected`] when a condition does not hold; [`Error::Repeated`], [`Error::Name`] and [`Error::Document`]
    /// for what cannot be written; [`Error::Write`], [`Error::Unknown`], [`Error::Failed`] when the disk does not take it.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<u64> {
        let writes = apply::prepare(writes)?;
        let share = u32::try_from(apply::weight(&writes) >> 10).unwrap_or(ROOM).clamp(1, ROOM);
        let room = self.inner.room.clone().acquire_many_owned(share).await.map_err(|_| Error::Closed)?;
        self.ask(Act::Commit(writes), Some(room)).await
    }

    /// The changes of a scope behind the revision `from`.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for a revision that is too old or has not been; [`Error::Read`].
    pub fn watch(&self, scope: Scope, from: u64) -> Result<Watch> {
        Watch::new(self.inner.shared.clone(), scope, from)
    }

    /// Forgets the history before `revision`: lists at older revisions are refused, and so are watches from them, but for
    /// those whose changes are still in memory.
    ///
    /// # Errors
    /// [`Error::Future`]; [`Error::Write`], [`Error::Unknown`], [`Error::Failed`].
    pub async fn compact(&self, revision: u64) -> Result<()> {
        self.ask(Act::Compact(revision), None).await.map(drop)
    }

    async fn ask(&self, act: Act, room: Option<OwnedSemaphorePermit>) -> Result<u64> {
        let (reply, answer) = oneshot::channel();
        let requests = self.inner.requests.as_ref().ok_or(Error::Closed)?;
        requests.send(Request { act, reply, room }).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.requests.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so.
            let _ = writer.join();
        }
        self.shared.closed.store(true, Ordering::Release);
        self.shared.recent.wake_all();
    }
}
