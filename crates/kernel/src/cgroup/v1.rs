//! A v1 hierarchy: one or more controllers, each with its own files.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use super::{Hierarchy, Limits, Usage, read_keyed, read_number, write, write_both};
use crate::{Act, Error, Result};

#[derive(Debug)]
pub(super) struct V1 {
    root: PathBuf,
    dir: PathBuf,
    controllers: String,
}

impl V1 {
    pub(super) fn new(root: PathBuf, path: &Path, controllers: &str) -> Self {
        Self { dir: root.join(path), root, controllers: controllers.to_owned() }
    }

    fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|c| c == controller)
    }

    fn write(&self, file: &str, value: impl ToString) -> Result<()> {
        write(&self.dir.join(file), &value.to_string())
    }

    /// Writes a file that some kernels lack; false if this one does.
    fn write_if_there(&self, file: &str, value: impl ToString) -> Result<bool> {
        match self.write(file, value) {
            Err(e) if matches!(e.errno(), Some(Errno::NOENT | Errno::OPNOTSUPP)) => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn apply_memory(&self, limits: &Limits, done: &mut BTreeSet<&'static str>) -> Result<()> {
        let both = |limit: Option<i64>| limit.filter(|&l| l != 0);
        let limit = both(limits.memory);
        if let Some(hierarchy) = limits.memory_hierarchy {
            self.write("memory.use_hierarchy", u8::from(hierarchy))?;
            done.insert("memory hierarchy");
        }
        // Without a limit of memory there is none of both either, unless one is named.
        let swap = both(limits.memory_swap).or(limit.filter(|&l| l < 0));
        // The limit must never exceed limit + swap in between: raise the outer one first, lower it last.
        let now = read_number(&self.dir.join("memory.memsw.limit_in_bytes"));
        let outer_first = matches!((now, limit), (Some(now), Some(limit)) if limit < 0 || limit as u64 > now);
        let write_swap = |done: &mut BTreeSet<&'static str>| -> Result<()> {
            if let Some(swap) = swap
                && self.write_if_there("memory.memsw.limit_in_bytes", swap)?
            {
                done.insert("memory and swap");
            }
            Ok(())
        };
        if outer_first {
            write_swap(done)?;
        }
        if let Some(limit) = limit {
            self.write("memory.limit_in_bytes", limit)?;
        }
        done.insert("memory");
        if !outer_first {
            write_swap(done)?;
        }
        if let Some(low) = limits.memory_reservation {
            self.write("memory.soft_limit_in_bytes", low)?;
            done.insert("memory reservation");
        }
        if let Some(swappiness) = limits.memory_swappiness {
            self.write("memory.swappiness", swappiness)?;
            done.insert("memory swappiness");
        }
        if limits.oom_kill_disable == Some(true) {
            self.write("memory.oom_control", 1)?;
            done.insert("oom kill disable");
        }
        Ok(())
    }

    fn apply_cpu(&self, limits: &Limits, done: &mut BTreeSet<&'static str>) -> Result<()> {
        if let Some(shares) = limits.cpu_shares.filter(|&s| s != 0) {
            self.write("cpu.shares", shares)?;
            done.insert("cpu shares");
        }
        let file = |name: &str| self.dir.join(name);
        let text = |n: Option<u64>| n.filter(|&n| n != 0).map(|n| n.to_string());
        let signed = |n: Option<i64>| n.filter(|&n| n != 0).map(|n| n.to_string());
        let (quota, period) = (signed(limits.cpu_quota), text(limits.cpu_period));
        if quota.is_some() || period.is_some() {
            let (quota_file, period_file) = (file("cpu.cfs_quota_us"), file("cpu.cfs_period_us"));
            let burst = file("cpu.cfs_burst_us");
            // A burst that is to shrink must not bar a quota that does.
            if limits.cpu_burst.is_some_and(|b| read_number(&burst).is_some_and(|now| b < now)) {
                self.write("cpu.cfs_burst_us", limits.cpu_burst.unwrap_or(0))?;
            }
            write_both((&period_file, period), (&quota_file, quota))?;
            done.insert("cpu quota");
        }
        if let Some(burst) = limits.cpu_burst
            && self.write_if_there("cpu.cfs_burst_us", burst)?
        {
            done.insert("cpu burst");
        }
        let (runtime, period) = (file("cpu.rt_runtime_us"), file("cpu.rt_period_us"));
        if limits.real_time() && runtime.exists() {
            write_both((&period, text(limits.cpu_rt_period)), (&runtime, signed(limits.cpu_rt_runtime)))?;
            done.insert("real-time cpu time");
        }
        if let Some(idle) = limits.cpu_idle
            && self.write_if_there("cpu.idle", u8::from(idle))?
        {
            done.insert("cpu idle");
        }
        Ok(())
    }

    fn apply_block_io(&self, limits: &Limits, done: &mut BTreeSet<&'static str>) -> Result<()> {
        let set = |weight: Option<u16>| weight.filter(|&w| w != 0);
        let either = |name: &str, value: String| -> Result<bool> {
            Ok(self.write_if_there(&format!("blkio.bfq.{name}"), &value)?
                || self.write_if_there(&format!("blkio.{name}"), &value)?)
        };
        if let Some(weight) = set(limits.io_weight)
            && either("weight", weight.to_string())?
        {
            done.insert("io weight");
        }
        if let Some(weight) = set(limits.io_leaf_weight)
            && self.write_if_there("blkio.leaf_weight", weight)?
        {
            done.insert("io leaf weight");
        }
        let mut all = true;
        for device in &limits.io_device_weights {
            let number = format!("{}:{}", device.major, device.minor);
            if let Some(weight) = set(device.weight) {
                all &= either("weight_device", format!("{number} {weight}"))?;
            }
            if let Some(weight) = set(device.leaf_weight) {
                all &= self.write_if_there("blkio.leaf_weight_device", format!("{number} {weight}"))?;
            }
        }
        if all {
            done.insert("io weights of devices");
        }
        for limit in &limits.io_throttles {
            self.write(limit.v1_file(), format!("{}:{} {}", limit.major, limit.minor, limit.rate))?;
            done.insert("io limits of devices");
        }
        Ok(())
    }

    fn apply_devices(&self, limits: &Limits) -> Result<()> {
        let open = |name: &str| {
            let path = self.dir.join(name);
            fs::OpenOptions::new().write(true).open(&path).act("open", || path.display().to_string())
        };
        if limits.devices.is_empty() {
            return Ok(());
        }
        let (mut allow, mut deny) = (open("devices.allow")?, open("devices.deny")?);
        for rule in &limits.devices {
            let file = if rule.allow { &mut allow } else { &mut deny };
            for text in rule.v1_texts() {
                file.write_all(text.as_bytes())
                    .act("write", || format!("{text:?} to the devices of {}", self.dir.display()))?;
            }
        }
        Ok(())
    }
}

