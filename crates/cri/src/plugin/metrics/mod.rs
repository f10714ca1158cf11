//! Metrics of pods and containers under cAdvisor's names: ListMetricDescriptors and ListPodSandboxMetrics.

mod descriptors;
mod disk;
mod processes;
mod rows;

use std::path::Path;
use std::sync::Arc;

use descriptors::Needs;
use rows::Rows;

use super::clock;
use super::container::Container;
use super::node::{Node, blocking};
use super::pod::Pod;
use super::stats::{Reader, keyed, pressure};
use crate::contract::Error;
use crate::contract::v1::{ContainerMetrics, ContainerState, MetricDescriptor, PodSandboxMetrics};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl Node {
    /// The metrics that this machine has.
    pub(crate) async fn metric_descriptors(&self) -> Result<Vec<MetricDescriptor>, Error> {
        blocking(|| {
            let reader = Reader::new()?;
            let there = |needs: Needs| match needs {
                Needs::Nothing => true,
                Needs::Unified => reader.is_unified(),
                Needs::HugePages => reader.has("hugetlb"),
            };
            Ok(descriptors::ALL.iter().filter(|d| there(d.needs)).map(|d| d.told()).collect())
        })
        .await
    }

    /// The metrics of every ready pod.
    pub(crate) async fn pod_metrics(self: &Arc<Self>) -> Result<Vec<PodSandboxMetrics>, Error> {
        let node = Arc::clone(self);
        blocking(move || {
            let reader = Reader::new()?;
            let ready = node.state.pods().into_iter().filter(|pod| pod.is_ready());
            Ok(ready.map(|pod| node.metrics_of_pod(&reader, &pod)).collect())
        })
        .await
    }

    fn metrics_of_pod(&self, reader: &Reader, pod: &Arc<Pod>) -> PodSandboxMetrics {
        let containers = self.state.containers_of(pod.id());
        let mut rows = Rows::new(labels(pod, "", pod.id(), ""), clock::now());
        for interface in self.interfaces(pod, &containers).unwrap_or_default() {
            let name = [interface.name.as_str()];
            for (way, direction) in [("receive", interface.received), ("transmit", interface.sent)] {
                let mut add = |what: &str, value| {
                    rows.add(&format!("container_network_{way}_{what}_total"), &name, Some(value));
                };
                add("bytes", direction.bytes);
                add("packets", direction.packets);
                add("packets_dropped", direction.dropped);
                add("errors", direction.errors);
            }
        }
        let running = containers.iter().filter(|c| c.state() == ContainerState::ContainerRunning);
        let container_metrics = running.map(|container| ContainerMetrics {
            container_id: container.id().to_owned(),
            metrics: self.metrics_of(reader, pod, container).done(),
        });
        PodSandboxMetrics {
            pod_sandbox_id: pod.id().to_owned(),
            container_metrics: container_metrics.collect(),
            metrics: rows.done(),
        }
    }

    fn metrics_of(&self, reader: &Reader, pod: &Pod, container: &Container) -> Rows {
        let (config, live, cgroup) = (&container.record.config, container.live(), container.cgroup());
        let name = config.metadata.as_ref().map_or("", |m| m.name.as_str());
        let image = config.image.as_ref();
        let image = image.map_or("", |i| match i.user_specified_image.as_str() {
            "" => i.image.as_str(),
            given => given,
        });
        let at = clock::now();
        let mut rows = Rows::new(labels(pod, name, container.id(), image), at);
        cpu(&mut rows, reader, &cgroup);
        memory(&mut rows, reader, &cgroup);
        self.disk(&mut rows, reader, container);
        let open = processes::open(reader, &cgroup);
        rows.add("container_processes", &[], Some(open.processes));
        rows.add("container_threads", &[], reader.number("pids", &cgroup, "pids.current"));
        let most = reader.number("pids", &cgroup, "pids.max").unwrap_or(0);
        rows.add("container_threads_max", &[], Some(most));
        rows.add("container_file_descriptors", &[], Some(open.descriptors));
        rows.add("container_sockets", &[], Some(open.sockets));
        rows.add("container_ulimits_soft", &["max_open_files"], processes::open_files(live.pid));
        let seconds = |nanoseconds: i64| Some(nanoseconds.max(0).unsigned_abs() / SECOND);
        rows.add("container_last_seen", &[], seconds(at));
        rows.add("container_start_time_seconds", &[], seconds(live.started_at));
        limits(&mut rows, container);
        rows
    }

    fn disk(&self, rows: &mut Rows, reader: &Reader, container: &Container) {
        let dir = self.place.container(container.id());
        if let Some(filesystem) = disk::filesystem(&dir) {
            let device = [filesystem.device.as_str()];
            let used = self.layers.used(container.id(), &dir.join("upper"));
            rows.add("container_fs_usage_bytes", &device, Some(used.bytes));
            rows.add("container_fs_limit_bytes", &device, Some(filesystem.bytes));
            rows.add("container_fs_inodes_total", &device, Some(filesystem.inodes));
            rows.add("container_fs_inodes_free", &device, Some(filesystem.free_inodes));
        }
        for (numbers, operations) in disk::operations(reader, &container.cgroup()) {
            let name = disk::name(&numbers);
            let device = [name.as_str()];
            rows.add("container_fs_reads_total", &device, Some(operations.reads));
            rows.add("container_fs_writes_total", &device, Some(operations.writes));
            rows.add("container_fs_reads_bytes_total", &device, Some(operations.read_bytes));
            rows.add("container_fs_writes_bytes_total", &device, Some(operations.written_bytes));
            let (major, minor) = numbers.split_once(':').unwrap_or((&numbers, ""));
            for (operation, bytes) in [("Read", operations.read_bytes), ("Write", operations.written_bytes)] {
                let labels = [name.as_str(), major, minor, operation];
                rows.add("container_blkio_device_usage_total", &labels, Some(bytes));
            }
        }
    }
}

