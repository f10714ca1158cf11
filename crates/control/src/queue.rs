//! What has to be looked at, each thing by one worker at a time, and again later where it failed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What is to come of a thing that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until it is [added](Queue::add) again.
    Done,
    /// It is looked at again after this long; earlier failures are forgotten.
    After(Duration),
    /// It failed: again after a time that doubles with each failure.
    Again,
}

/// How fast a queue goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many things are looked at at the same time.
    pub workers: usize,
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Pace {
    /// As the sidecars have it: 10 at a time, again after 1 second, doubled up to 5 minutes.
    fn default() -> Self {
        Self { workers: 10, first: Duration::from_secs(1), longest: Duration::from_secs(300) }
    }
}

/// A queue of keys. A key that is in it is in it once; one that is added while it is looked at is looked at again afterwards.
#[derive(Debug)]
pub struct Queue<K> {
    pace: Pace,
    state: Mutex<State<K>>,
    more: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: BTreeSet<K>,
    busy: BTreeSet<K>,
    later: BTreeSet<(Instant, K)>,
    failures: BTreeMap<K, u32>,
}

impl<K: Clone + Ord + Send + Debug + 'static> Queue<K> {
    /// An empty one.
    #[must_use]
    pub fn new(pace: Pace) -> Arc<Self> {
        let state = State {
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            busy: BTreeSet::new(),
            later: BTreeSet::new(),
            failures: BTreeMap::new(),
        };
        Arc::new(Self { pace, state: Mutex::new(state), more: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a key looked at as soon as there is a worker. One that waits because it failed is looked at now, too: something about it
    /// has changed.
    pub fn add(&self, key: K) {
        let mut state = self.state();
        if state.queued.insert(key.clone()) && !state.busy.contains(&key) {
            state.ready.push_back(key);
            drop(state);
            self.more.notify_one();
        }
    }

    /// Has keys looked at, as [`Queue::add`] does with one.
    pub fn add_all(&self, keys: impl IntoIterator<Item = K>) {
        keys.into_iter().for_each(|key| self.add(key));
    }

    /// Has a key looked at after a while, whatever else happens to it.
    pub fn add_after(&self, key: K, wait: Duration) {
        self.state().later.insert((Instant::now() + wait, key));
        self.more.notify_one();
    }

    /// How many are waiting or being looked at.
    #[must_use]
    pub fn len(&self) -> usize {
        let state = self.state();
        state.queued.union(&state.busy).count()
    }

    /// Whether nothing waits and nothing is being looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often a key has failed since it last succeeded.
    #[must_use]
    pub fn failures(&self, key: &K) -> u32 {
        self.state().failures.get(key).copied().unwrap_or_default()
    }

    /// Looks at keys with `look` until it is dropped. What is being looked at is dropped with it.
    pub async fn run<F>(self: Arc<Self>, look: impl Fn(K) -> F)
    where
        F: Future<Output = Next>,
    {
        use futures_util::StreamExt as _;
        let mut running = futures_util::stream::FuturesUnordered::new();
        loop {
            let until = loop {
                if running.len() >= self.pace.workers {
                    break None;
                }
                match self.take() {
                    Ok(key) => {
                        let looking = look(key.clone());
                        running.push(async move { (key, looking.await) });
                    }
                    Err(until) => break until,
                }
            };
            tokio::select! {
                Some((key, next)) = running.next(), if !running.is_empty() => self.finish(key, next),
                () = self.more.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// The next key; or, where none is ready, when there will be one.
    fn take(&self) -> Result<K, Option<Instant>> {
        let mut state = self.state();
        let now = Instant::now();
        while state.later.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = state.later.pop_first() else { break };
            if state.queued.insert(key.clone()) && !state.busy.contains(&key) {
                state.ready.push_back(key);
            }
        }
        let Some(key) = state.ready.pop_front() else {
            return Err(state.later.first().map(|(at, _)| *at));
        };
        state.queued.remove(&key);
        state.busy.insert(key.clone());
        Ok(key)
    }

    fn finish(&self, key: K, next: Next) {
        let mut state = self.state();
        state.busy.remove(&key);
        let wait = match next {
            Next::Done => {
                state.failures.remove(&key);
                None
            }
            Next::After(wait) => {
                state.failures.remove(&key);
                Some(wait)
            }
            Next::Again => {
                let failures = state.failures.entry(key.clone()).or_default();
                let doubled =
                    self.pace.first.saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX));
                *failures = failures.saturating_add(1);
                Some(doubled.min(self.pace.longest))
            }
        };
        if state.queued.contains(&key) {
            // Added while it was looked at.
            state.ready.push_back(key);
        } else if let Some(wait) = wait {
            state.later.insert((Instant::now() + wait, key));
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
