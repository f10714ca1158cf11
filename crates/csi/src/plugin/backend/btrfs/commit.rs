//! Commits of the file system: each makes all durable that was done before, and callers that come at once share one.
//!
//! The kernel has a thread for it, which may miss that a commit is asked for where the one before has just ended; it then sleeps
//! on for half a minute, and whoever waits does so as long. Anybody who asks once more wakes it, so somebody looks after those
//! who wait.

use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use grpc::Failure;
use kernel::btrfs;

#[cfg(test)]
mod tests;

/// How long a commit may take to begin before it is asked for once more, which does no harm to one that is slow.
const PATIENCE: Duration = Duration::from_millis(50);

/// Commits of one file system.
pub(super) struct Commits {
    shared: Arc<Shared>,
    /// Looks after who waits; begins with the first of them.
    watch: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    pool: Arc<File>,
    waits: Mutex<Waits>,
    changed: Condvar,
}

#[derive(Default)]
struct Waits {
    /// Callers whose commit has not begun.
    callers: usize,
    /// When it was asked for last.
    asked: Option<Instant>,
    /// Nobody needs looking after.
    is_idle: bool,
    has_ended: bool,
}

impl Commits {
    pub(super) fn of(pool: Arc<File>) -> Commits {
        let shared = Shared { pool, waits: Mutex::default(), changed: Condvar::new() };
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
        self.shared.waits().callers -= 1;
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
        waits.asked = Some(Instant::now());
        if std::mem::take(&mut waits.is_idle) {
            drop(waits);
            self.changed.notify_all();
        }
    }

    fn look_after(&self) {
        let mut waits = self.waits();
        while !waits.has_ended {
            if waits.callers == 0 {
                waits.is_idle = true;
                waits = self.changed.wait(waits).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let late = waits.asked.is_some_and(|asked| asked.elapsed() >= PATIENCE);
            if late {
                waits.asked = Some(Instant::now());
                drop(waits);
                // Those who wait are told what is wrong themselves.
                let _begun = btrfs::start_commit(&self.pool);
                waits = self.waits();
                continue;
            }
            let woken = self.changed.wait_timeout(waits, PATIENCE);
            waits = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
