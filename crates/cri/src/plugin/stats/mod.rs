//! What pods and containers use: ContainerStats, PodSandboxStats and their lists.

mod counters;
mod interfaces;
mod layer;
mod pressure;
mod rate;

use std::path::Path;
use std::sync::Arc;

use super::clock;
use super::container::Container;
use super::node::{Node, blocking};
use super::pod::{Pod, has_labels, is_host};
use crate::contract::Error;
use crate::contract::v1::{
    ContainerAttributes, ContainerState, ContainerStats, ContainerStatsFilter, CpuUsage,
    FilesystemIdentifier, FilesystemUsage, IoUsage, LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage,
    NetworkUsage, PodSandboxAttributes, PodSandboxStats, PodSandboxStatsFilter, ProcessUsage, SwapUsage,
    UInt64Value,
};
pub(crate) use counters::{Counters, Reader, keyed};
use interfaces::Interface;
pub(crate) use layer::Layers;
pub(crate) use pressure::read as pressure;
pub(crate) use rate::Rates;

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Node {
    /// A running container's statistics.
    pub(crate) async fn container_stats(self: &Arc<Self>, id: &str) -> Result<ContainerStats, Error> {
        let container = self.state.container(id)?;
        container.must_run()?;
        let node = Arc::clone(self);
        blocking(move || Ok(node.stats_of(&Reader::new()?, &container))).await
    }

    /// The statistics of the containers that pass `filter`.
    pub(crate) async fn list_container_stats(
        self: &Arc<Self>,
        filter: Option<ContainerStatsFilter>,
    ) -> Result<Vec<ContainerStats>, Error> {
        let node = Arc::clone(self);
        let filter = filter.unwrap_or_default();
        blocking(move || {
            let mut containers = node.state.containers();
            node.layers.retain(|id| containers.iter().any(|c| c.id() == id));
            containers.retain(|c| {
                c.id().starts_with(&filter.id)
                    && c.record.pod.starts_with(&filter.pod_sandbox_id)
                    && has_labels(&c.record.config.labels, &filter.label_selector)
            });
            let reader = Reader::new()?;
            Ok(containers.iter().map(|container| node.stats_of(&reader, container)).collect())
        })
        .await
    }

    /// A ready pod's statistics.
    pub(crate) async fn pod_stats(self: &Arc<Self>, id: &str) -> Result<PodSandboxStats, Error> {
        let pod = self.state.pod(id)?;
        pod.shim()?;
        let node = Arc::clone(self);
        blocking(move || Ok(node.stats_of_pod(&Reader::new()?, &pod))).await
    }

    /// The statistics of the ready pods that pass `filter`.
    pub(crate) async fn list_pod_stats(
        self: &Arc<Self>,
        filter: Option<PodSandboxStatsFilter>,
    ) -> Result<Vec<PodSandboxStats>, Error> {
        let node = Arc::clone(self);
        let filter = filter.unwrap_or_default();
        blocking(move || {
            let mut pods = node.state.pods();
            pods.retain(|pod| {
                pod.is_ready()
                    && pod.id().starts_with(&filter.id)
                    && has_labels(&pod.record.config.labels, &filter.label_selector)
            });
            let reader = Reader::new()?;
            Ok(pods.iter().map(|pod| node.stats_of_pod(&reader, pod)).collect())
        })
        .await
    }

    /// Of one that does not run: whose it is, and what it has written.
    pub(crate) fn stats_of(&self, reader: &Reader, container: &Arc<Container>) -> ContainerStats {
        let (id, config) = (container.id(), &container.record.config);
        let mut stats = ContainerStats {
            attributes: Some(ContainerAttributes {
                id: id.to_owned(),
                metadata: config.metadata.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
            }),
            writable_layer: Some(self.writable_layer(id)),
            ..ContainerStats::default()
        };
        if container.state() == ContainerState::ContainerRunning {
            let cgroup = container.cgroup();
            let at = clock::now();
            let counters = reader.read(&cgroup);
            stats.cpu = Some(self.cpu(reader, &cgroup, &counters, at));
            stats.memory = Some(memory(reader, &cgroup, &counters, at));
            stats.swap = swap(&counters, at);
            stats.io = pressure(reader, &cgroup, "io").map(|psi| IoUsage { timestamp: at, psi: Some(psi) });
        }
        stats
    }

    fn cpu(&self, reader: &Reader, cgroup: &Path, counters: &Counters, at: i64) -> CpuUsage {
        CpuUsage {
            timestamp: at,
            usage_core_nano_seconds: counters.cpu.and_then(value),
            usage_nano_cores: counters.cpu.and_then(|cpu| self.rates.rate(cgroup, cpu, at)).and_then(value),
            psi: pressure(reader, cgroup, "cpu"),
        }
    }

    fn writable_layer(&self, id: &str) -> FilesystemUsage {
        let used = self.layers.used(id, &self.place.container(id).join("upper"));
        FilesystemUsage {
            timestamp: clock::now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.place.containers().display().to_string() }),
            used_bytes: value(used.bytes),
            inodes_used: value(used.inodes),
        }
    }

    pub(crate) fn stats_of_pod(&self, reader: &Reader, pod: &Arc<Pod>) -> PodSandboxStats {
        let config = &pod.record.config;
        let all = self.state.containers_of(pod.id());
        let containers: Vec<ContainerStats> = all.iter().map(|c| self.stats_of(reader, c)).collect();
        let at = clock::now();
        let of_its_own = config.linux.as_ref().is_some_and(|linux| !linux.cgroup_parent.is_empty());
        let cgroup = pod.record.cgroup.dir();
        // A pod whose cgroup is everybody's is the sum of its containers.
        let counters = match of_its_own {
            true => reader.read(&cgroup),
            false => sum(all.iter().map(|c| reader.read(&c.cgroup()))),
        };
        let own = |resource: &str| of_its_own.then(|| pressure(reader, &cgroup, resource)).flatten();
        let mut cpu = self.cpu(reader, Path::new(pod.id()), &counters, at);
        cpu.psi = own("cpu");
        let mut memory = memory(reader, &cgroup, &counters, at);
        memory.psi = own("memory");
        PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: pod.id().to_owned(),
                metadata: config.metadata.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(cpu),
                memory: Some(memory),
                network: self.interfaces(pod, &all).map(|interfaces| network(&interfaces, at)),
                process: counters
                    .tasks
                    .map(|tasks| ProcessUsage { timestamp: at, process_count: value(tasks) }),
                containers,
                io: own("io").map(|psi| IoUsage { timestamp: at, psi: Some(psi) }),
            }),
            windows: None,
        }
    }

    /// The pod's interfaces; none of its own on the host's network.
    pub(crate) fn interfaces(&self, pod: &Pod, containers: &[Arc<Container>]) -> Option<Vec<Interface>> {
        if is_host(&pod.record.config) {
            return None;
        }
        let pids = containers.iter().map(|c| c.live().pid).filter(|&pid| pid > 0);
        pids.filter_map(interfaces::of_process)
            .next()
            .or_else(|| interfaces::of_namespace(&self.place.netns(pod.id())))
    }
}

