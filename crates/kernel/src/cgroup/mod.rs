//! Control groups: v1, v2 and hybrid machines behind one trait.
//!
//! A [`Cgroup`] is one path in every hierarchy the machine has. Limits go to whichever hierarchy holds their
//! controller; killing uses the v2 tree's `cgroup.kill` where there is one, even beside v1 controllers.

mod device;
mod limits;
mod oom;
mod roots;
mod v1;
mod v2;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

pub use device::{DeviceAccess, DeviceKind, DeviceRule};
pub use limits::{DeviceWeight, Limits, RdmaLimit, Throttle, ThrottleKind, Usage};
pub use oom::OomWatch;
pub use roots::Roots;
use v1::V1;
use v2::V2;
pub use v2::{weight_of_io, weight_of_shares};

use crate::{Act, Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The limits that are an error where nothing can hold them, and what would.
const INDISPENSABLE: [(&str, &str); 7] = [
    ("network class", "the controller net_cls of v1"),
    ("network priorities", "the controller net_prio of v1"),
    ("rdma", "the controller rdma"),
    ("real-time cpu time", "cpu.rt_runtime_us (v1, and a kernel with RT_GROUP_SCHED)"),
    ("io limits of devices", "the controller io or blkio"),
    ("io weights of devices", "weights of block devices (an I/O scheduler that has them)"),
    ("unified", "version 2"),
];

/// One tree of cgroups and what it can do for one path in it.
trait Hierarchy: std::fmt::Debug + Send {
    /// Makes the cgroup and its parents, ready to take processes.
    fn create(&self) -> Result<()>;
    /// The directory in this hierarchy.
    fn dir(&self) -> &Path;
    /// Whether it is v1's hierarchy of this controller.
    fn holds(&self, _controller: &str) -> bool {
        false
    }
    /// From here on the cgroup at `path` below its root is meant.
    fn place(&mut self, path: &Path);
    /// Writes those limits whose controllers are here; returns the names of limits it took.
    fn apply(&self, limits: &Limits) -> Result<BTreeSet<&'static str>>;
    /// Adds what this hierarchy counts.
    fn read_usage(&self, usage: &mut Usage);
    /// Freezes or thaws; false if this hierarchy cannot.
    fn freeze(&self, frozen: bool) -> Result<bool>;
    /// Whether it is frozen, or about to be, as far as this hierarchy does that.
    fn is_frozen(&self) -> bool;
    /// Kills every process in it, atomically; false if this hierarchy cannot.
    fn kill(&self) -> Result<bool>;
}

/// Which hierarchies a machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One v2 tree with all controllers.
    Unified,
    /// v1 trees, and a v2 tree beside them.
    Hybrid,
    /// v1 trees only.
    Legacy,
}

/// The machine's layout, from what is mounted on `/sys/fs/cgroup`.
pub fn layout() -> Result<Layout> {
    let magic = |path: &str| rustix::fs::statfs(path).map(|s| s.f_type as u64);
    const CGROUP2: u64 = 0x6367_7270;
    match magic(ROOT).act("read", || ROOT)? {
        CGROUP2 => Ok(Layout::Unified),
        _ if magic(&format!("{ROOT}/unified")) == Ok(CGROUP2) => Ok(Layout::Hybrid),
        _ => Ok(Layout::Legacy),
    }
}

/// One cgroup, in all hierarchies.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    hierarchies: Vec<Box<dyn Hierarchy>>,
    v2: Option<PathBuf>,
}

impl Cgroup {
    /// The cgroup at `path` below every hierarchy's root (`sextant/abc`); touches nothing.
    ///
    /// A path that is empty or has `..` in it is an error.
    pub fn at(path: &Path) -> Result<Self> {
        let path: PathBuf = path.strip_prefix("/").unwrap_or(path).to_path_buf();
        if path.as_os_str().is_empty() || path.components().any(|c| !matches!(c, Component::Normal(_))) {
            let object = format!(
                "cgroup path {:?} (give names joined by '/', without '..')",
                path.display().to_string()
            );
            return Err(Error::new("use", object, Errno::INVAL));
        }
        let mut hierarchies: Vec<Box<dyn Hierarchy>> = Vec::new();
        let layout = layout()?;
        let v2 = match layout {
            Layout::Unified => Some(PathBuf::from(ROOT)),
            Layout::Hybrid => Some(Path::new(ROOT).join("unified")),
            Layout::Legacy => None,
        };
        if let Some(root) = &v2 {
            hierarchies.push(Box::new(V2::new(root.clone(), &path)));
        }
        if layout != Layout::Unified {
            for controllers in v1_controllers()? {
                hierarchies.push(Box::new(V1::new(Path::new(ROOT).join(&controllers), &path, &controllers)));
            }
        }
        Ok(Self { v2: v2.map(|root| root.join(&path)), path, hierarchies })
    }

