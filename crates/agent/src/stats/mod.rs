//! What the node and its pods use of the machine: `/stats/summary`, `/metrics…`, and the API `metrics.k8s.io`.

mod api;
mod cadvisor;
mod summary;
mod text;

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cri::contract::v1::{
    ListPodSandboxStatsRequest, PodSandboxAttributes, PodSandboxStats, PodSandboxStatsFilter,
};
use k8s_openapi::jiff::Timestamp;
use tokio::time::Instant;

use crate::agent::Agent;
use crate::names::{AGENT, CONTAINER_NAME};
use crate::runtime::Failed;

pub(crate) use api::{answer, host, proxies, register};
pub(crate) use cadvisor::cadvisor;
pub(crate) use summary::{of_pods, summary};
pub(crate) use text::{probes, resource};

/// The clock's ticks in a second, of /proc/stat.
const TICKS: u64 = 100;
/// Readings that are this far apart say nothing of now.
const OLD: Duration = Duration::from_secs(60);
/// So long is looked where nothing is known of before.
const APART: Duration = Duration::from_millis(500);

/// What the node as a whole uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeUse {
    /// CPU time in nanoseconds since the machine's start.
    pub(crate) cpu: u64,
    /// Nanoseconds of it in a second.
    pub(crate) rate: Option<u64>,
    /// Bytes that cannot be had without taking them from somebody.
    pub(crate) memory: i64,
}

/// All that is used, at one time.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// When.
    pub(crate) at: Timestamp,
    /// Over how long rates are.
    pub(crate) window: Duration,
    /// The node.
    pub(crate) node: NodeUse,
    /// Its pods.
    pub(crate) pods: Vec<PodSandboxStats>,
}

/// The reading before.
#[derive(Debug, Default)]
pub(crate) struct Last(Mutex<Option<(Instant, u64)>>);

/// Reads all that is used.
pub(crate) async fn snapshot(agent: &Agent) -> Result<Snapshot, Failed> {
    let (cpu, now) = (cpu_time(), Instant::now());
    let before = agent.last.0.lock().unwrap_or_else(PoisonError::into_inner).replace((now, cpu));
    let window = before.map(|(when, _)| now - when).unwrap_or_default();
    let rate = before.and_then(|(_, had)| {
        let passed = window.as_nanos();
        u64::try_from(u128::from(cpu.saturating_sub(had)).saturating_mul(1_000_000_000).checked_div(passed)?)
            .ok()
    });
    let node = NodeUse { cpu, rate, memory: agent.machine.memory - agent.machine.free_memory() };
    let label_selector = [(AGENT.to_owned(), agent.setup.node.clone())].into();
    let filter = PodSandboxStatsFilter { id: String::new(), label_selector };
    let request = ListPodSandboxStatsRequest { filter: Some(filter) };
    let mut pods = agent.runtime.client().await?.list_pod_sandbox_stats(request).await?.stats;
    // Runtimes tell of containers that have ended, too, by the names of those that run: they use nothing.
    for linux in pods.iter_mut().filter_map(|pod| pod.linux.as_mut()) {
        linux.containers.retain(|one| one.cpu.is_some());
    }
    Ok(Snapshot { at: Timestamp::now(), window, node, pods })
}

/// The same with rates of now: where the reading before is an old one, two are made.
pub(crate) async fn rates(agent: &Agent) -> Result<Snapshot, Failed> {
    let last = *agent.last.0.lock().unwrap_or_else(PoisonError::into_inner);
    if last.is_none_or(|(when, _)| when.elapsed() > OLD || when.elapsed() < APART) {
        snapshot(agent).await?;
        tokio::time::sleep(APART).await;
    }
    let first = snapshot(agent).await?;
    let lacks = |pod: &PodSandboxStats| {
        let all = pod.linux.iter().flat_map(|linux| &linux.containers);
        all.clone().any(|one| one.cpu.as_ref().is_some_and(|cpu| cpu.usage_nano_cores.is_none()))
    };
    // A pod that is new.
    if first.pods.iter().any(lacks) {
        tokio::time::sleep(APART).await;
        let second = snapshot(agent).await?;
        return Ok(second);
    }
    Ok(first)
}

/// CPU time of the machine that was not idle, in nanoseconds.
fn cpu_time() -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy = [0, 1, 2, 5, 6]
        .into_iter()
        .filter_map(|at| ticks.get(at))
        .fold(0_u64, |all, one| all.saturating_add(*one));
    busy.saturating_mul(1_000_000_000 / TICKS)
}

/// The names of a pod: its namespace, its own, its uid.
pub(crate) fn names(of: Option<&PodSandboxAttributes>) -> [&str; 3] {
    let meta = of.and_then(|of| of.metadata.as_ref());
    meta.map_or([""; 3], |meta| [&meta.namespace, &meta.name, &meta.uid])
}

/// A container's name.
pub(crate) fn name(of: Option<&cri::contract::v1::ContainerAttributes>) -> &str {
    let label = of.and_then(|of| of.labels.get(CONTAINER_NAME)).map(String::as_str);
    let meta = || of.and_then(|of| of.metadata.as_ref()).map(|meta| meta.name.as_str());
    label.or_else(meta).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on() {
        assert!(cpu_time() > 0);
    }
}
