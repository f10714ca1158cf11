//! What a watcher has.

use super::{Event, Result, Scope};
use std::sync::Arc;

/// The changes of a scope, one after the other, without a gap.
///
/// It is a place in the store's history and no queue: one that is not asked costs nothing, and may find one day that the
/// history it had still to see is gone.
#[derive(Debug)]
pub struct Watch {
    scope: Scope,
}

impl Watch {
    /// The next change, when there is one. It can be dropped and called again without losing one.
    ///
    /// # Errors
    /// [`Error::Compacted`](super::Error::Compacted) when the next change is no longer kept: the watcher was too slow.
    /// [`Error::Closed`](super::Error::Closed) when the store is closed, [`Error::Read`](super::Error::Read).
    pub async fn next(&mut self) -> Result<Arc<Event>> {
        std::future::pending().await
    }

    /// The revision up to which there is nothing that it has not told: what a bookmark may name.
    #[must_use]
    pub fn revision(&self) -> u64 {
        0
    }

    /// What it is about.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }
}