fn labels(pod: &Pod, container: &str, id: &str, image: &str) -> [String; 5] {
    let metadata = pod.record.config.metadata.clone().unwrap_or_default();
    [metadata.name, metadata.namespace, container.to_owned(), id.to_owned(), image.to_owned()]
}

fn cpu(rows: &mut Rows, reader: &Reader, cgroup: &Path) {
    let stat = reader.text("cpu", cgroup, "cpu.stat").unwrap_or_default();
    let microseconds = |key: &str| keyed(&stat, key).map(|n| n / 1_000_000);
    let nanoseconds = |file: &str| reader.number("cpuacct", cgroup, file).map(|n| n / SECOND);
    let (usage, user, system, throttled) = match reader.is_unified() {
        true => (
            microseconds("usage_usec"),
            microseconds("user_usec"),
            microseconds("system_usec"),
            microseconds("throttled_usec"),
        ),
        false => (
            nanoseconds("cpuacct.usage"),
            nanoseconds("cpuacct.usage_user"),
            nanoseconds("cpuacct.usage_sys"),
            keyed(&stat, "throttled_time").map(|n| n / SECOND),
        ),
    };
    rows.add("container_cpu_usage_seconds_total", &[], usage);
    rows.add("container_cpu_user_seconds_total", &[], user);
    rows.add("container_cpu_system_seconds_total", &[], system);
    // Without a quota v2 does not count periods.
    let count = |key: &str| keyed(&stat, key).or(Some(0));
    rows.add("container_cpu_cfs_periods_total", &[], count("nr_periods"));
    rows.add("container_cpu_cfs_throttled_periods_total", &[], count("nr_throttled"));
    rows.add("container_cpu_cfs_throttled_seconds_total", &[], throttled.or(Some(0)));
    for resource in ["cpu", "io", "memory"] {
        let Some(psi) = pressure(reader, cgroup, resource) else { continue };
        for (word, data) in [("stalled", psi.full), ("waiting", psi.some)] {
            let name = format!("container_pressure_{resource}_{word}_seconds_total");
            rows.add(&name, &[], data.map(|data| data.total / SECOND));
        }
    }
}

