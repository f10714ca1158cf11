//! What a cgroup's processes have open, and what limits they have.

use std::fs;
use std::path::Path;

use super::super::stats::Reader;

/// Numbers over all processes of a cgroup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) processes: u64,
    pub(super) descriptors: u64,
    pub(super) sockets: u64,
}

/// Counts them. Processes that end meanwhile are left out.
pub(super) fn open(reader: &Reader, cgroup: &Path) -> Open {
    let mut open = Open::default();
    for pid in reader.text("pids", cgroup, "cgroup.procs").unwrap_or_default().lines() {
        open.processes += 1;
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            open.descriptors += 1;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            open.sockets += u64::from(target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
        }
    }
    open
}

/// The soft limit of open files of a process.
pub(super) fn open_files(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
