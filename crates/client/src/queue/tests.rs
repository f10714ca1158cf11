use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::{Next, Pace, Queue, Rate};

const SECOND: Duration = Duration::from_secs(1);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// What was looked at, and when after the start.
async fn seen(
    queue: std::sync::Arc<Queue<u32>>,
    time: Duration,
    say: impl Fn(u32) -> Next,
) -> Vec<(u32, u64)> {
    let seen = Mutex::new(Vec::new());
    let start = Instant::now();
    let look = |key| {
        seen.lock().unwrap().push((key, start.elapsed().as_secs()));
        std::future::ready(say(key))
    };
    let _ = tokio::time::timeout(time, queue.run(look)).await;
    seen.into_inner().unwrap()
}

#[test]
fn what_fails_is_looked_at_again_later_and_later() {
    runtime().block_on(async {
        let queue = Queue::new(Pace { longest: 5 * SECOND, spread: 0, ..Pace::default() });
        queue.add(1);
        let seen = seen(queue.clone(), 20 * SECOND, |_| Next::Again).await;
        assert_eq!(seen.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 1, 3, 7, 12, 17]);
        assert_eq!(queue.failures(&1), 6);
    });
}

#[test]
fn what_is_added_twice_is_looked_at_once() {
    runtime().block_on(async {
        let queue = Queue::new(Pace::default());
        queue.add(1);
        queue.add(2);
        queue.add(1);
        assert_eq!(seen(queue.clone(), 10 * SECOND, |_| Next::Done).await, [(1, 0), (2, 0)]);
        assert!(queue.is_empty());
    });
}

#[test]
fn one_key_has_one_worker_and_is_looked_at_again() {
    runtime().block_on(async {
        let queue = Queue::new(Pace { workers: 4, ..Pace::default() });
        let (now, most, count) = (Mutex::new(0), Mutex::new(0), Mutex::new(0));
        queue.add(1);
        let look = |_| async {
            *count.lock().unwrap() += 1;
            {
                let mut now = now.lock().unwrap();
                *now += 1;
                let mut most = most.lock().unwrap();
                *most = (*most).max(*now);
            }
            tokio::time::sleep(SECOND).await;
            *now.lock().unwrap() -= 1;
            Next::Done
        };
        let adds = async {
            for _ in 0..5 {
                tokio::time::sleep(SECOND / 10).await;
                queue.add(1);
            }
            tokio::time::sleep(9 * SECOND).await;
        };
        tokio::select! {
            () = queue.clone().run(look) => {}
            () = adds => {}
        }
        assert_eq!((*most.lock().unwrap(), *count.lock().unwrap()), (1, 2));
    });
}

#[test]
fn many_are_looked_at_together_and_no_more_than_that() {
    runtime().block_on(async {
        let queue = Queue::new(Pace { workers: 3, ..Pace::default() });
        (0..9).for_each(|key| queue.add(key));
        let start = Instant::now();
        let done = Mutex::new(Vec::new());
        let look = |_| async {
            tokio::time::sleep(SECOND).await;
            done.lock().unwrap().push(start.elapsed().as_secs());
            Next::Done
        };
        let _ = tokio::time::timeout(10 * SECOND, queue.clone().run(look)).await;
        assert_eq!(*done.lock().unwrap(), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
    });
}

#[test]
fn what_is_added_while_it_waits_waits_for_one_time_only() {
    runtime().block_on(async {
        let queue = Queue::new(Pace::default());
        queue.add(1);
        let adds = async {
            for _ in 0..3 {
                tokio::time::sleep(2 * SECOND).await;
                queue.add(1);
            }
            std::future::pending::<Vec<_>>().await
        };
        let seen = tokio::select! {
            seen = seen(queue.clone(), 30 * SECOND, |_| Next::After(10 * SECOND)) => seen,
            never = adds => never,
        };
        assert_eq!(seen.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 2, 4, 6, 16, 26]);
    });
}

#[test]
fn a_wait_without_an_end_is_one_that_a_change_ends() {
    runtime().block_on(async {
        let queue = Queue::new(Pace::default());
        queue.add(1);
        let adds = async {
            tokio::time::sleep(2 * SECOND).await;
            queue.add(1);
            std::future::pending::<Vec<_>>().await
        };
        let seen = tokio::select! {
            seen = seen(queue.clone(), 3600 * SECOND, |_| Next::After(Duration::MAX)) => seen,
            never = adds => never,
        };
        assert_eq!(seen, [(1, 0), (1, 2)]);
    });
}

