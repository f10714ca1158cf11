//! What of a pool is spoken for beside its records.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it is believed what others have of a file system: it takes a walk through all volumes to tell.
const BELIEVED: Duration = Duration::from_secs(10);

/// Bytes for what is being made, and what others have. Nothing is waited for under its lock.
#[derive(Default)]
pub(super) struct Accounts(Mutex<Held>);

#[derive(Default)]
pub(super) struct Held {
    pub(super) pending: u64,
    others: Option<(u64, Instant)>,
}

impl Accounts {
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others have, if that was looked at lately. Who gets `None` is to look; meanwhile the others get what was known.
    pub(super) fn known_others(&self) -> Option<u64> {
        let mut held = self.held();
        let (bytes, since) = held.others?;
        if since.elapsed() >= BELIEVED {
            held.others = Some((bytes, Instant::now()));
            return None;
        }
        Some(bytes)
    }

    pub(super) fn set_others(&self, bytes: u64) {
        self.held().others = Some((bytes, Instant::now()));
    }
}

/// Bytes that are set aside; given back when this is dropped.
pub(crate) struct Reserved<'a> {
    pub(super) accounts: &'a Accounts,
    pub(super) bytes: u64,
}

impl Reserved<'_> {
    /// Has `keep` put what was made into the index, in whose sum it is from then on: never in both, never in none.
    pub(super) fn settle<T>(mut self, keep: impl FnOnce() -> T) -> T {
        let mut held = self.accounts.held();
        let kept = keep();
        held.pending = held.pending.saturating_sub(std::mem::take(&mut self.bytes));
        kept
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            let mut held = self.accounts.held();
            held.pending = held.pending.saturating_sub(self.bytes);
        }
    }
}
