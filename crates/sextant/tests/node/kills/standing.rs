//! Pods that are up all the while, some of which write logs that are rotated.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cri::contract::v1::*;
use testkit::Random;

use super::{Kubelet, Site};
use crate::logs::counted;
use crate::wishes;

/// At most so many write.
const WRITERS: u64 = 8;
/// So many at a time come up.
const AT_A_TIME: u64 = 4;
/// The longest time between two rotations.
const ROTATION: Duration = Duration::from_millis(200);

pub(super) struct Standing(Vec<Pod>);

struct Pod {
    id: String,
    container: String,
    /// Its container's status once it ran.
    status: ContainerStatus,
    /// It writes, and so often its log was rotated.
    writes: Option<AtomicU64>,
}

impl Standing {
    /// Brings so many pods up, a third of which write.
    pub(super) fn up(site: &Site, count: u64) -> Self {
        let writers = count.div_ceil(3).min(WRITERS);
        let some = |first| {
            let kubelet = Kubelet::new(site);
            let numbers = (first..count).step_by(AT_A_TIME as usize);
            numbers.map(|number| Pod::up(&kubelet, number, number < writers)).collect::<Vec<_>>()
        };
        Self(std::thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_A_TIME).map(|first| scope.spawn(move || some(first))).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        }))
    }

    /// Everything is as it was when it came up, and what was removed stays away.
    pub(super) fn check(&self, site: &Site) {
        let removed = site.removed().clone();
        let kubelet = Kubelet::new(site);
        let all = kubelet.all();
        let back: Vec<_> = all.iter().filter(|id| removed.contains(*id)).collect();
        assert!(back.is_empty(), "removed, and back: {back:?}");
        for pod in &self.0 {
            assert!(all.contains(&pod.id) && all.contains(&pod.container), "{} is lost", pod.id);
            assert_eq!(kubelet.pod_state(&pod.id), PodSandboxState::SandboxReady);
            let now = kubelet.status(&pod.container);
            // When it started, the shim knows to some microseconds otherwise.
            assert_eq!(ContainerStatus { started_at: pod.status.started_at, ..now }, pod.status);
        }
    }

    /// Rotates logs until it is over; how often.
    pub(super) fn rotate(&self, site: &Site, mut random: Random) -> u64 {
        let kubelet = Kubelet::new(site);
        let writers: Vec<_> = self.0.iter().filter_map(|pod| Some((pod, pod.writes.as_ref()?))).collect();
        let mut count = 0;
        while !site.is_over() {
            let (pod, rotated) = writers[random.below(writers.len() as u64) as usize];
            let number = rotated.fetch_add(1, Ordering::SeqCst);
            fs::rename(&pod.status.log_path, format!("{}.{number}", pod.status.log_path)).unwrap();
            kubelet.reopen_log(&pod.container);
            assert!(fs::exists(&pod.status.log_path).unwrap(), "a log is there once it was reopened");
            count += 1;
            std::thread::sleep(random.duration(ROTATION));
        }
        count
    }

    /// Ends and removes everything; how many lines were written, each of which was kept once and whole.
    pub(super) fn down(self, site: &Site) -> u64 {
        let kubelet = Kubelet::new(site);
        let mut lines = 0;
        for pod in self.0 {
            kubelet.stop(&pod.container);
            if let Some(rotated) = &pod.writes {
                let path = &pod.status.log_path;
                let older = (0..rotated.load(Ordering::SeqCst)).map(|number| format!("{path}.{number}"));
                let files = older.chain([path.clone()]).map(|path| fs::read_to_string(path).unwrap());
                let written = counted(&files.collect::<String>());
                assert!(written > 0, "nothing was written");
                lines += written;
            }
            kubelet.stop_pod(&pod.id);
            kubelet.remove_pod(&pod.id, &[&pod.container]);
        }
        lines
    }
}

impl Pod {
    fn up(kubelet: &Kubelet<'_>, number: u64, writes: bool) -> Self {
        let id = kubelet.run_pod(wishes::pod(&format!("standing-{number}")));
        let words = if writes { ["probe", "count"] } else { ["probe", "sleep"] };
        let container = kubelet.run(&id, wishes::container("c", &words));
        let status = kubelet.status(&container);
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        Self { id, container, status, writes: writes.then(AtomicU64::default) }
    }
}