#[test]
fn waits_after_failures_are_spread_and_never_shorter() {
    let pace = Pace { spread: 50, ..Pace::default() };
    let waits: Vec<_> = (0..100).map(|_| pace.spread(10 * SECOND)).collect();
    assert!(waits.iter().all(|wait| (10 * SECOND..15 * SECOND).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
    assert_eq!(Pace { spread: 0, ..pace }.spread(SECOND), SECOND);
    assert!(pace.spread(Duration::from_secs(1 << 40)) >= Duration::from_secs(1 << 40));
}

/// Nothing waits for the bucket but what has failed.
#[test]
fn of_many_that_fail_together_some_are_looked_at_again_at_once_and_the_others_one_after_the_other() {
    runtime().block_on(async {
        let pace =
            Pace { first: SECOND / 1000, spread: 0, rate: Some(Rate::OF_CLIENT_GO), ..Pace::default() };
        let queue = Queue::new(pace);
        (0..150).for_each(|key| queue.add(key));
        let failed = Mutex::new(BTreeSet::new());
        let say = |key| if failed.lock().unwrap().insert(key) { Next::Again } else { Next::Done };
        let seen = seen(queue.clone(), 60 * SECOND, say).await;
        let at = |second: u64| seen.iter().filter(|(_, at)| *at == second).count();
        // All, and a hundred of them again, and nine in the rest of the second.
        assert_eq!([0, 1, 2, 3, 4, 5].map(at), [150 + 100 + 9, 10, 10, 10, 10, 1]);
        assert_eq!((seen.len(), queue.is_empty()), (300, true));
        // It has filled meanwhile.
        failed.lock().unwrap().clear();
        (0..100).for_each(|key| queue.add(key));
        let seen = self::seen(queue.clone(), 60 * SECOND, say).await;
        assert!(seen.len() == 200 && seen.iter().all(|(_, at)| *at == 0), "{seen:?}");
    });
}

#[test]
fn who_waits_longer_for_itself_does_so() {
    runtime().block_on(async {
        let rate = Some(Rate { per_second: 1, burst: 1 });
        let queue = Queue::new(Pace { spread: 0, rate, ..Pace::default() });
        queue.add(1);
        let seen = seen(queue.clone(), 16 * SECOND, |_| Next::Again).await;
        assert_eq!(seen.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 1, 3, 7, 15]);
    });
}

#[test]
fn a_bucket_is_emptied_and_fills() {
    let (rate, start) = (Rate { per_second: 10, burst: 3 }, Instant::now());
    let mut full = None;
    let mut waits = |after: u64, count: usize| -> Vec<u64> {
        let take = |_| {
            let (wait, then) = rate.next(full, start + SECOND / 1000 * u32::try_from(after).unwrap());
            full = Some(then);
            u64::try_from(wait.as_millis()).unwrap()
        };
        (0..count).map(take).collect()
    };
    assert_eq!(waits(0, 5), [0, 0, 0, 100, 200]);
    assert_eq!(waits(100, 1), [200], "those before it wait still");
    assert_eq!(waits(700, 2), [0, 0], "it is full again");
    assert_eq!(waits(10_000, 4), [0, 0, 0, 100], "it holds no more than that");
    assert_eq!(Rate { per_second: 0, burst: 0 }.next(None, start).0, SECOND, "never for ever");
}

#[test]
fn a_lane_that_hangs_holds_no_other() {
    runtime().block_on(async {
        let queue = Queue::new(Pace { workers: 2, ..Pace::default() });
        // All of lane 1 hang; those of lane 0 come after them.
        (0..10).map(|key| key * 2 + 1).chain([0, 2, 4]).for_each(|key| queue.add(key));
        let start = Instant::now();
        let (begun, done) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let look = |key: u32| {
            begun.lock().unwrap().push(key);
            let (done, start) = (&done, &start);
            async move {
                tokio::time::sleep(if key % 2 == 1 { 60 * SECOND } else { SECOND }).await;
                done.lock().unwrap().push((key, start.elapsed().as_secs()));
                Next::Done
            }
        };
        let _ = tokio::time::timeout(59 * SECOND, queue.clone().run_in_lanes(|key| key % 2, look)).await;
        assert_eq!(*done.lock().unwrap(), [(0, 1), (2, 1), (4, 2)]);
        let odd = begun.lock().unwrap().iter().filter(|key| *key % 2 == 1).count();
        assert_eq!(odd, 2, "a lane has no more than its workers");
        assert_eq!(queue.len(), 10);
    });
}
