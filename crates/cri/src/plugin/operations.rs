//! Work that outlives its caller: a kubelet's deadline ends its call, not what was begun for it.
//!
//! An operation has a key (a pod's uid and attempt, say). Whoever calls with the key of one that runs joins it. When it ends
//! and nobody is there to take the result, the result waits for a grace period; then it is taken back.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// Operations by key, with results of type `T`.
#[derive(Debug)]
pub(crate) struct Operations<K, T> {
    running: Mutex<HashMap<K, Running<T>>>,
    grace: Duration,
}

#[derive(Debug)]
struct Running<T> {
    /// `None` until it has ended.
    result: watch::Receiver<Option<T>>,
    /// Callers that wait for it now.
    waiting: usize,
    /// Tells apart operations that had one key after the other.
    number: u64,
}

/// A caller that waits; counted as long as it lives.
struct Waiting<'a, K: Eq + Hash + Clone, T> {
    operations: &'a Operations<K, T>,
    key: &'a K,
    number: u64,
}

impl<K: Eq + Hash + Clone, T> Drop for Waiting<'_, K, T> {
    fn drop(&mut self) {
        let mut running = self.operations.lock();
        if let Some(running) = running.get_mut(self.key).filter(|r| r.number == self.number) {
            running.waiting -= 1;
        }
    }
}

impl<K, T> Operations<K, T> {
    /// None yet. A result that nobody took is kept for `grace`.
    pub(crate) fn new(grace: Duration) -> Self {
        Self { running: Mutex::default(), grace }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Running<T>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, T> Operations<K, T>
where
    K: Eq + Hash + Clone + Send + Sync + 'static,
    T: Clone + Send + Sync + 'static,
{
    /// Joins the operation `key`, or begins it with `work`, and waits for its result.
    ///
    /// `work` runs as a task of its own, to its end. If its result is never taken (every caller left before it), `abandon`
    /// gets it after the grace period. `T` is a result by the caller's notion, errors included.
    pub(crate) async fn run<W, A, F>(self: &Arc<Self>, key: K, work: W, abandon: A) -> Option<T>
    where
        W: Future<Output = T> + Send + 'static,
        A: FnOnce(T) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (mut result, number) = self.join_or_begin(&key, work, abandon);
        let waiting = Waiting { operations: self, key: &key, number };
        // The sender is gone only if the work panicked.
        let value = result.wait_for(Option::is_some).await.ok().and_then(|value| value.clone());
        // It has been taken: whoever comes now begins anew.
        let mut running = self.lock();
        if running.get(&key).is_some_and(|r| r.number == number) {
            running.remove(&key);
        }
        drop(running);
        drop(waiting);
        value
    }

    /// Somebody uses what the operation made, so its result needs nobody to come for it. One that still runs goes on.
    pub(crate) fn taken(&self, key: &K) {
        let mut running = self.lock();
        if running.get(key).is_some_and(|r| r.result.borrow().is_some()) {
            running.remove(key);
        }
    }

    fn join_or_begin<W, A, F>(
        self: &Arc<Self>,
        key: &K,
        work: W,
        abandon: A,
    ) -> (watch::Receiver<Option<T>>, u64)
    where
        W: Future<Output = T> + Send + 'static,
        A: FnOnce(T) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let mut running = self.lock();
        if let Some(there) = running.get_mut(key) {
            there.waiting += 1;
            return (there.result.clone(), there.number);
        }
        let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (sender, result) = watch::channel(None);
        running.insert(key.clone(), Running { result: result.clone(), waiting: 1, number });
        drop(running);
        let (this, key) = (Arc::clone(self), key.clone());
        tokio::spawn(async move {
            // A panic must not leave the key taken for ever.
            let guard = Forget { operations: &this, key: &key, number, armed: true };
            let value = work.await;
            sender.send_replace(Some(value.clone()));
            let unclaimed = loop {
                match this.claim(&key, number) {
                    Claim::Taken => break false,
                    // It is being woken up.
                    Claim::Wanted => tokio::time::sleep(Duration::from_millis(10)).await,
                    Claim::Unwanted => {
                        tokio::time::sleep(this.grace).await;
                        if this.forget_unless_wanted(&key, number) {
                            break true;
                        }
                    }
                }
            };
            guard.disarm();
            if unclaimed {
                abandon(value).await;
            }
        });
        (result, number)
    }

