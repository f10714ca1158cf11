//! What goes when the machine runs short of memory, disk or process ids: images that nobody uses first, then pods, one at a time.
//!
//! A pod that goes is told so by its status (`Evicted`), and whatever it belongs to makes another, where there is room.

mod admission;
mod local;
mod rank;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::collect::image_disk;
use crate::limits::{Signal, Threshold};
use crate::names::Key;
use crate::pod::memory::Waiting;
use crate::pod::spec::is_over;
use crate::stats::{of_pods, snapshot};

pub(crate) use admission::{is_critical, refusal};

/// How long containers of a pod that is evicted have to end.
const GRACE: Duration = Duration::from_secs(1);
/// So long nothing else goes while a pod is on its way out.
const CLEANUP: Duration = Duration::from_secs(30);
/// Why a pod that is evicted failed.
const EVICTED: &str = "Evicted";

/// What the node is short of, as its conditions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    /// `MemoryPressure`
    Memory,
    /// `DiskPressure`
    Disk,
    /// `PIDPressure`
    Pids,
}

impl Pressure {
    fn of(signal: Signal) -> Self {
        match signal {
            Signal::Memory => Self::Memory,
            Signal::Pids => Self::Pids,
            _ => Self::Disk,
        }
    }

    /// The condition's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pids => "PIDPressure",
        }
    }
}

/// When the node was short of something last.
#[derive(Debug, Default)]
pub(crate) struct Pressures(Mutex<BTreeMap<Pressure, Instant>>);

impl Pressures {
    /// What it is short of, or was a short time ago.
    pub(crate) fn now(&self, pass: Duration) -> Vec<Pressure> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, when)| when.elapsed() <= pass).map(|(pressure, _)| *pressure).collect()
    }

    fn note(&self, met: &[Met]) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(met.iter().map(|met| (Pressure::of(met.threshold.signal), Instant::now())));
    }
}

/// A threshold with less left than it demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Met {
    threshold: Threshold,
    least: u64,
    left: u64,
}

/// Sees to it that the machine does not run out of anything, for ever.
pub(crate) async fn keep(agent: &Arc<Agent>) -> ! {
    let machine = async {
        loop {
            look(agent).await;
            tokio::time::sleep(agent.setup.limits.look).await;
        }
    };
    // There may be millions of files: memory does not wait for them.
    let pods = async {
        loop {
            local::look(agent).await;
            tokio::time::sleep(agent.setup.limits.look).await;
        }
    };
    tokio::select! {
        never = machine => never,
        never = pods => never,
    }
}

/// Whether a pod never goes: one of the node's own files, or one that keeps the node or the cluster going.
fn stays(agent: &Agent, pod: &Pod) -> bool {
    is_critical(pod) || agent.statics.get(&Key::of(pod).name).is_some()
}

