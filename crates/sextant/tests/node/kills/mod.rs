//! A daemon that is killed again and again while pods come and go: what was acknowledged lasts, nothing else is left, and
//! no log loses a line.
//!
//! `SEXTANT_NODE_KILLS`, `SEXTANT_NODE_PODS` and `SEXTANT_NODE_SEED` say how often, how many pods stay up all the while, and
//! which moments.

mod churn;
mod kubelet;
mod standing;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use testkit::Random;

use crate::Test;
use crate::bench::Bench;
pub(crate) use kubelet::Kubelet;
use standing::Standing;

pub(crate) const TESTS: &[Test] = &[("a_killed_node_loses_and_leaves_nothing", killed)];

/// How many make pods and take them away.
const WORKERS: u64 = 3;
/// The longest time between a start and a kill, and between a kill and a start.
const UP: Duration = Duration::from_millis(600);
const DOWN: Duration = Duration::from_millis(100);

/// What all threads know.
pub(crate) struct Site {
    socket: PathBuf,
    logs: PathBuf,
    /// Odd while the daemon is killed or not yet up again.
    kills: AtomicU64,
    over: AtomicBool,
    /// Pods and containers whose removal was acknowledged.
    removed: Mutex<BTreeSet<String>>,
}

impl Site {
    pub(crate) fn of(b: &Bench) -> Self {
        Self {
            socket: b.path("run/cri.sock"),
            logs: b.path("logs"),
            kills: AtomicU64::new(0),
            over: AtomicBool::new(false),
            removed: Mutex::default(),
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn removed(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number from the environment.
pub(crate) fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        text.parse().unwrap_or_else(|e| panic!("{variable}={text:?} is no number: {e}"))
    })
}

fn killed(b: &Bench) {
    let (kills, pods) = (number("SEXTANT_NODE_KILLS", 5), number("SEXTANT_NODE_PODS", 6));
    let seed = number("SEXTANT_NODE_SEED", Random::fresh().1);
    println!("SEXTANT_NODE_SEED={seed}");
    let mut random = Random::new(seed);
    let site = &Site::of(b);
    let standing = Standing::up(site, pods);
    let (made, rotations) = std::thread::scope(|scope| {
        let over = Over(site);
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| (worker, Random::new(random.number())))
            .map(|(worker, random)| scope.spawn(move || churn::work(site, worker, random)))
            .collect();
        let rotator = Random::new(random.number());
        let rotator = scope.spawn(|| standing.rotate(site, rotator));
        let alive = || !rotator.is_finished() && workers.iter().all(|worker| !worker.is_finished());
        for _ in 0..kills {
            std::thread::sleep(random.duration(UP));
            if !alive() {
                // It has found a fault, of which it tells below.
                break;
            }
            kill(b, site, random.duration(DOWN));
            standing.check(site);
        }
        drop(over);
        let made = workers.into_iter().map(end_of).sum::<u64>();
        (made, end_of(rotator))
    });
    kill(b, site, Duration::ZERO);
    standing.check(site);
    let lines = standing.down(site);
    println!(
        "{} kills with {pods} pods up, {made} pods came and went, {lines} lines written, {rotations} rotations",
        kills + 1
    );
}

/// Has the threads end, when a fault is found as well: they would be waited for without an end.
struct Over<'a>(&'a Site);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// What a thread came to; its panic, if it found a fault.
fn end_of<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Kills the daemon and starts it again after a while.
fn kill(b: &Bench, site: &Site, pause: Duration) {
    site.kills.fetch_add(1, Ordering::SeqCst);
    b.kill();
    std::thread::sleep(pause);
    b.start();
    site.kills.fetch_add(1, Ordering::SeqCst);
}