    fn claim(&self, key: &K, number: u64) -> Claim {
        match self.lock().get(key).filter(|r| r.number == number) {
            None => Claim::Taken,
            Some(running) if running.waiting > 0 => Claim::Wanted,
            Some(_) => Claim::Unwanted,
        }
    }

    /// Takes the operation away if nobody waits for it; whether it was there and unwanted.
    fn forget_unless_wanted(&self, key: &K, number: u64) -> bool {
        let mut running = self.lock();
        let unwanted = running.get(key).is_some_and(|r| r.number == number && r.waiting == 0);
        if unwanted {
            running.remove(key);
        }
        unwanted
    }
}

/// Who cares for the result of an operation that has ended.
enum Claim {
    Taken,
    Wanted,
    Unwanted,
}

struct Forget<'a, K: Eq + Hash, T> {
    operations: &'a Operations<K, T>,
    key: &'a K,
    number: u64,
    armed: bool,
}

impl<K: Eq + Hash, T> Forget<'_, K, T> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl<K: Eq + Hash, T> Drop for Forget<'_, K, T> {
    fn drop(&mut self) {
        if self.armed {
            let mut running = self.operations.lock();
            if running.get(self.key).is_some_and(|r| r.number == self.number) {
                running.remove(self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const GRACE: Duration = Duration::from_millis(200);

    struct Counts {
        begun: AtomicUsize,
        abandoned: AtomicUsize,
    }

    fn counts() -> Arc<Counts> {
        Arc::new(Counts { begun: AtomicUsize::new(0), abandoned: AtomicUsize::new(0) })
    }

    async fn call(
        operations: &Arc<Operations<u8, u32>>,
        counts: &Arc<Counts>,
        takes: Duration,
    ) -> Option<u32> {
        let (begun, abandoned) = (Arc::clone(counts), Arc::clone(counts));
        let work = async move {
            begun.begun.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(takes).await;
            7
        };
        operations
            .run(1, work, move |_| async move {
                abandoned.abandoned.fetch_add(1, Ordering::SeqCst);
            })
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn callers_with_one_key_share_one_operation() {
        let (operations, counts) = (Arc::new(Operations::new(GRACE)), counts());
        let second = Duration::from_secs(1);
        let (a, b) = tokio::join!(call(&operations, &counts, second), call(&operations, &counts, second));
        assert_eq!((a, b), (Some(7), Some(7)));
        assert_eq!(counts.begun.load(Ordering::SeqCst), 1);
        tokio::time::sleep(second).await;
        assert_eq!(counts.abandoned.load(Ordering::SeqCst), 0);
        assert!(operations.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_joins_what_its_caller_left_and_what_ended_meanwhile() {
        let (operations, counts) = (Arc::new(Operations::new(GRACE)), counts());
        for pause in [10, 150] {
            let left = tokio::time::timeout(
                Duration::from_millis(10),
                call(&operations, &counts, Duration::from_millis(100)),
            );
            assert!(left.await.is_err());
            tokio::time::sleep(Duration::from_millis(pause)).await;
            assert_eq!(call(&operations, &counts, Duration::from_millis(100)).await, Some(7));
        }
        assert_eq!(counts.begun.load(Ordering::SeqCst), 2);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(counts.abandoned.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_comes_for_is_taken_back() {
        let (operations, counts) = (Arc::new(Operations::new(GRACE)), counts());
        let left = tokio::time::timeout(
            Duration::from_millis(10),
            call(&operations, &counts, Duration::from_millis(100)),
        );
        assert!(left.await.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counts.abandoned.load(Ordering::SeqCst), 1);
        assert!(operations.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_use_is_not_taken_back() {
        let (operations, counts) = (Arc::new(Operations::new(GRACE)), counts());
        let left = tokio::time::timeout(
            Duration::from_millis(10),
            call(&operations, &counts, Duration::from_millis(100)),
        );
        assert!(left.await.is_err());
        operations.taken(&1);
        assert_eq!(operations.lock().len(), 1, "it runs on");
        tokio::time::sleep(Duration::from_millis(150)).await;
        operations.taken(&1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(counts.abandoned.load(Ordering::SeqCst), 0);
        assert!(operations.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_frees_the_key() {
        let operations: Arc<Operations<u8, u32>> = Arc::new(Operations::new(GRACE));
        let panics = async { panic!("on purpose") };
        assert_eq!(operations.run(1, panics, |_| async {}).await, None);
        assert_eq!(operations.run(1, async { 8 }, |_| async {}).await, Some(8));
    }
}