fn memory(rows: &mut Rows, reader: &Reader, cgroup: &Path) {
    let number = |file: &str| reader.number("memory", cgroup, file);
    if let Some(memory) = reader.read(cgroup).memory {
        rows.add("container_memory_usage_bytes", &[], Some(memory.usage));
        rows.add("container_memory_working_set_bytes", &[], Some(memory.working_set()));
        rows.add("container_memory_rss", &[], Some(memory.rss));
        rows.add("container_memory_cache", &[], Some(memory.cache));
        rows.add("container_memory_swap", &[], memory.swap.or(Some(0)));
        rows.add("container_memory_mapped_file", &[], Some(memory.mapped_file));
        let kernel = memory.kernel.or_else(|| number("memory.kmem.usage_in_bytes"));
        rows.add("container_memory_kernel_usage", &[], kernel);
        for (kind, faults) in [("pgfault", memory.faults), ("pgmajfault", memory.major_faults)] {
            for scope in ["container", "hierarchy"] {
                rows.add("container_memory_failures_total", &[kind, scope], Some(faults));
            }
        }
    }
    let events = reader.text("memory", cgroup, "memory.events").unwrap_or_default();
    let control = reader.text("memory", cgroup, "memory.oom_control").unwrap_or_default();
    let (most, failures, kills) = match reader.is_unified() {
        true => (number("memory.peak"), keyed(&events, "max"), keyed(&events, "oom_kill")),
        false => (number("memory.max_usage_in_bytes"), number("memory.failcnt"), keyed(&control, "oom_kill")),
    };
    rows.add("container_memory_max_usage_bytes", &[], most);
    rows.add("container_memory_failcnt", &[], failures);
    rows.add("container_oom_events_total", &[], kills);
    huge_pages(rows, reader, cgroup);
}

/// Sizes are in the files' names: `hugetlb.2MB.current`.
fn huge_pages(rows: &mut Rows, reader: &Reader, cgroup: &Path) {
    let Some(dir) = reader.dir("hugetlb", cgroup) else { return };
    let (now, most) = match reader.is_unified() {
        true => ("current", "max_usage"),
        false => ("usage_in_bytes", "max_usage_in_bytes"),
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some((size, what)) = name.strip_prefix("hugetlb.").and_then(|rest| rest.split_once('.')) else {
            continue;
        };
        let value = || reader.number("hugetlb", cgroup, &name);
        if what == now {
            rows.add("container_hugetlb_usage_bytes", &[size], value());
        } else if what == most {
            rows.add("container_hugetlb_max_usage_bytes", &[size], value());
        }
    }
}

fn limits(rows: &mut Rows, container: &Container) {
    let resources = container.resources().unwrap_or_default();
    let number = |n: i64| Some(n.max(0).unsigned_abs());
    // What the kernel has without being told.
    let or = |n: i64, default: i64| number(if n == 0 { default } else { n });
    rows.add("container_spec_cpu_period", &[], or(resources.cpu_period, 100_000));
    rows.add("container_spec_cpu_shares", &[], or(resources.cpu_shares, 1024));
    if resources.cpu_quota > 0 {
        rows.add("container_spec_cpu_quota", &[], number(resources.cpu_quota));
    }
    rows.add("container_spec_memory_limit_bytes", &[], number(resources.memory_limit_in_bytes));
    rows.add("container_spec_memory_swap_limit_bytes", &[], number(resources.memory_swap_limit_in_bytes));
    let reserved = resources.unified.get("memory.low").and_then(|text| text.parse().ok());
    rows.add("container_spec_memory_reservation_limit_bytes", &[], reserved);
}