fn memory(reader: &Reader, cgroup: &Path, counters: &Counters, at: i64) -> MemoryUsage {
    let memory = counters.memory.as_ref();
    MemoryUsage {
        timestamp: at,
        working_set_bytes: memory.and_then(|m| value(m.working_set())),
        available_bytes: memory.and_then(|m| value(m.limit?.saturating_sub(m.working_set()))),
        usage_bytes: memory.and_then(|m| value(m.usage)),
        rss_bytes: memory.and_then(|m| value(m.rss)),
        page_faults: memory.and_then(|m| value(m.faults)),
        major_page_faults: memory.and_then(|m| value(m.major_faults)),
        psi: pressure(reader, cgroup, "memory"),
    }
}

fn swap(counters: &Counters, at: i64) -> Option<SwapUsage> {
    let swap = counters.memory.as_ref()?.swap?;
    Some(SwapUsage { timestamp: at, swap_usage_bytes: value(swap), swap_available_bytes: None })
}

fn sum(all: impl Iterator<Item = Counters>) -> Counters {
    let add = |a: Option<u64>, b: Option<u64>| a.or(b).map(|_| a.unwrap_or(0) + b.unwrap_or(0));
    all.reduce(|a, b| Counters {
        cpu: add(a.cpu, b.cpu),
        tasks: add(a.tasks, b.tasks),
        memory: match (a.memory, b.memory) {
            (Some(a), Some(b)) => Some(a.plus(&b)),
            (a, b) => a.or(b),
        },
    })
    .unwrap_or_default()
}

fn network(interfaces: &[Interface], at: i64) -> NetworkUsage {
    let usage = |interface: &Interface| NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: value(interface.received.bytes),
        rx_errors: value(interface.received.errors),
        tx_bytes: value(interface.sent.bytes),
        tx_errors: value(interface.sent.errors),
    };
    let default = interfaces.iter().find(|i| i.name == "eth0").or_else(|| interfaces.first());
    NetworkUsage {
        timestamp: at,
        default_interface: default.map(usage),
        interfaces: interfaces.iter().map(usage).collect(),
    }
}
