//! What a cgroup can limit and count, in the units of the runtime specification.

use std::collections::BTreeSet;

use super::DeviceRule;

/// A block device by its numbers, and one limit of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    /// Of what.
    pub kind: ThrottleKind,
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Bytes or operations a second; 0 is no limit.
    pub rate: u64,
}

/// What a [`Throttle`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThrottleKind {
    /// Bytes read.
    ReadBytes,
    /// Bytes written.
    WriteBytes,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
}

/// A block device's weight, 10 to 1000; `None` and 0 leave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceWeight {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// Against other cgroups.
    pub weight: Option<u16>,
    /// Against the cgroup's children (v1 before Linux 5.0).
    pub leaf_weight: Option<u16>,
}

/// The limits of an RDMA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RdmaLimit {
    /// The device's name.
    pub device: String,
    /// Handles.
    pub handles: Option<u32>,
    /// Objects.
    pub objects: Option<u32>,
}

/// Limits to write; what is `None` (or empty) stays as it is. -1 stands for "no limit" where the field is signed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, bytes.
    pub memory: Option<i64>,
    /// Memory below which nothing is reclaimed under pressure elsewhere, bytes.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together, bytes.
    pub memory_swap: Option<i64>,
    /// How eagerly anonymous memory is swapped, 0 to 100 (v1 only).
    pub memory_swappiness: Option<u64>,
    /// No out-of-memory killer: processes wait instead (v1 only).
    pub oom_kill_disable: Option<bool>,
    /// Refuse a memory limit below what is used now, which the kernel would enforce by killing (v2; v1 refuses itself).
    pub memory_check: bool,
    /// Children count against the limits (v1; v2 always does so).
    pub memory_hierarchy: Option<bool>,
    /// Relative weight, 2 to 262144; 1024 is the default.
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, microseconds.
    pub cpu_quota: Option<i64>,
    /// The period, microseconds.
    pub cpu_period: Option<u64>,
    /// Quota that may be saved up, microseconds.
    pub cpu_burst: Option<u64>,
    /// Run only when nobody else wants to.
    pub cpu_idle: Option<bool>,
    /// Real-time run time in each period, microseconds (v1 only).
    pub cpu_rt_runtime: Option<i64>,
    /// Its period, microseconds.
    pub cpu_rt_period: Option<u64>,
    /// The CPUs, as a list ("0-2,7").
    pub cpus: Option<String>,
    /// The memory nodes, as a list.
    pub mems: Option<String>,
    /// Processes and threads. With 0 the first process runs and nothing can be forked.
    pub pids: Option<i64>,
    /// Block I/O weight, 10 to 1000.
    pub io_weight: Option<u16>,
    /// The same against the cgroup's children (v1 before Linux 5.0).
    pub io_leaf_weight: Option<u16>,
    /// Weights of single block devices.
    pub io_device_weights: Vec<DeviceWeight>,
    /// Limits of single block devices.
    pub io_throttles: Vec<Throttle>,
    /// The class of packets (v1 only).
    pub network_class: Option<u32>,
    /// Priorities of packets by the interface they leave through (v1 only).
    pub network_priorities: Vec<(String, u32)>,
    /// RDMA devices.
    pub rdma: Vec<RdmaLimit>,
    /// Huge pages: page size as the kernel names it ("2MB"), and bytes.
    pub huge_pages: Vec<(String, u64)>,
    /// Device rules in order; later ones win.
    pub devices: Vec<DeviceRule>,
    /// v2 files and their values, written last.
    pub unified: Vec<(String, String)>,
}

impl Limits {
    /// The names of the limits that are set.
    pub(super) fn names(&self) -> BTreeSet<&'static str> {
        let set = |weight: Option<u16>| weight.is_some_and(|w| w != 0);
        [
            ("memory", self.memory.is_some()),
            ("memory reservation", self.memory_reservation.is_some()),
            ("memory and swap", self.memory_swap.is_some_and(|s| s != 0)),
            ("memory swappiness", self.memory_swappiness.is_some()),
            ("oom kill disable", self.oom_kill_disable == Some(true)),
            ("cpu shares", self.cpu_shares.is_some_and(|s| s != 0)),
            ("cpu quota", self.cpu_quota.is_some_and(|q| q != 0) || self.cpu_period.is_some_and(|p| p != 0)),
            ("cpu burst", self.cpu_burst.is_some()),
            ("cpu idle", self.cpu_idle.is_some()),
            ("memory hierarchy", self.memory_hierarchy.is_some()),
            ("real-time cpu time", self.real_time()),
            ("cpus", self.cpus.is_some()),
            ("memory nodes", self.mems.is_some()),
            ("pids", self.pids.is_some()),
            ("io weight", self.io_weight.is_some_and(|w| w != 0)),
            ("io leaf weight", self.io_leaf_weight.is_some_and(|w| w != 0)),
            (
                "io weights of devices",
                self.io_device_weights.iter().any(|d| set(d.weight) || set(d.leaf_weight)),
            ),
            ("io limits of devices", !self.io_throttles.is_empty()),
            ("network class", self.network_class.is_some()),
            ("network priorities", !self.network_priorities.is_empty()),
            ("rdma", !self.rdma.is_empty()),
            ("huge pages", !self.huge_pages.is_empty()),
            ("devices", !self.devices.is_empty()),
            ("unified", !self.unified.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
    }

    pub(super) fn real_time(&self) -> bool {
        self.cpu_rt_runtime.is_some_and(|r| r != 0) || self.cpu_rt_period.is_some_and(|p| p != 0)
    }

    /// What `pids.max` gets. 1 for 0: a process is born into the cgroup, and then none can be forked.
    pub(super) fn pids_text(pids: i64) -> String {
        if pids < 0 { "max".into() } else { pids.max(1).to_string() }
    }
}

impl Throttle {
    /// The name of its file in v1.
    pub(super) fn v1_file(&self) -> &'static str {
        match self.kind {
            ThrottleKind::ReadBytes => "blkio.throttle.read_bps_device",
            ThrottleKind::WriteBytes => "blkio.throttle.write_bps_device",
            ThrottleKind::Reads => "blkio.throttle.read_iops_device",
            ThrottleKind::Writes => "blkio.throttle.write_iops_device",
        }
    }

    /// Its line for `io.max` of v2.
    pub(super) fn v2_line(&self) -> String {
        let key = match self.kind {
            ThrottleKind::ReadBytes => "rbps",
            ThrottleKind::WriteBytes => "wbps",
            ThrottleKind::Reads => "riops",
            ThrottleKind::Writes => "wiops",
        };
        let rate = if self.rate == 0 { "max".into() } else { self.rate.to_string() };
        format!("{}:{} {key}={rate}", self.major, self.minor)
    }
}

impl RdmaLimit {
    /// Its line for `rdma.max`, the same in v1 and v2.
    pub(super) fn line(&self) -> String {
        let part = |key: &str, n: Option<u32>| n.map_or_else(String::new, |n| format!(" {key}={n}"));
        format!("{}{}{}", self.device, part("hca_handle", self.handles), part("hca_object", self.objects))
    }
}

/// What the processes of a cgroup use; `None` where no hierarchy counts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time, nanoseconds.
    pub cpu: Option<u64>,
    /// Memory, bytes, with the page cache.
    pub memory: Option<u64>,
    /// Page cache that can be dropped at once, bytes.
    pub inactive_file: Option<u64>,
    /// The memory limit, bytes; `None` without one.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How often the out-of-memory killer struck.
    pub oom_kills: Option<u64>,
}
