//! Which metrics there are: cAdvisor's names, as a kubelet hands them on.

use crate::contract::v1::{MetricDescriptor, MetricType};

/// Labels that every metric has.
pub(super) const BASE: [&str; 5] = ["pod", "namespace", "container", "id", "image"];

/// What has to be there for a metric to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// One v2 tree: pressure.
    Unified,
    /// The controller of huge pages.
    HugePages,
}

/// One metric.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Labels beside [`BASE`].
    pub(super) labels: &'static [&'static str],
    pub(super) kind: MetricType,
    pub(super) needs: Needs,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Descriptor {
    Descriptor { name, help, labels, kind: MetricType::Counter, needs: Needs::Nothing }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Descriptor {
    Descriptor { name, help, labels, kind: MetricType::Gauge, needs: Needs::Nothing }
}

const fn pressure(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, labels: &[], kind: MetricType::Counter, needs: Needs::Unified }
}

const fn huge(name: &'static str, help: &'static str) -> Descriptor {
    Descriptor { name, help, labels: &["pagesize"], kind: MetricType::Gauge, needs: Needs::HugePages }
}

/// All of them.
pub(super) const ALL: &[Descriptor] = &[
    counter("container_cpu_usage_seconds_total", &[], "CPU time used, in seconds."),
    counter("container_cpu_user_seconds_total", &[], "CPU time used by programs, in seconds."),
    counter("container_cpu_system_seconds_total", &[], "CPU time used by the kernel, in seconds."),
    counter("container_cpu_cfs_periods_total", &[], "Periods of the CPU quota that have passed."),
    counter("container_cpu_cfs_throttled_periods_total", &[], "Periods in which the CPU quota was used up."),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        &[],
        "Time spent waiting for the next period, in seconds.",
    ),
    gauge("container_memory_usage_bytes", &[], "Memory in use, with the page cache, in bytes."),
    gauge(
        "container_memory_working_set_bytes",
        &[],
        "Memory in use without cache that can be dropped, in bytes.",
    ),
    gauge("container_memory_rss", &[], "Anonymous memory in use, in bytes."),
    gauge("container_memory_cache", &[], "Page cache, in bytes."),
    gauge("container_memory_swap", &[], "Swap in use, in bytes."),
    gauge("container_memory_mapped_file", &[], "Files mapped into memory, in bytes."),
    gauge("container_memory_max_usage_bytes", &[], "The most memory that was in use at a time, in bytes."),
    gauge("container_memory_kernel_usage", &[], "Memory the kernel uses for the container, in bytes."),
    counter("container_memory_failcnt", &[], "How often the memory limit was reached."),
    counter("container_memory_failures_total", &["failure_type", "scope"], "Page faults."),
    counter("container_oom_events_total", &[], "Processes killed for want of memory."),
    counter("container_network_receive_bytes_total", &["interface"], "Bytes received."),
    counter("container_network_receive_packets_total", &["interface"], "Packets received."),
    counter("container_network_receive_packets_dropped_total", &["interface"], "Packets dropped on receipt."),
    counter("container_network_receive_errors_total", &["interface"], "Errors while receiving."),
    counter("container_network_transmit_bytes_total", &["interface"], "Bytes sent."),
    counter("container_network_transmit_packets_total", &["interface"], "Packets sent."),
    counter(
        "container_network_transmit_packets_dropped_total",
        &["interface"],
        "Packets dropped while sending.",
    ),
    counter("container_network_transmit_errors_total", &["interface"], "Errors while sending."),
    gauge("container_fs_usage_bytes", &["device"], "Bytes that the container has written to its root."),
    gauge(
        "container_fs_limit_bytes",
        &["device"],
        "Bytes of the filesystem that the container's root is on.",
    ),
    gauge(
        "container_fs_inodes_total",
        &["device"],
        "Inodes of the filesystem that the container's root is on.",
    ),
    gauge(
        "container_fs_inodes_free",
        &["device"],
        "Free inodes of the filesystem that the container's root is on.",
    ),
    counter("container_fs_reads_total", &["device"], "Reads from a block device."),
    counter("container_fs_writes_total", &["device"], "Writes to a block device."),
    counter("container_fs_reads_bytes_total", &["device"], "Bytes read from a block device."),
    counter("container_fs_writes_bytes_total", &["device"], "Bytes written to a block device."),
    counter(
        "container_blkio_device_usage_total",
        &["device", "major", "minor", "operation"],
        "Bytes to and from a block device, by operation.",
    ),
    gauge("container_processes", &[], "Processes in the container."),
    gauge("container_threads", &[], "Threads in the container."),
    gauge("container_threads_max", &[], "The most threads that may be in the container; 0 without a limit."),
    gauge("container_file_descriptors", &[], "Open file descriptors of the container's processes."),
    gauge("container_sockets", &[], "Open sockets of the container's processes."),
    gauge(
        "container_ulimits_soft",
        &["ulimit"],
        "Soft limits of the container's first process; -1 is no limit.",
    ),
    gauge("container_last_seen", &[], "When the container was last seen, in seconds since 1970."),
    gauge("container_start_time_seconds", &[], "When the container was started, in seconds since 1970."),
    gauge("container_spec_cpu_period", &[], "The period of the CPU quota, in microseconds."),
    gauge("container_spec_cpu_quota", &[], "CPU time in each period, in microseconds."),
    gauge("container_spec_cpu_shares", &[], "The container's share of CPU time among others."),
    gauge("container_spec_memory_limit_bytes", &[], "The memory limit, in bytes; 0 without one."),
    gauge("container_spec_memory_reservation_limit_bytes", &[], "Memory kept for the container, in bytes."),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        &[],
        "The limit of memory and swap, in bytes; 0 without one.",
    ),
    huge("container_hugetlb_usage_bytes", "Huge pages in use, in bytes."),
    huge("container_hugetlb_max_usage_bytes", "The most huge pages that were in use at a time, in bytes."),
    pressure(
        "container_pressure_cpu_stalled_seconds_total",
        "Time no task could run for want of CPU, in seconds.",
    ),
    pressure("container_pressure_cpu_waiting_seconds_total", "Time some task waited for CPU, in seconds."),
    pressure(
        "container_pressure_io_stalled_seconds_total",
        "Time no task could run for input and output, in seconds.",
    ),
    pressure(
        "container_pressure_io_waiting_seconds_total",
        "Time some task waited for input or output, in seconds.",
    ),
    pressure(
        "container_pressure_memory_stalled_seconds_total",
        "Time no task could run for want of memory, in seconds.",
    ),
    pressure(
        "container_pressure_memory_waiting_seconds_total",
        "Time some task waited for memory, in seconds.",
    ),
];

impl Descriptor {
    /// As ListMetricDescriptors tells it.
    pub(super) fn told(&self) -> MetricDescriptor {
        MetricDescriptor {
            name: self.name.to_owned(),
            help: self.help.to_owned(),
            label_keys: BASE.iter().chain(self.labels).map(|&label| label.to_owned()).collect(),
        }
    }
}

/// The metric called `name`.
pub(super) fn find(name: &str) -> Option<&'static Descriptor> {
    ALL.iter().find(|descriptor| descriptor.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_there_once() {
        let mut names: Vec<_> = ALL.iter().map(|d| d.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert_eq!(names.len(), 56);
    }
}
