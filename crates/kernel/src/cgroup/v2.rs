//! The v2 hierarchy.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{Hierarchy, Limits, Usage, device, gone, read_keyed, read_number, write, write_both};
use crate::{Act, Error, Result};

#[derive(Debug)]
pub(super) struct V2 {
    root: PathBuf,
    dir: PathBuf,
}

/// The controllers that limits need; others of the machine are left to whoever wants them.
const WANTED: [&str; 9] = ["cpu", "cpuset", "memory", "io", "pids", "hugetlb", "rdma", "misc", "dmem"];

impl V2 {
    pub(super) fn new(root: PathBuf, path: &Path) -> Self {
        Self { dir: root.join(path), root }
    }

    fn controllers(dir: &Path) -> Vec<&'static str> {
        let list = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
        WANTED.into_iter().filter(|w| list.split_whitespace().any(|c| c == *w)).collect()
    }

    fn write(&self, file: &str, value: impl ToString) -> Result<()> {
        write(&self.dir.join(file), &value.to_string())
    }

    fn limit(value: i64) -> String {
        if value < 0 { "max".into() } else { value.to_string() }
    }

    fn apply_memory(&self, limits: &Limits, done: &mut BTreeSet<&'static str>) -> Result<()> {
        if let Some(limit) = limits.memory.filter(|&l| limits.memory_check && l > 0)
            && let Some(used) = read_number(&self.dir.join("memory.current"))
            && used > limit.unsigned_abs()
        {
            let object = format!("the memory limit {limit} (checkBeforeUpdate: {used} bytes are in use)");
            return Err(Error::new("apply", object, Errno::BUSY));
        }
        // Children always count.
        if limits.memory_hierarchy == Some(true) {
            done.insert("memory hierarchy");
        }
        let unlimited = limits.memory.filter(|&l| l < 0);
        if let Some(swap) = limits.memory_swap.filter(|&s| s != 0).or(unlimited) {
            // The specification counts memory and swap together, v2 counts swap alone.
            let alone = match (swap, limits.memory) {
                (swap, _) if swap < 0 => -1,
                // Memory has no limit: it is swap alone that has one.
                (swap, Some(memory)) if memory < 0 => swap,
                (swap, Some(memory)) if memory > 0 && swap >= memory => swap - memory,
                (swap, memory) => {
                    let object = format!(
                        "memory and swap limit {swap} (it must be at least the memory limit, {memory:?})"
                    );
                    return Err(Error::new("apply", object, Errno::INVAL));
                }
            };
            match self.write("memory.swap.max", Self::limit(alone)) {
                Ok(()) => drop(done.insert("memory and swap")),
                // A kernel without swap has none to limit.
                Err(e) if e.errno() == Some(Errno::NOENT) && alone <= 0 => {
                    done.insert("memory and swap");
                }
                Err(e) if e.errno() == Some(Errno::NOENT) => {}
                Err(e) => return Err(e),
            }
        }
        if let Some(limit) = limits.memory.filter(|&l| l != 0) {
            self.write("memory.max", Self::limit(limit))?;
        }
        done.insert("memory");
        if let Some(low) = limits.memory_reservation {
            self.write("memory.low", Self::limit(low))?;
            done.insert("memory reservation");
        }
        Ok(())
    }

    fn apply_io(&self, limits: &Limits, done: &mut BTreeSet<&'static str>) -> Result<()> {
        let either = |device: &str, weight: u16| {
            self.write("io.bfq.weight", format!("{device}{weight}")).is_ok()
                || self.write("io.weight", format!("{device}{}", weight_of_io(weight))).is_ok()
        };
        if let Some(weight) = limits.io_weight.filter(|&w| w != 0)
            && either("", weight)
        {
            done.insert("io weight");
        }
        let mut all = true;
        for device in &limits.io_device_weights {
            if let Some(weight) = device.weight.filter(|&w| w != 0) {
                all &= either(&format!("{}:{} ", device.major, device.minor), weight);
            }
            // v2 has no cgroup with processes beside its children: nothing to weigh against them.
            all &= device.leaf_weight.is_none_or(|w| w == 0);
        }
        if all {
            done.insert("io weights of devices");
        }
        for limit in &limits.io_throttles {
            self.write("io.max", limit.v2_line())?;
            done.insert("io limits of devices");
        }
        Ok(())
    }

    /// One line of a file that the configuration names itself.
    fn write_unified(&self, file: &str, line: &str, controllers: &[&str]) -> Result<()> {
        let Err(e) = self.write(file, line) else { return Ok(()) };
        let hint = match file.split_once('.') {
            None => " (a file's name is CONTROLLER.PARAMETER)".to_owned(),
            Some((controller, _))
                if e.errno() == Some(Errno::NOENT) && !controllers.contains(&controller) =>
            {
                format!(" (the controller {controller} is not enabled for this cgroup)")
            }
            Some(_) => String::new(),
        };
        let errno = e.errno().unwrap_or(Errno::IO);
        Err(Error::new("set", format!("linux.resources.unified.{file} to {line:?}{hint}"), errno))
    }

    fn apply_cpu(&self, limits: &Limits, done: &mut BTreeSet<&'static str>) -> Result<()> {
        if let Some(idle) = limits.cpu_idle {
            self.write("cpu.idle", u8::from(idle))?;
            done.insert("cpu idle");
        }
        if let Some(shares) = limits.cpu_shares.filter(|&s| s != 0) {
            self.write("cpu.weight", weight_of_shares(shares))?;
            done.insert("cpu shares");
        }
        let quota = limits.cpu_quota.filter(|&q| q != 0);
        let period = limits.cpu_period.filter(|&p| p != 0);
        // One file holds both, and is not written without a quota.
        let kept = || {
            let text = fs::read_to_string(self.dir.join("cpu.max")).ok()?;
            text.split_whitespace().next().map(str::to_owned)
        };
        let max = (quota.is_some() || period.is_some()).then(|| {
            let quota = quota.map(Self::limit).or_else(kept).unwrap_or_else(|| "max".into());
            period.map_or_else(|| quota.clone(), |p| format!("{quota} {p}"))
        });
        done.extend(max.is_some().then_some("cpu quota"));
        done.extend(limits.cpu_burst.is_some().then_some("cpu burst"));
        let burst = limits.cpu_burst.map(|b| b.to_string());
        write_both((&self.dir.join("cpu.max.burst"), burst), (&self.dir.join("cpu.max"), max))?;
        Ok(())
    }
}