async fn look(agent: &Arc<Agent>) {
    let mut met = met(&agent.setup.limits.eviction, &read(agent).await);
    let before = agent.pressures.now(agent.setup.limits.pressure);
    agent.pressures.note(&met);
    if agent.pressures.now(agent.setup.limits.pressure) != before {
        agent.node_changes.notify_one();
    }
    // Memory first: without it nothing else goes on.
    let Some(first) = met.iter().find(|met| met.threshold.signal == Signal::Memory).or(met.first()).copied()
    else {
        return;
    };
    // What goes already may be enough.
    let goes = agent.keys_with(|memory| memory.evicted.is_some_and(|since| since.elapsed() < CLEANUP));
    if goes.iter().any(|key| agent.pod(key).is_some_and(|pod| !is_over(&pod))) {
        return;
    }
    let resource = first.threshold.signal.resource();
    agent.node_warning("EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
    if Pressure::of(first.threshold.signal) == Pressure::Disk {
        if let Err(error) = agent.images.collect_all(agent).await {
            eprintln!("sextant agent: warning: cannot remove images that nobody uses: {error}");
        }
        met = self::met(&[first.threshold], &read(agent).await);
        if met.is_empty() {
            return;
        }
    }
    evict_one(agent, first).await;
}

async fn evict_one(agent: &Arc<Agent>, met: Met) {
    let pods = agent.all_pods();
    let active: Vec<&Arc<Pod>> =
        pods.iter().filter(|pod| !is_over(pod) && pod.metadata.deletion_timestamp.is_none()).collect();
    let stats = match snapshot(agent).await {
        Ok(all) => all.pods,
        Err(error) => return eprintln!("sextant agent: warning: cannot tell what pods use: {error}"),
    };
    let on_disk = if Pressure::of(met.threshold.signal) == Pressure::Disk {
        of_pods(agent).await
    } else {
        BTreeMap::new()
    };
    let mut used: Vec<rank::Used<'_>> =
        active.into_iter().map(|pod| rank::used(pod, met.threshold.signal, &stats, &on_disk)).collect();
    let goes = agent.keys_with(|memory| memory.evicted.is_some());
    used.retain(|one| !stays(agent, one.pod) && !goes.contains(&Key::of(one.pod)));
    rank::sort(&mut used, met.threshold.signal);
    let Some(first) = used.first() else {
        return eprintln!(
            "sextant agent: warning: the node is short of {} and there is no pod to evict",
            met.threshold.signal.resource()
        );
    };
    let message = rank::words(first, met.threshold.signal, met.least, met.left);
    evict(agent, first.pod, message, true);
}

/// Has a pod come to its end because of what it uses; whether for others' sake, and not for its own limits.
fn evict(agent: &Agent, pod: &Pod, message: String, is_disrupted: bool) {
    let key = Key::of(pod);
    agent.remember(&key, pod);
    let failed = Waiting::new(EVICTED, message.clone());
    let is_new = agent.with_memory(&key, |memory| {
        memory.grace = Some(GRACE);
        memory.disrupted |= is_disrupted;
        memory.evicted.get_or_insert_with(Instant::now);
        memory.failed.replace(failed.clone()) != Some(failed)
    });
    if is_new == Some(true) {
        agent.events.warning(pod, EVICTED, message);
    }
    agent.queue.add(key);
    // A look at it that waits for an image or a hook is given up.
    agent.tell_changes();
}

/// What is left of everything, and how much there is of it.
async fn read(agent: &Agent) -> BTreeMap<Signal, (u64, u64)> {
    let whole = u64::try_from(agent.machine.memory).unwrap_or_default();
    let free = u64::try_from(agent.machine.free_memory()).unwrap_or_default();
    let (most, taken) = agent.machine.pids();
    let mut all =
        BTreeMap::from([(Signal::Memory, (free, whole)), (Signal::Pids, (most.saturating_sub(taken), most))]);
    let images = image_disk(agent).await.ok().flatten();
    let disks = [
        (Some(agent.setup.folder.as_path()), Signal::Disk, Signal::DiskInodes),
        (images.as_deref(), Signal::ImageDisk, Signal::ImageDiskInodes),
    ];
    for (path, bytes, inodes) in disks {
        let Some(fs) = path.and_then(|path: &Path| rustix::fs::statvfs(path).ok()) else { continue };
        all.insert(bytes, (fs.f_bavail.saturating_mul(fs.f_frsize), fs.f_blocks.saturating_mul(fs.f_frsize)));
        // Some filesystems have as many as there is room for.
        if fs.f_files > 0 {
            all.insert(inodes, (fs.f_favail, fs.f_files));
        }
    }
    all
}

fn met(thresholds: &[Threshold], left: &BTreeMap<Signal, (u64, u64)>) -> Vec<Met> {
    let met = thresholds.iter().filter_map(|threshold| {
        let (left, whole) = *left.get(&threshold.signal)?;
        let least = threshold.least.of(whole);
        (left < least).then_some(Met { threshold: *threshold, least, left })
    });
    met.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    #[test]
    fn thresholds_are_met_by_what_is_left() {
        let thresholds = Limits::default().eviction;
        let left = |memory, disk| {
            BTreeMap::from([(Signal::Memory, (memory, 1 << 30)), (Signal::Disk, (disk, 1000))])
        };
        assert_eq!(met(&thresholds, &left(100 << 20, 100)), []);
        let found = met(&thresholds, &left((100 << 20) - 1, 99));
        assert_eq!(
            found.iter().map(|one| (one.threshold.signal, one.least)).collect::<Vec<_>>(),
            [(Signal::Memory, 100 << 20), (Signal::Disk, 100)]
        );
        let pressures = Pressures::default();
        assert!(pressures.now(Duration::from_secs(60)).is_empty());
        pressures.note(&found);
        assert_eq!(pressures.now(Duration::from_secs(60)), [Pressure::Memory, Pressure::Disk]);
    }
}
