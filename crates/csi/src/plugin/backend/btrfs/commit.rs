//! Commits of the file system: each makes all durable that was done before, and callers that come at once share one.
//!
//! The kernel has a thread for it, which misses that a commit is asked for while it is busy with the one before; it then sleeps
//! for half a minute, and whoever waits does so as long. Anybody who asks once more wakes it, so somebody looks after those
//! who wait. Who asks waits himself until a commit begins, and may be missed as well: each time it is asked from another thread.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grpc::Failure;
use kernel::btrfs;

#[cfg(test)]
mod tests;

/// How long a commit may take to begin before it is asked for once more, which does no harm to one that is slow. Each time twice as
/// long: on a disk that hangs, nobody knows for how long, there are a few threads that ask and not many.
const PATIENCE: Duration = Duration::from_millis(50);

/// Commits of one file system.
pub(super) struct Commits {
    shared: Arc<Shared>,
    /// Looks after who waits; begins with the first of them.
    watch: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    pool: Arc<File>,
    /// Asks for a commit, and waits until it begins. Those who wait are told what is wrong themselves.
    ask: fn(&File),
    waits: Mutex<Waits>,
    changed: Condvar,
}

struct Waits {
    /// Callers whose commit has not begun.
    callers: usize,
    /// When it was asked for last.
    asked: Instant,
    /// When it is asked for once more.
    patience: Duration,
    /// Nobody needs looking after.
    is_idle: bool,
    has_ended: bool,
}

impl Commits {
    pub(super) fn of(pool: Arc<File>) -> Commits {
        Commits::asked_by(pool, |pool| drop(btrfs::start_commit(pool)))
    }

    fn asked_by(pool: Arc<File>, ask: fn(&File)) -> Commits {
        let waits =
            Waits { callers: 0, asked: Instant::now(), patience: PATIENCE, is_idle: false, has_ended: false };
        let shared = Shared { pool, ask, waits: Mutex::new(waits), changed: Condvar::new() };
        Commits { shared: Arc::new(shared), watch: Mutex::default() }
    }

    /// Makes durable all that was done on the file system.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn commit(&self) -> Result<(), Failure> {
        let begun = self.start()?;
        Ok(btrfs::wait_for_commit(&self.shared.pool, begun)?)
    }

    /// Begins to; the number of the transaction.
    ///
    /// # Errors
    /// The file system has broken down.
    pub(super) fn start(&self) -> Result<u64, Failure> {
        self.look_after();
        self.shared.begin();
        let begun = btrfs::start_commit(&self.shared.pool);
        self.shared.end();
        Ok(begun?)
    }

    /// Without a thread for it commits are late now and then, and no less durable.
    fn look_after(&self) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if watch.is_none() {
            let shared = Arc::clone(&self.shared);
            *watch = std::thread::Builder::new().spawn(move || shared.look_after()).ok();
        }
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.shared.waits().has_ended = true;
        self.shared.changed.notify_all();
        // It has the file system open.
        if let Some(watch) = self.watch.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _it_ended = watch.join();
        }
    }
}

impl Shared {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        let mut waits = self.waits();
        waits.callers += 1;
        waits.asked = Instant::now();
        if std::mem::take(&mut waits.is_idle) {
            drop(waits);
            self.changed.notify_all();
        }
    }

    fn end(&self) {
        let mut waits = self.waits();
        waits.callers -= 1;
        // One has begun.
        if waits.patience != PATIENCE {
            waits.patience = PATIENCE;
            drop(waits);
            self.changed.notify_all();
        }
    }

    fn look_after(&self) {
        std::thread::scope(|asking| {
            let mut waits = self.waits();
            while !waits.has_ended {
                if waits.callers == 0 {
                    waits.is_idle = true;
                    waits = self.changed.wait(waits).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                let waited = waits.asked.elapsed();
                if waited >= waits.patience {
                    waits.asked = Instant::now();
                    waits.patience *= 2;
                    // Without a thread for it, the next time.
                    let _asks = std::thread::Builder::new().spawn_scoped(asking, || (self.ask)(&self.pool));
                    continue;
                }
                let left = waits.patience - waited;
                waits = self.changed.wait_timeout(waits, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        });
    }
}
