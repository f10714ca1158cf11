//! Pods that come and go for a long time beside one that stays: the daemon, and the shim of the one that stays, do not grow.
//!
//! `SEXTANT_NODE_CYCLES` says how many come and go, `SEXTANT_NODE_MINUTES` over how long.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cri::contract::v1::*;

use crate::bench::{Bench, LIMIT};
use crate::kills::{Kubelet, Site, number};
use crate::{Test, machine, wishes};

pub(crate) const TESTS: &[Test] = &[("cycles_leave_memory_and_descriptors_as_they_were", flat)];

/// So many at a time.
const AT_A_TIME: usize = 4;
/// How often is looked at most, and so many cycles are between two looks at most.
const LOOKS: u64 = 50;
const BETWEEN: u64 = 100;
/// With fewer cycles what is bounded still fills (the ring of events, the allocator's arenas): memory is not judged.
const JUDGED: u64 = 1000;
/// KiB that it may still fill by after that, beside a tenth of what there was: less than 300 bytes for each of 5,000 pods.
const FILLS: u64 = 1024;

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    descriptors: u64,
    /// KiB of its own: what it has of files is shared with whoever runs the same program.
    memory: u64,
}

impl Held {
    fn by(pid: i32) -> Self {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
        Self { descriptors, memory: line.trim().trim_end_matches(" kB").parse().unwrap() }
    }
}

fn flat(b: &Bench) {
    let cycles = number("SEXTANT_NODE_CYCLES", 40);
    let minutes = Duration::from_secs(60 * number("SEXTANT_NODE_MINUTES", 0));
    let between = cycles.div_ceil(LOOKS).clamp(1, BETWEEN);
    let pod = b.pod("stays");
    let stays = b.run(&pod, "c", &["probe", "sleep"]);
    let processes = [("the daemon", b.pid()), ("the shim that stays", machine::shims_of(b.dir(), &pod)[0])];
    let mut looks = [Vec::new(), Vec::new()];
    let (site, began, done) = (&Site::of(b), Instant::now(), &AtomicU64::new(0));
    while done.load(Ordering::SeqCst) < cycles {
        let until = cycles.min(done.load(Ordering::SeqCst) + between);
        std::thread::scope(|scope| {
            for worker in 0..AT_A_TIME {
                let stays = &stays;
                scope.spawn(move || {
                    let kubelet = Kubelet::new(site);
                    while done
                        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < until).then_some(n + 1))
                        .is_ok()
                    {
                        cycle(&kubelet, &format!("cycle-{worker}"), stays);
                    }
                });
            }
        });
        for (process, looks) in processes.iter().zip(&mut looks) {
            looks.push(Held::by(process.1));
        }
        let due = minutes.mul_f64(until as f64 / cycles as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    for ((name, _), looks) in processes.iter().zip(looks) {
        judge(name, &looks, cycles >= JUDGED);
    }
    b.remove_pod(&pod);
}

/// A pod and a container of it, with everything that a kubelet asks of them.
fn cycle(kubelet: &Kubelet<'_>, name: &str, stays: &str) {
    let pod = kubelet.run_pod(wishes::pod(name));
    let id = kubelet.run(&pod, wishes::container("c", &["probe", "say", "up", "then", "sleep"]));
    let ended = kubelet.run(&pod, wishes::container("ended", &["probe", "exit", "3"]));
    for id in [&id, stays] {
        assert_eq!(kubelet.exec(id, &["probe", "say", "x"]).stdout, "x\n");
        let request = ContainerStatsRequest { container_id: id.into() };
        kubelet.ok(async |c| c.container_stats(request.clone()).await);
    }
    kubelet.ok(async |c| c.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await);
    kubelet.ok(async |c| c.get_container_events(GetEventsRequest {}).await.map(drop));
    kubelet.reopen_log(&id);
    assert_eq!(kubelet.until_exited(&ended).exit_code, 3);
    assert_eq!(kubelet.pod_state(&pod), PodSandboxState::SandboxReady);
    let log = kubelet.status(&id).log_path;
    let (said, end) = (|| fs::read_to_string(&log).unwrap(), Instant::now() + LIMIT);
    while !said().ends_with(" stdout F up\n") {
        assert!(Instant::now() < end, "{log} has {:?}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
    kubelet.stop(&id);
    kubelet.remove(&id);
    kubelet.stop_pod(&pod);
    kubelet.remove_pod(&pod, &[&ended]);
    fs::remove_file(log).unwrap();
}

/// Compares the second tenth with the last: in the first caches fill.
fn judge(name: &str, looks: &[Held], memory: bool) {
    let tenth = looks.len().div_ceil(10);
    let median = |looks: &[Held], value: fn(&Held) -> u64| {
        let mut values: Vec<u64> = looks.iter().map(value).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let (early, late) = (&looks[tenth..2 * tenth], &looks[looks.len() - tenth..]);
    let [descriptors, kib] = [|h: &Held| h.descriptors, |h: &Held| h.memory]
        .map(|value: fn(&Held) -> u64| (median(early, value), median(late, value)));
    println!(
        "{name}: {} to {} descriptors, {} to {} KiB of memory in {} looks",
        descriptors.0,
        descriptors.1,
        kib.0,
        kib.1,
        looks.len()
    );
    assert!(descriptors.0.abs_diff(descriptors.1) <= 5, "the descriptors of {name} are not flat: {looks:?}");
    assert!(!memory || kib.1 <= kib.0 + kib.0 / 10 + FILLS, "the memory of {name} grows: {looks:?}");
}