    /// In v1's hierarchy of `controller` means the cgroup `path` beneath this one from here on: for a process that joins.
    ///
    /// # Errors
    /// `ENODEV` where no hierarchy of v1 has that controller.
    pub fn descend(&mut self, controller: &str, path: &Path) -> Result<()> {
        let hierarchy = self.hierarchies.iter_mut().find(|h| h.holds(controller));
        let hierarchy = hierarchy
            .ok_or_else(|| Error::new("use", format!("unknown controller {controller:?}"), Errno::NODEV))?;
        hierarchy.place(&self.path.join(path));
        Ok(())
    }

    /// The path below every root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there in any hierarchy.
    pub fn exists(&self) -> bool {
        self.hierarchies.iter().any(|h| h.dir().exists())
    }

    /// Makes it in every hierarchy. What is there already stays as it is.
    pub fn create(&self) -> Result<()> {
        self.hierarchies.iter().try_for_each(|h| h.create())
    }

    /// The directory to be born in: for clone3's `CLONE_INTO_CGROUP`.
    pub fn birth(&self) -> Result<Option<OwnedFd>> {
        let Some(dir) = &self.v2 else { return Ok(None) };
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .act("enter", || format!("cgroup {}", dir.display()))
            .map(Some)
    }

    /// The v1 files a process with one thread writes "0" to, to move itself here. Those of `birth`'s hierarchy are not
    /// among them.
    ///
    /// They are the files of threads: a thread that moves itself needs no lock over all forks and exits of the machine,
    /// for which a whole process waits a grace period of RCU (milliseconds, on a busy machine tens of them).
    pub fn entrances(&self) -> Result<Vec<OwnedFd>> {
        self.hierarchies
            .iter()
            .filter(|h| Some(h.dir()) != self.v2.as_deref())
            .map(|h| {
                let file = h.dir().join("tasks");
                rustix::fs::open(&file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
                    .act("enter", || format!("cgroup {}", h.dir().display()))
            })
            .collect()
    }

    /// Moves the process `pid` here.
    pub fn add(&self, pid: i32) -> Result<()> {
        self.hierarchies.iter().try_for_each(|h| write(&h.dir().join("cgroup.procs"), &pid.to_string()))
    }

    /// Moves the process `pid`, which has one thread, into the v1 hierarchies: for one that is here in v2's already.
    ///
    /// By the files of threads, for the reason that [`entrances`](Self::entrances) has.
    pub fn add_to_v1(&self, pid: i32) -> Result<()> {
        let v1 = self.hierarchies.iter().filter(|h| Some(h.dir()) != self.v2.as_deref());
        v1.map(|h| h.dir().join("tasks")).try_for_each(|file| write(&file, &pid.to_string()))
    }

    /// Writes limits. Returns the names of those that no hierarchy of this machine can hold, for a warning.
    ///
    /// # Errors
    /// What only one version of cgroups has, or a controller that few machines have (packets, RDMA, real time, single
    /// block devices), is not left out: without its hierarchy it is `EOPNOTSUPP`.
    pub fn apply(&self, limits: &Limits) -> Result<Vec<&'static str>> {
        let mut left = limits.names();
        for hierarchy in &self.hierarchies {
            for name in hierarchy.apply(limits)? {
                left.remove(name);
            }
        }
        if let Some((name, controller)) = INDISPENSABLE.into_iter().find(|(name, _)| left.contains(name)) {
            let object = format!(
                "the limit {name}: invalid configuration for this machine: no cgroup hierarchy here has {controller}; \
                 mount one or leave it out"
            );
            return Err(Error::new("apply", object, Errno::OPNOTSUPP));
        }
        Ok(left.into_iter().collect())
    }

