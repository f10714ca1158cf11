//! What the kernel has counted for one cgroup, whichever version of cgroups it has.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use kernel::cgroup::Roots;

/// Everything counted; `None` where no controller of this machine counts it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Counters {
    /// CPU time, nanoseconds.
    pub(crate) cpu: Option<u64>,
    pub(crate) memory: Option<Memory>,
    /// Processes and threads.
    pub(crate) tasks: Option<u64>,
}

/// Bytes, and numbers of events.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Memory {
    pub(crate) usage: u64,
    /// `None` without one.
    pub(crate) limit: Option<u64>,
    /// Page cache that can be dropped at once.
    pub(crate) inactive_file: u64,
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) mapped_file: u64,
    pub(crate) swap: Option<u64>,
    pub(crate) faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) kernel: Option<u64>,
}

impl Memory {
    /// What cannot be had back without swapping.
    pub(crate) fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

impl Memory {
    /// Both together. A limit of one is none of both.
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let add = |a: Option<u64>, b: Option<u64>| a.or(b).map(|_| a.unwrap_or(0) + b.unwrap_or(0));
        Self {
            usage: self.usage + other.usage,
            limit: self.limit.zip(other.limit).map(|(a, b)| a + b),
            inactive_file: self.inactive_file + other.inactive_file,
            rss: self.rss + other.rss,
            cache: self.cache + other.cache,
            mapped_file: self.mapped_file + other.mapped_file,
            swap: add(self.swap, other.swap),
            faults: self.faults + other.faults,
            major_faults: self.major_faults + other.major_faults,
            kernel: add(self.kernel, other.kernel),
        }
    }
}

/// Reads cgroups; looks for their hierarchies once.
#[derive(Debug)]
pub(crate) struct Reader {
    roots: Roots,
}

impl Reader {
    pub(crate) fn new() -> kernel::Result<Self> {
        Ok(Self { roots: Roots::find()? })
    }

    /// Whether there is one v2 tree.
    pub(crate) fn is_unified(&self) -> bool {
        self.roots.is_unified()
    }

    /// Whether the machine has `controller`.
    pub(crate) fn has(&self, controller: &str) -> bool {
        let Some(root) = self.roots.of(controller) else { return false };
        let list = || std::fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        !self.is_unified() || list().split_ascii_whitespace().any(|name| name == controller)
    }

    /// The cgroup's directory in the hierarchy of `controller`.
    pub(crate) fn dir(&self, controller: &str, cgroup: &Path) -> Option<PathBuf> {
        self.roots.of(controller).map(|root| root.join(cgroup))
    }

    /// A file of the cgroup.
    pub(crate) fn text(&self, controller: &str, cgroup: &Path, file: &str) -> Option<String> {
        let path = self.dir(controller, cgroup)?.join(file);
        // Statistics are a page or so: no asking for the size, which is 0.
        let mut text = String::with_capacity(2048);
        File::open(path).ok()?.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// A file with one number; "max" is none.
    pub(crate) fn number(&self, controller: &str, cgroup: &Path, file: &str) -> Option<u64> {
        self.text(controller, cgroup, file)?.trim().parse().ok()
    }

    /// The counters that statistics are made of: four files.
    pub(crate) fn read(&self, cgroup: &Path) -> Counters {
        let cpu = match self.is_unified() {
            true => self
                .text("cpu", cgroup, "cpu.stat")
                .and_then(|text| keyed(&text, "usage_usec"))
                .map(|microseconds| microseconds * 1000),
            false => self.number("cpuacct", cgroup, "cpuacct.usage"),
        };
        Counters { cpu, memory: self.memory(cgroup), tasks: self.number("pids", cgroup, "pids.current") }
    }

    fn memory(&self, cgroup: &Path) -> Option<Memory> {
        let text = self.text("memory", cgroup, "memory.stat")?;
        if self.is_unified() {
            return Some(Memory {
                usage: self.number("memory", cgroup, "memory.current")?,
                limit: self.number("memory", cgroup, "memory.max"),
                swap: self.number("memory", cgroup, "memory.swap.current"),
                inactive_file: keyed(&text, "inactive_file").unwrap_or(0),
                rss: keyed(&text, "anon").unwrap_or(0),
                cache: keyed(&text, "file").unwrap_or(0),
                mapped_file: keyed(&text, "file_mapped").unwrap_or(0),
                faults: keyed(&text, "pgfault").unwrap_or(0),
                major_faults: keyed(&text, "pgmajfault").unwrap_or(0),
                kernel: keyed(&text, "kernel"),
            });
        }
        // Nobody sets that much; the kernel says "no limit" by it, rounded to pages.
        const UNLIMITED: u64 = i64::MAX as u64 / 2;
        Some(Memory {
            usage: self.number("memory", cgroup, "memory.usage_in_bytes")?,
            // Its own: without one nothing is said of what is available, whatever those above it have.
            limit: self.number("memory", cgroup, "memory.limit_in_bytes").filter(|&limit| limit < UNLIMITED),
            swap: keyed(&text, "total_swap"),
            inactive_file: keyed(&text, "total_inactive_file").unwrap_or(0),
            rss: keyed(&text, "total_rss").unwrap_or(0),
            cache: keyed(&text, "total_cache").unwrap_or(0),
            mapped_file: keyed(&text, "total_mapped_file").unwrap_or(0),
            faults: keyed(&text, "total_pgfault").unwrap_or(0),
            major_faults: keyed(&text, "total_pgmajfault").unwrap_or(0),
            kernel: None,
        })
    }
}

/// The number behind `key` in lines of `key number`.
pub(crate) fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(' ')))?;
    line.get(key.len() + 1..)?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words() {
        let text = "file_mapped 7\nfile 3\nanon 9\n";
        let keys = ["file", "anon", "fil", "file_mapped", "kernel"];
        assert_eq!(keys.map(|key| keyed(text, key)), [Some(3), Some(9), None, Some(7), None]);
    }
}
