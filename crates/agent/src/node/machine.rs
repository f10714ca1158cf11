//! What the machine has.

use std::fs;
use std::path::PathBuf;

use crate::Setup;

/// What of the machine does not change while it runs, and where to look for the rest.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Its address.
    pub(crate) address: String,
    /// Its name.
    pub(crate) hostname: String,
    /// Processors.
    pub(crate) cpus: i64,
    /// Memory in bytes.
    pub(crate) memory: i64,
    /// `amd64`, `arm64`: as images name it.
    pub(crate) architecture: &'static str,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The system's name.
    pub(crate) system: String,
    /// /etc/machine-id.
    pub(crate) id: String,
    /// This boot's id.
    pub(crate) boot: String,
    folder: PathBuf,
}

impl Machine {
    /// This one.
    ///
    /// # Errors
    /// The kernel does not say what it must.
    pub(crate) fn read(setup: &Setup) -> Result<Self, String> {
        let name = rustix::system::uname();
        let total = meminfo("MemTotal:").ok_or("cannot read MemTotal of /proc/meminfo")?;
        let cpus = std::thread::available_parallelism()
            .map_err(|error| format!("cannot count processors: {error}"))?;
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let release = text("/etc/os-release");
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Ok(Self {
            address: setup.address.to_string(),
            hostname: name.nodename().to_string_lossy().into_owned(),
            cpus: i64::try_from(cpus.get()).unwrap_or(1),
            memory: total,
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            },
            kernel: name.release().to_string_lossy().into_owned(),
            system: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            id: text("/etc/machine-id"),
            boot: text("/proc/sys/kernel/random/boot_id"),
            folder: setup.folder.clone(),
        })
    }

    /// Bytes of the disk that pods' files are on.
    pub(crate) fn disk(&self) -> i64 {
        let found = rustix::fs::statvfs(&self.folder).ok();
        found.and_then(|fs| i64::try_from(fs.f_blocks.saturating_mul(fs.f_frsize)).ok()).unwrap_or_default()
    }

    /// Bytes of memory that can be had.
    pub(crate) fn free_memory(&self) -> i64 {
        meminfo("MemAvailable:").unwrap_or(self.memory)
    }

    /// Process ids that there can be, and those that are taken.
    pub(crate) fn pids(&self) -> (u64, u64) {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let most = number("/proc/sys/kernel/pid_max")
            .into_iter()
            .chain(number("/proc/sys/kernel/threads-max"))
            .min();
        // `RUNNING/ALL` in the fourth place.
        let all = fs::read_to_string("/proc/loadavg").ok();
        let all = all.and_then(|text| text.split(' ').nth(3)?.split('/').nth(1)?.parse::<u64>().ok());
        (most.unwrap_or_default(), all.unwrap_or_default())
    }
}

/// A line of /proc/meminfo, in bytes.
fn meminfo(name: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.parse::<i64>().ok()?.checked_mul(1024)
}