    /// What the processes in it use.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.hierarchies.iter().for_each(|h| h.read_usage(&mut usage));
        usage
    }

    /// Stops (or lets go on) every process in it, and returns when all have stopped.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        for hierarchy in &self.hierarchies {
            if hierarchy.freeze(frozen)? {
                return Ok(());
            }
        }
        Err(Error::new("freeze", self.path.display().to_string(), Errno::OPNOTSUPP))
    }

    /// Whether it is frozen, or about to be.
    pub fn is_frozen(&self) -> bool {
        self.hierarchies.iter().any(|h| h.is_frozen())
    }

    /// A file of the cgroup, from the first hierarchy that has it.
    pub fn read(&self, file: &str) -> Option<String> {
        self.hierarchies.iter().find_map(|h| fs::read_to_string(h.dir().join(file)).ok())
    }

    /// CPU time in each period, in microseconds; -1 if there is no quota, `None` if no controller could hold one.
    pub fn cpu_quota(&self) -> Option<i64> {
        let text = self.read("cpu.max").or_else(|| self.read("cpu.cfs_quota_us"))?;
        let quota = text.split_whitespace().next()?;
        if quota == "max" { Some(-1) } else { quota.parse().ok() }
    }

    /// Its directory in the first hierarchy that has `file`.
    pub fn dir_with(&self, file: &str) -> Option<&Path> {
        self.hierarchies.iter().map(|h| h.dir()).find(|dir| dir.join(file).exists())
    }

    /// The processes in it and below, each once.
    pub fn pids(&self) -> Result<BTreeSet<i32>> {
        let mut pids = BTreeSet::new();
        for hierarchy in &self.hierarchies {
            collect_pids(hierarchy.dir(), &mut pids)?;
        }
        Ok(pids)
    }

    /// Kills everything in it and below.
    ///
    /// **Trap**: since Linux 6.14 a cgroup that was killed once takes no process by clone3 any more: the kernel compares
    /// its count of kills with that of the *parent's* cgroup and kills the newborn. Remove it and make it anew.
    ///
    /// # Errors
    /// Those of [`kill_within`](Self::kill_within), with two seconds.
    pub fn kill(&self) -> Result<()> {
        self.kill_within(2_000)
    }

    /// The same, looking so many times, a millisecond apart, whether they are gone: for who has others to serve meanwhile.
    ///
    /// # Errors
    /// `EBUSY` where they are not gone by then; the kernel's files cannot be read or written.
    pub fn kill_within(&self, looks: u32) -> Result<()> {
        if self.pids()?.is_empty() {
            return Ok(());
        }
        for hierarchy in &self.hierarchies {
            if hierarchy.kill()? {
                break;
            }
        }
        // The other trees may hold processes that are not in that one (moved by hand, or by a v1 runtime).
        for attempt in 0..looks {
            if self.pids()?.is_empty() {
                return Ok(());
            }
            self.signal(libc::SIGKILL)?;
            if attempt % 20 == 2 {
                // The v1 freezer holds even the killed. Those that cannot thaw (or need not) are no matter here.
                self.hierarchies.iter().for_each(|h| drop(h.freeze(false)));
            }
            pause(Duration::from_millis(1));
        }
        Err(Error::new("kill", format!("all processes of cgroup {}", self.path.display()), Errno::BUSY))
    }

    /// Sends a signal to every process in it and below.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let mut opened = Vec::new();
        for pid in self.pids()? {
            match crate::process::pidfd(pid) {
                Ok(fd) => opened.push((pid, fd)),
                Err(e) if e.errno() == Some(Errno::SRCH) => {}
                Err(e) => return Err(e),
            }
        }
        // A number may have gone to somebody else before it was opened; who is still here now is meant.
        let here = self.pids()?;
        opened
            .iter()
            .filter(|(pid, _)| here.contains(pid))
            .try_for_each(|(_, fd)| crate::process::signal(fd.as_fd(), signal))
    }

    /// Removes it and all below from every hierarchy. Not there counts as done; processes still in it are an error.
    pub fn remove(&self) -> Result<()> {
        self.hierarchies.iter().try_for_each(|h| remove_tree(h.dir()))
    }
}

/// Kills what is in the cgroup `path` and removes it: the inverse of [`Cgroup::create`], idempotent.
pub fn destroy(path: &Path) -> Result<()> {
    let cgroup = Cgroup::at(path)?;
    // Most are empty and go at once; only what does not has to be looked into.
    let mut busy = false;
    for hierarchy in &cgroup.hierarchies {
        busy |= !matches!(rustix::fs::rmdir(hierarchy.dir()), Ok(()) | Err(Errno::NOENT));
    }
    if !busy {
        return Ok(());
    }
    cgroup.kill()?;
    cgroup.remove()
}

/// The names of the v1 hierarchies' directories, from `/proc/self/cgroup` (`4:memory:/`, `1:name=systemd:/`).
fn v1_controllers() -> Result<Vec<String>> {
    let table = "/proc/self/cgroup";
    let lines = fs::read_to_string(table).act("read", || table)?;
    Ok(lines
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|controllers| !controllers.is_empty())
        .map(|controllers| controllers.strip_prefix("name=").unwrap_or(controllers).to_owned())
        .filter(|name| Path::new(ROOT).join(name).is_dir())
        .collect())
}

fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<()> {
    match fs::read_to_string(dir.join("cgroup.procs")) {
        Ok(list) => pids.extend(list.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|&pid| pid > 0)),
        // A threaded or vanished cgroup has no list of its own.
        Err(e) if gone(&e) || e.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        Err(e) => return Err(Error::new("read", dir.join("cgroup.procs").display().to_string(), e)),
    }
    subdirectories(dir)?.iter().try_for_each(|sub| collect_pids(sub, pids))
}

