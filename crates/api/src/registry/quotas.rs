//! Who changes what a namespace's quotas say is used: one after the other, and told when something is given back.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedMutexGuard};

/// While it is held, nobody else takes off the quotas of a namespace.
pub type Turn = OwnedMutexGuard<()>;

/// So many turns are remembered before those that nobody holds are forgotten.
const REMEMBERED: usize = 64;

#[derive(Default)]
pub(super) struct Quotas {
    turns: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
    freed: Mutex<BTreeSet<String>>,
    wake: Notify,
}

impl Quotas {
    /// Waits for the turn of a namespace.
    pub(super) async fn turn(&self, namespace: &str) -> Turn {
        self.of(namespace).lock_owned().await
    }

    fn of(&self, namespace: &str) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = turns.get(namespace).and_then(Weak::upgrade) {
            return held;
        }
        if turns.len() >= REMEMBERED {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let new = Arc::new(AsyncMutex::new(()));
        turns.insert(namespace.to_owned(), Arc::downgrade(&new));
        new
    }

    /// Something in a namespace takes less than before, or is gone.
    pub(super) fn free(&self, namespace: &str) {
        if namespace.is_empty() {
            return;
        }
        let mut freed = self.freed.lock().unwrap_or_else(PoisonError::into_inner);
        if freed.insert(namespace.to_owned()) {
            self.wake.notify_one();
        }
    }

    /// Waits until something is given back, and returns the namespaces.
    pub(super) async fn freed(&self) -> BTreeSet<String> {
        loop {
            let freed = std::mem::take(&mut *self.freed.lock().unwrap_or_else(PoisonError::into_inner));
            if !freed.is_empty() {
                return freed;
            }
            self.wake.notified().await;
        }
    }
}
