//! Work that keeps a processor for long, beside the threads that answer everybody: as much of it at a time as leaves them
//! their share.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// So many computations go on at a time; the others wait in the order in which they came.
const LANES: usize = 2;

thread_local! {
    /// Whether this thread is in a lane: what is within a computation is part of it.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// The lanes of one server.
#[derive(Clone, Debug)]
pub(crate) struct Lanes(Arc<Semaphore>);

impl Default for Lanes {
    fn default() -> Lanes {
        Lanes(Arc::new(Semaphore::new(LANES)))
    }
}

impl Lanes {
    /// Computes something when its turn has come. Whoever stops waiting has not begun.
    pub(crate) async fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        if WITHIN.get() {
            return work();
        }
        let lane = self.0.acquire().await;
        let done = aside(work);
        drop(lane);
        done
    }

    /// A future whose every step takes a lane: while it waits for something it holds none.
    pub(crate) fn stepping<F: Future>(&self, inner: F) -> Stepping<F> {
        Stepping { inner: Box::pin(inner), lanes: Arc::clone(&self.0), turn: None }
    }
}

/// Where a lane comes from.
type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// See [`Lanes::stepping`].
pub(crate) struct Stepping<F> {
    inner: Pin<Box<F>>,
    lanes: Arc<Semaphore>,
    turn: Option<Turn>,
}

impl<F: Future> Future for Stepping<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        if WITHIN.get() {
            return this.inner.as_mut().poll(context);
        }
        let lanes = &this.lanes;
        let turn = this.turn.get_or_insert_with(|| Box::pin(Arc::clone(lanes).acquire_owned()));
        let lane = ready!(turn.as_mut().poll(context));
        this.turn = None;
        let done = aside(|| this.inner.as_mut().poll(context));
        drop(lane);
        done
    }
}

/// Lets another thread take over what else this one would do.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    /// A computation may end by a panic.
    struct Out;
    impl Drop for Out {
        fn drop(&mut self) {
            WITHIN.set(false);
        }
    }
    let work = || {
        WITHIN.set(true);
        let _out = Out;
        work()
    };
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // There is no other thread, as in most tests.
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn who_computes_for_long_keeps_nobody_from_being_answered() {
        let lanes = Lanes::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        let computing = tokio::spawn({
            let lanes = lanes.clone();
            async move { lanes.stepping(async move { held.lock().is_ok_and(|held| held.recv().is_ok()) }).await }
        });
        // It blocks the only worker until this task, which that worker would run, lets it go.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        tokio::spawn(async move { release.send(()) }).await.unwrap().unwrap();
        assert!(computing.await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_compute_at_a_time_than_there_are_lanes() {
        let lanes = Lanes::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                let (lanes, now, most) = (lanes.clone(), Arc::clone(&now), Arc::clone(&most));
                tokio::spawn(async move {
                    let work = || {
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(std::time::Duration::from_millis(2));
                        now.fetch_sub(1, Ordering::SeqCst);
                    };
                    lanes.run(work).await;
                    lanes.stepping(async { work() }).await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= LANES);
    }

    #[tokio::test]
    async fn what_is_within_a_computation_needs_no_other_lane() {
        let lanes = Lanes::default();
        let nested = (0..4 * LANES).map(|_| {
            let lanes = lanes.clone();
            let inner = lanes.clone();
            tokio::spawn(async move {
                lanes
                    .stepping(async move {
                        for _ in 0..10 {
                            inner.run(|| ()).await;
                            inner.stepping(tokio::task::yield_now()).await;
                        }
                    })
                    .await;
            })
        });
        for task in nested.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_waits_for_something_holds_no_lane() {
        let lanes = Lanes::default();
        let waiting: Vec<_> =
            (0..LANES).map(|_| tokio::spawn(lanes.stepping(std::future::pending::<()>()))).collect();
        tokio::task::yield_now().await;
        assert_eq!(lanes.run(|| 7).await, 7);
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
