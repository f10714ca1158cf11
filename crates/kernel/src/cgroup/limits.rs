//! What a cgroup can limit and count, in the units of the runtime specification.

use std::collections::BTreeSet;

use super::DeviceRule;

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
    /// The CPUs, as a list ("0-2,7").
    pub cpus: Option<String>,
    /// The memory nodes, as a list.
    pub mems: Option<String>,
    /// Processes and threads.
    pub pids: Option<i64>,
    /// Block I/O weight, 10 to 1000.
    pub io_weight: Option<u16>,
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
            ("cpus", self.cpus.is_some()),
            ("memory nodes", self.mems.is_some()),
            ("pids", self.pids.is_some()),
            ("io weight", self.io_weight.is_some_and(|w| w != 0)),
            ("huge pages", !self.huge_pages.is_empty()),
            ("devices", !self.devices.is_empty()),
            ("unified", !self.unified.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
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
