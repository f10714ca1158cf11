//! What of a pool is spoken for beside its records.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use grpc::Failure;

use crate::plugin::backend::Space;

/// How long it is believed what others have of a file system: it takes a walk through all volumes to tell.
const BELIEVED: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Accounts {
    /// Bytes for what is being made.
    pub(super) pending: u64,
    /// What others have, and since when that is known.
    others: Option<(u64, Instant)>,
}

impl Accounts {
    /// What of the file system is neither free nor the pool's.
    pub(super) fn others(
        &mut self,
        space: Space,
        ours: impl FnOnce() -> Result<u64, Failure>,
    ) -> Result<u64, Failure> {
        if let Some((others, since)) = self.others
            && since.elapsed() < BELIEVED
        {
            return Ok(others);
        }
        let others = (space.size - space.free.min(space.size)).saturating_sub(ours()?);
        self.others = Some((others, Instant::now()));
        Ok(others)
    }
}

/// Bytes that are set aside; given back when this is dropped.
pub(crate) struct Reserved<'a> {
    pub(super) accounts: &'a Mutex<Accounts>,
    pub(super) bytes: u64,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        accounts.pending = accounts.pending.saturating_sub(self.bytes);
    }
}