/// v1 shares (2 to 262144, default 1024) as v2 weight (1 to 10000, default 100), on the line that containerd, crun and
/// runc use since the kubelet does.
pub fn weight_of_shares(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    if shares == 1024 {
        return 100;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// v1 weight of block I/O (10 to 1000) as v2 weight (1 to 10000), ends on ends.
pub fn weight_of_io(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

impl Hierarchy for V2 {
    fn create(&self) -> Result<()> {
        let below = self.dir.strip_prefix(&self.root).unwrap_or(&self.dir).to_path_buf();
        let mut dir = self.root.clone();
        let depth = below.components().count();
        for (level, name) in below.components().enumerate() {
            // What a parent does not hand down, its children do not have.
            let wanted: Vec<_> = Self::controllers(&dir).iter().map(|c| format!("+{c}")).collect();
            if !wanted.is_empty() {
                let file = dir.join("cgroup.subtree_control");
                // One controller that is in use elsewhere must not cost the others: then one by one, what works.
                if fs::write(&file, wanted.join(" ")).is_err() {
                    wanted.iter().for_each(|one| drop(fs::write(&file, one)));
                }
            }
            dir.push(name);
            match fs::create_dir(&dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => {
                    return Err(Error::new(
                        "create",
                        format!("cgroup {} (level {level} of {depth})", dir.display()),
                        e,
                    ));
                }
            }
        }
        Ok(())
    }

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn place(&mut self, path: &Path) {
        self.dir = self.root.join(path);
    }

    fn apply(&self, limits: &Limits) -> Result<BTreeSet<&'static str>> {
        let mut done = BTreeSet::new();
        let controllers = Self::controllers(&self.dir);
        let has = |name: &str| controllers.contains(&name);
        if has("memory") {
            self.apply_memory(limits, &mut done)?;
        }
        if has("cpu") {
            self.apply_cpu(limits, &mut done)?;
        }
        if has("cpuset") {
            if let Some(cpus) = &limits.cpus {
                self.write("cpuset.cpus", cpus)?;
                done.insert("cpus");
            }
            if let Some(mems) = &limits.mems {
                self.write("cpuset.mems", mems)?;
                done.insert("memory nodes");
            }
        }
        if has("pids")
            && let Some(pids) = limits.pids
        {
            self.write("pids.max", Limits::pids_text(pids))?;
            done.insert("pids");
        }
        if has("io") {
            self.apply_io(limits, &mut done)?;
        }
        if has("rdma") {
            for limit in &limits.rdma {
                self.write("rdma.max", limit.line())?;
                done.insert("rdma");
            }
        }
        if has("hugetlb") {
            for (size, bytes) in &limits.huge_pages {
                self.write(&format!("hugetlb.{size}.max"), bytes)?;
                // What is only reserved counts too, since Linux 5.7.
                match self.write(&format!("hugetlb.{size}.rsvd.max"), bytes) {
                    Err(e) if e.errno() != Some(Errno::NOENT) => return Err(e),
                    _ => {}
                }
                done.insert("huge pages");
            }
        }
        // Beside v1 trees the devices controller is there and this program would only say it a second time.
        if !limits.devices.is_empty() && self.root == Path::new(super::ROOT) {
            let dir = fs::File::open(&self.dir).act("open", || self.dir.display().to_string())?;
            device::attach(dir.as_fd(), &limits.devices)?;
            done.insert("devices");
        }
        for (file, value) in &limits.unified {
            if file.contains('/') || file.starts_with('.') {
                let object = format!("unified limit {file:?} (give the name of a file of the cgroup)");
                return Err(Error::new("apply", object, Errno::INVAL));
            }
            for line in value.lines() {
                self.write_unified(file, line, &controllers)?;
            }
            done.insert("unified");
        }
        Ok(done)
    }

    fn read_usage(&self, usage: &mut Usage) {
        let file = |name: &str| self.dir.join(name);
        usage.cpu = usage.cpu.or_else(|| Some(read_keyed(&file("cpu.stat"), "usage_usec")? * 1000));
        usage.pids = usage.pids.or_else(|| read_number(&file("pids.current")));
        if let Some(memory) = read_number(&file("memory.current")) {
            usage.memory = Some(memory);
            usage.inactive_file = read_keyed(&file("memory.stat"), "inactive_file");
            usage.memory_limit = read_number(&file("memory.max"));
            usage.oom_kills = read_keyed(&file("memory.events"), "oom_kill");
        }
    }

    fn freeze(&self, frozen: bool) -> Result<bool> {
        match self.write("cgroup.freeze", u8::from(frozen)) {
            Err(e) if e.errno() == Some(Errno::NOENT) => return Ok(false),
            other => other?,
        }
        let events = fs::File::open(self.dir.join("cgroup.events"))
            .act("open", || self.dir.join("cgroup.events").display().to_string())?;
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        loop {
            let mut text = [0_u8; 128];
            let n = rustix::io::pread(&events, &mut text, 0).act("read", || "cgroup.events")?;
            if String::from_utf8_lossy(&text[..n]).lines().any(|l| l == wanted) {
                return Ok(true);
            }
            let mut fds = [PollFd::new(&events, PollFlags::PRI)];
            let limit = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
            if poll(&mut fds, Some(&limit)).act("wait for", || "cgroup.events")? == 0 {
                return Err(Error::new("freeze", self.dir.display().to_string(), Errno::TIMEDOUT));
            }
        }
    }

    fn is_frozen(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.freeze")).is_ok_and(|text| text.trim() == "1")
    }

    fn kill(&self) -> Result<bool> {
        match self.write("cgroup.kill", 1) {
            Ok(()) => Ok(true),
            // Gone, or before Linux 5.14.
            Err(e) if gone(&e.source) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::weight_of_shares;

    #[test]
    fn shares_map_onto_weights() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert!((2..262_144).step_by(777).all(|s| weight_of_shares(s) <= weight_of_shares(s + 777)));
    }
}
