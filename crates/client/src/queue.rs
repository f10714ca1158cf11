//! What has to be looked at, each thing by one worker at a time, and again later where it failed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Debug;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Longer than any process lives.
const FAR: Duration = Duration::from_secs(365 * 86_400);

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
    /// How many things of a lane are looked at at the same time.
    pub workers: usize,
    /// The wait after the first failure.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// By up to how many percent a wait after a failure is longer than that, by chance: what failed together, because it was in each
    /// other's way, does not meet again.
    pub spread: u32,
    /// How often failures are followed by another look, whatever they are of.
    pub rate: Option<Rate>,
}

/// How often something may be done: a bucket that fills by so much, and that holds so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// So many in a second.
    pub per_second: u32,
    /// So many at once, where none was for long.
    pub burst: u32,
}

impl Rate {
    /// That of client-go's queues.
    pub const OF_CLIENT_GO: Self = Self { per_second: 10, burst: 100 };

    /// How long the next one waits, and when the bucket is full after it; `full` is when it is without it.
    fn next(self, full: Option<Instant>, now: Instant) -> (Duration, Instant) {
        let one = Duration::from_secs(1) / self.per_second.max(1);
        let full = full.map_or(now, |full| full.max(now)) + one;
        ((full - now).saturating_sub(one.saturating_mul(self.burst)), full)
    }
}

impl Default for Pace {
    /// As the sidecars have it: 10 at a time, again after 1 second, doubled up to 5 minutes; and up to a quarter more.
    fn default() -> Self {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        Self { workers: 10, first, longest, spread: 25, rate: None }
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
    later: Later<K>,
    /// When the bucket of failures is full again.
    full: Option<Instant>,
    failures: BTreeMap<K, u32>,
}

/// Keys with a time, each with one.
#[derive(Debug)]
struct Later<K> {
    by_time: BTreeSet<(Instant, K)>,
    by_key: BTreeMap<K, Instant>,
}

impl<K: Clone + Ord> Later<K> {
    fn put(&mut self, key: K, at: Instant) {
        self.remove(&key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key));
    }

    fn remove(&mut self, key: &K) {
        if let Some((key, at)) = self.by_key.remove_entry(key) {
            self.by_time.remove(&(at, key));
        }
    }

    fn first(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// The first one, if it is time for it.
    fn take(&mut self, now: Instant) -> Option<K> {
        self.first().filter(|at| *at <= now)?;
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }
}

/// What may be looked at at the same time, and what waits for that.
struct Lane<K> {
    waiting: VecDeque<K>,
    running: usize,
}

impl<K: Clone + Ord + Send + Debug + 'static> Queue<K> {
    /// An empty one.
    #[must_use]
    pub fn new(pace: Pace) -> Arc<Self> {
        let state = State {
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            busy: BTreeSet::new(),
            later: Later { by_time: BTreeSet::new(), by_key: BTreeMap::new() },
            failures: BTreeMap::new(),
            full: None,
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
        self.run_in_lanes(|_| (), look).await;
    }

    /// The same; each lane that `lane` names has as many workers as the queue else would. What holds those of one lane, a driver that
    /// does not answer, holds nothing in another.
    pub async fn run_in_lanes<L, F>(self: Arc<Self>, lane: impl Fn(&K) -> L, look: impl Fn(K) -> F)
    where
        L: Clone + Ord,
        F: Future<Output = Next>,
    {
        use futures_util::StreamExt as _;
        let mut running = futures_util::stream::FuturesUnordered::new();
        let mut lanes: BTreeMap<L, Lane<K>> = BTreeMap::new();
        loop {
            while let Some(key) = self.take() {
                let lane = lanes.entry(lane(&key));
                lane.or_insert(Lane { waiting: VecDeque::new(), running: 0 }).waiting.push_back(key);
            }
            for (name, lane) in &mut lanes {
                while lane.running < self.pace.workers
                    && let Some(key) = lane.waiting.pop_front()
                {
                    self.begin(&key);
                    lane.running += 1;
                    let (name, looking) = (name.clone(), look(key.clone()));
                    running.push(async move { (name, key, looking.await) });
                }
            }
            let until = self.state().later.first();
            tokio::select! {
                Some((name, key, next)) = running.next(), if !running.is_empty() => {
                    if let Some(lane) = lanes.get_mut(&name) {
                        lane.running -= 1;
                        if lane.running == 0 && lane.waiting.is_empty() {
                            lanes.remove(&name);
                        }
                    }
                    self.finish(key, next);
                }
                () = self.more.notified() => {}
                () = sleep_until(until) => {}
            }
        }
    }

    /// The next key that is ready. It stays queued until it is begun with.
    fn take(&self) -> Option<K> {
        let mut state = self.state();
        let now = Instant::now();
        while let Some(key) = state.later.take(now) {
            if state.queued.insert(key.clone()) && !state.busy.contains(&key) {
                state.ready.push_back(key);
            }
        }
        state.ready.pop_front()
    }

    fn begin(&self, key: &K) {
        let mut state = self.state();
        state.queued.remove(key);
        state.busy.insert(key.clone());
        // What it waited for comes with this look, or is waited for again after it.
        state.later.remove(key);
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
                let own = self.pace.spread(doubled.min(self.pace.longest));
                let of_all = self.pace.rate.map(|rate| rate.next(state.full, Instant::now()));
                state.full = of_all.map(|(_, full)| full);
                Some(of_all.map_or(own, |(wait, _)| wait.max(own)))
            }
        };
        if state.queued.contains(&key) {
            // Added while it was looked at.
            state.ready.push_back(key);
        } else if let Some(wait) = wait {
            // No clock tells more than it can hold.
            state.later.put(key, Instant::now() + wait.min(FAR));
        }
    }
}

impl Pace {
    fn spread(&self, wait: Duration) -> Duration {
        // Keys of hash maps are the standard library's only source of chance.
        let chance = std::hash::RandomState::new().build_hasher().finish() % 1000;
        wait + wait * u32::try_from(chance).unwrap_or_default() / 1000 * self.spread / 100
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
