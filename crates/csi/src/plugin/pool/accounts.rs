//! What of a pool is spoken for beside its records.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use grpc::{Code, Failure};

use super::Pool;

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

impl Pool {
    /// Sets `bytes` aside for what is about to be made, until the index has it.
    ///
    /// # Errors
    /// `ResourceExhausted` where the pool has not as many left.
    pub(crate) fn reserve(&self, bytes: u64) -> Result<Reserved<'_>, Failure> {
        let whole = self.whole()?;
        let mut held = self.accounts.held();
        let left = whole.saturating_sub(self.promised().saturating_add(held.pending));
        if bytes > left {
            let hint = "delete what is not needed, make the pool larger, or allow more with its `overcommit`";
            let message = format!(
                "the pool {:?} has {left} bytes left of {bytes} that are asked for: {hint}",
                self.name
            );
            return Err(Failure::new(Code::ResourceExhausted, message));
        }
        held.pending += bytes;
        Ok(Reserved { accounts: &self.accounts, bytes })
    }

    /// How many bytes can still be promised.
    ///
    /// # Errors
    /// The pool cannot be asked.
    pub(crate) fn available(&self) -> Result<u64, Failure> {
        let whole = self.whole()?;
        let held = self.accounts.held();
        Ok(whole.saturating_sub(self.promised().saturating_add(held.pending)))
    }

    /// How many bytes may be promised in all.
    fn whole(&self) -> Result<u64, Failure> {
        let space = self.backend("")?.space(&self.path)?;
        let others = match self.accounts.known_others() {
            Some(others) => others,
            None => {
                let used = space.size - space.free.min(space.size);
                // Where nobody has anything nobody has to be counted.
                let others = if used == 0 { 0 } else { used.saturating_sub(self.allocated()?) };
                self.accounts.set_others(others);
                others
            }
        };
        Ok((space.size.saturating_sub(others) as f64 * self.overcommit) as u64)
    }

    /// What volumes and snapshots may come to take.
    fn promised(&self) -> u64 {
        let index = self.index();
        let volumes = index.volumes.values().map(|kept| kept.record.taken);
        volumes.chain(index.snapshots.values().map(|kept| kept.record.held)).fold(0, u64::saturating_add)
    }

    /// What they have now. Of those whose backend is away it cannot be told.
    fn allocated(&self) -> Result<u64, Failure> {
        let (volumes, snapshots) = (self.volumes(), self.snapshots());
        let all = volumes.iter().map(|kept| (&kept.record, &kept.place));
        let all = all.chain(snapshots.iter().map(|kept| (&kept.record.volume, &kept.place)));
        let mut sum = 0_u64;
        for (volume, place) in all {
            if let Ok(backend) = self.backend_of(volume) {
                sum = sum.saturating_add(backend.allocated(place)?);
            }
        }
        Ok(sum)
    }
}