fn subdirectories(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries
            .flatten()
            .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
            .map(|e| e.path())
            .collect()),
        Err(e) if gone(&e) => Ok(Vec::new()),
        Err(e) => Err(Error::new("list", dir.display().to_string(), e)),
    }
}

fn remove_tree(dir: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match rustix::fs::rmdir(dir) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) if Instant::now() < deadline => {
                let below = subdirectories(dir)?;
                below.iter().try_for_each(|sub| remove_tree(sub))?;
                // Nothing below: a process is still on its way out, which v1 tells by no event.
                if below.is_empty() {
                    pause(Duration::from_micros(500));
                }
            }
            Err(e) => return Err(Error::new("remove", format!("cgroup {}", dir.display()), e)),
        }
    }
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

fn write(file: &Path, value: &str) -> Result<()> {
    // Not `fs::write`: asked to create a file, a cgroup says EACCES where it should say that it has none of that name.
    fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
        .act("write", || format!("{value:?} to {}", file.display()))
}

/// Writes two files whose values bound each other: if the kernel does not take the first as things stand, it is told the
/// second first.
fn write_both(first: (&Path, Option<String>), second: (&Path, Option<String>)) -> Result<()> {
    let again = match (&first.1, &second.1) {
        (Some(value), Some(_)) => match write(first.0, value) {
            Err(e) if e.errno() == Some(Errno::INVAL) => true,
            other => {
                other?;
                false
            }
        },
        (Some(value), None) => {
            write(first.0, value)?;
            false
        }
        (None, _) => false,
    };
    if let Some(value) = &second.1 {
        write(second.0, value)?;
    }
    match &first.1 {
        Some(value) if again => write(first.0, value),
        _ => Ok(()),
    }
}

fn read_number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The number after `key` in a flat-keyed file (`cpu.stat`, `memory.events`).
fn read_keyed(file: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// For children between clone and exec: moves the caller in through the files of [`Cgroup::entrances`].
///
/// Allocates nothing.
pub fn enter<'a>(entrances: impl IntoIterator<Item = BorrowedFd<'a>>) -> rustix::io::Result<()> {
    entrances.into_iter().try_for_each(|fd| rustix::io::write(fd, b"0").map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(what: &str) -> PathBuf {
        PathBuf::from(format!("sextant-test-{}-{what}", std::process::id()))
    }

    #[test]
    fn a_cgroup_takes_limits_counts_and_goes() {
        let path = name("limits");
        let cgroup = Cgroup::at(&path.join("below")).unwrap();
        cgroup.create().unwrap();
        let limits =
            Limits { pids: Some(7), memory: Some(64 << 20), cpu_shares: Some(512), ..Limits::default() };
        let missing = cgroup.apply(&limits).unwrap();
        assert!(missing.is_empty(), "no hierarchy took {missing:?}");
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        cgroup.add(child.id() as i32).unwrap();
        assert_eq!(cgroup.pids().unwrap().into_iter().collect::<Vec<_>>(), [child.id() as i32]);
        assert_eq!(cgroup.usage().pids, Some(1));
        cgroup.freeze(true).unwrap();
        cgroup.freeze(false).unwrap();
        cgroup.kill().unwrap();
        child.wait().unwrap();
        destroy(&path).unwrap();
        assert!(cgroup.hierarchies.iter().all(|h| !h.dir().exists()));
        destroy(&path).unwrap();
    }

    /// A kernel without swap accounting has no memory.memsw.limit_in_bytes: `fs::write` was told EACCES.
    #[test]
    fn a_file_that_a_cgroup_does_not_have_is_no_refusal() {
        let path = name("missing");
        let cgroup = Cgroup::at(&path).unwrap();
        cgroup.create().unwrap();
        for hierarchy in &cgroup.hierarchies {
            let error = write(&hierarchy.dir().join("memory.no_such_file"), "1").unwrap_err();
            assert_eq!(error.errno(), Some(Errno::NOENT), "{error}");
        }
        destroy(&path).unwrap();
    }

    #[test]
    fn what_the_v1_freezer_holds_is_killed() {
        let path = name("frozen");
        let cgroup = Cgroup::at(&path).unwrap();
        cgroup.create().unwrap();
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        cgroup.add(child.id() as i32).unwrap();
        for hierarchy in &cgroup.hierarchies {
            drop(hierarchy.freeze(true));
        }
        cgroup.kill().unwrap();
        child.wait().unwrap();
        destroy(&path).unwrap();
    }

    #[test]
    fn a_path_that_leaves_is_named() {
        for bad in ["", "/", "a/../../b", ".."] {
            let error = Cgroup::at(Path::new(bad)).unwrap_err();
            assert!(error.to_string().starts_with("cannot use cgroup path"), "{error}");
        }
    }
}