impl Hierarchy for V1 {
    fn create(&self) -> Result<()> {
        if !self.has("cpuset") {
            return fs::create_dir_all(&self.dir).act("create", || format!("cgroup {}", self.dir.display()));
        }
        // A new cpuset has neither CPUs nor memory, and takes no process until it has: hand them down from the root.
        let mut dir = self.root.clone();
        let below = self.dir.strip_prefix(&self.root).unwrap_or(&self.dir).to_path_buf();
        for name in below.components() {
            let parent = dir.clone();
            dir.push(name);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Error::new("create", format!("cgroup {}", dir.display()), e)),
            }
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = fs::read_to_string(dir.join(file)).unwrap_or_default();
                if own.trim().is_empty() {
                    let inherited = fs::read_to_string(parent.join(file))
                        .act("read", || parent.join(file).display().to_string())?;
                    write(&dir.join(file), inherited.trim())?;
                }
            }
        }
        Ok(())
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn holds(&self, controller: &str) -> bool {
        self.has(controller)
    }

    fn place(&mut self, path: &Path) {
        self.dir = self.root.join(path);
    }

    fn apply(&self, limits: &Limits) -> Result<BTreeSet<&'static str>> {
        let mut done = BTreeSet::new();
        if self.has("memory") {
            self.apply_memory(limits, &mut done)?;
        }
        if self.has("cpu") {
            self.apply_cpu(limits, &mut done)?;
        }
        if self.has("cpuset") {
            if let Some(cpus) = &limits.cpus {
                self.write("cpuset.cpus", cpus)?;
                done.insert("cpus");
            }
            if let Some(mems) = &limits.mems {
                self.write("cpuset.mems", mems)?;
                done.insert("memory nodes");
            }
        }
        if self.has("pids")
            && let Some(pids) = limits.pids
        {
            self.write("pids.max", Limits::pids_text(pids))?;
            done.insert("pids");
        }
        if self.has("blkio") {
            self.apply_block_io(limits, &mut done)?;
        }
        if self.has("net_cls")
            && let Some(class) = limits.network_class
        {
            self.write("net_cls.classid", class)?;
            done.insert("network class");
        }
        if self.has("net_prio") {
            for (interface, priority) in &limits.network_priorities {
                self.write("net_prio.ifpriomap", format!("{interface} {priority}"))?;
                done.insert("network priorities");
            }
        }
        if self.has("rdma") {
            for limit in &limits.rdma {
                self.write("rdma.max", limit.line())?;
                done.insert("rdma");
            }
        }
        if self.has("hugetlb") {
            for (size, bytes) in &limits.huge_pages {
                self.write(&format!("hugetlb.{size}.limit_in_bytes"), bytes)?;
                // What is only reserved counts too, since Linux 5.7.
                self.write_if_there(&format!("hugetlb.{size}.rsvd.limit_in_bytes"), bytes)?;
                done.insert("huge pages");
            }
        }
        if self.has("devices") {
            self.apply_devices(limits)?;
            done.insert("devices");
        }
        Ok(done)
    }

    fn read_usage(&self, usage: &mut Usage) {
        let number = |file: &str| read_number(&self.dir.join(file));
        if self.has("cpuacct") {
            usage.cpu = number("cpuacct.usage");
        }
        if self.has("pids") {
            usage.pids = number("pids.current");
        }
        if self.has("memory") {
            usage.memory = number("memory.usage_in_bytes");
            usage.inactive_file = read_keyed(&self.dir.join("memory.stat"), "total_inactive_file");
            // "No limit" reads as the largest multiple of a page.
            usage.memory_limit = number("memory.limit_in_bytes").filter(|&l| l < (i64::MAX as u64) >> 1);
            usage.oom_kills = read_keyed(&self.dir.join("memory.oom_control"), "oom_kill");
        }
    }

    fn freeze(&self, frozen: bool) -> Result<bool> {
        if !self.has("freezer") {
            return Ok(false);
        }
        let wanted = if frozen { "FROZEN" } else { "THAWED" };
        // A process that forks meanwhile can leave it FREEZING: ask again, and thaw now and then to let it through.
        for attempt in 0..1000 {
            self.write("freezer.state", wanted)?;
            let state = self.dir.join("freezer.state");
            let now = fs::read_to_string(&state).act("read", || state.display().to_string())?;
            if now.trim() == wanted {
                return Ok(true);
            }
            if attempt % 50 == 49 {
                self.write("freezer.state", "THAWED")?;
            }
            super::pause(Duration::from_micros(200));
        }
        Err(Error::new("freeze", self.dir.display().to_string(), Errno::BUSY))
    }

    fn is_frozen(&self) -> bool {
        self.has("freezer")
            && fs::read_to_string(self.dir.join("freezer.state")).is_ok_and(|text| text.trim() != "THAWED")
    }

    fn kill(&self) -> Result<bool> {
        Ok(false)
    }
}
