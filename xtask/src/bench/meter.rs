//! CPU time and memory of everything that is started in one cgroup, detached children included. What is left of it is taken away, whatever ends this process
//! ([`Guard`]).

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::guard::Guard;
use crate::Result;
use crate::program::shown;

/// A cgroup of our own in the hierarchies that count and weigh: v1's cpuacct and cpu, or v2.
pub(crate) struct Meter {
    name: String,
    /// Its directory in each hierarchy, and the one this process is in.
    dirs: Vec<(PathBuf, PathBuf)>,
    usage: Usage,
    guard: Guard,
}

enum Usage {
    /// `cpuacct.usage`, in nanoseconds.
    V1(PathBuf),
    /// `usage_usec` of `cpu.stat`.
    V2(PathBuf),
}

impl Meter {
    /// Makes the cgroup; what is in it is killed, and it is removed, when this is dropped or this process ends.
    pub(crate) fn new() -> Result<Self> {
        let name = format!("sextant-bench-{}", std::process::id());
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let place = |controller: &str| -> Result<Option<(PathBuf, PathBuf)>> {
            let Some(root) = mounted(controller)? else { return Ok(None) };
            let line = own.lines().find(|line| {
                let names = line.split(':').nth(1).unwrap_or_default();
                if controller.is_empty() {
                    names.is_empty()
                } else {
                    names.split(',').any(|name| name == controller)
                }
            });
            let path = line.and_then(|line| line.splitn(3, ':').nth(2)).unwrap_or("/");
            Ok(Some((root.join(&name), root.join(path.trim_start_matches('/')))))
        };
        let mut dirs = Vec::new();
        let usage = match place("cpuacct")? {
            Some(cpuacct) => {
                let usage = Usage::V1(cpuacct.0.join("cpuacct.usage"));
                let cpu = place("cpu")?.filter(|cpu| cpu.0 != cpuacct.0);
                dirs.extend([cpuacct].into_iter().chain(cpu));
                usage
            }
            None => {
                let v2 = place("")?.ok_or("no cgroup hierarchy counts CPU time")?;
                let usage = Usage::V2(v2.0.join("cpu.stat"));
                dirs.push(v2);
                usage
            }
        };
        // Before anything is there. Runtimes that are given it as a parent make it in the other hierarchies, too.
        let guard = Guard::start(&roots().iter().map(|root| root.join(&name)).collect::<Vec<_>>())?;
        for (dir, _) in &dirs {
            std::fs::create_dir_all(dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
            // What else runs here should not decide: where the file is, a high share.
            for (file, share) in [("cpu.shares", "100000"), ("cpu.weight", "10000")] {
                let file = dir.join(file);
                if file.exists() {
                    std::fs::write(file, share)?;
                }
            }
        }
        Ok(Self { name, dirs, usage, guard })
    }

    /// The cgroup's path below each root, to be given to runtimes as the parent of theirs: what they move elsewhere
    /// would not be counted.
    pub(crate) fn parent(&self) -> String {
        format!("/{}", self.name)
    }

    /// Starts a command inside. This process is inside for that moment.
    pub(crate) fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.step(|(inside, _)| inside)?;
        let child = command.spawn();
        self.step(|(_, outside)| outside)?;
        child.map_err(|e| format!("cannot run {}: {e}", shown(command)).into())
    }

    /// CPU time used inside until now, by children that ended too.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(match &self.usage {
            Usage::V1(file) => Duration::from_nanos(std::fs::read_to_string(file)?.trim().parse()?),
            Usage::V2(file) => {
                let text = std::fs::read_to_string(file)?;
                let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                Duration::from_micros(usage.ok_or("cpu.stat has no usage_usec")?.trim().parse()?)
            }
        })
    }

    /// Puts this process beside what is measured, where that has a hierarchy of its own to be weighed in: it competes with
    /// the rest of the machine as those do that it asks, and is not counted. It leaves when this is dropped.
    pub(crate) fn beside(&self) -> Result<Beside> {
        let weighed = self.dirs.get(1).cloned();
        if let Some((inside, _)) = &weighed {
            std::fs::write(inside.join("cgroup.procs"), std::process::id().to_string())?;
        }
        Ok(Beside(weighed.map(|(_, outside)| outside)))
    }

    /// The processes inside, without those in cgroups below.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let (dir, _) = self.dirs.first().ok_or("the meter has no cgroup")?;
        let text = std::fs::read_to_string(dir.join("cgroup.procs"))?;
        Ok(text.lines().map(str::parse).collect::<std::result::Result<_, _>>()?)
    }

    /// A new folder on a disk (below /var/tmp), which goes with what is held, and whatever ends this process.
    pub(crate) fn folder(&self) -> Result<tempfile::TempDir> {
        // Short: sockets lie below it, and their paths may have 107 bytes.
        let made = tempfile::Builder::new().prefix("").rand_bytes(4).tempdir_in(self.guard.folder());
        Ok(made.map_err(|e| format!("cannot create a folder in {}: {e}", self.guard.folder().display()))?)
    }

    /// Has a folder elsewhere go as well, whatever ends this process.
    pub(crate) fn takes(&self, folder: &Path) -> Result<()> {
        self.guard.takes(folder)
    }

    /// The cgroups below, in every hierarchy.
    pub(crate) fn below(&self) -> Vec<PathBuf> {
        let entries = roots().into_iter().flat_map(|root| std::fs::read_dir(root.join(&self.name)));
        entries.flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
    }

    /// Watches the memory of what is inside until the watch is stopped.
    pub(crate) fn watch(&self) -> MemoryWatch {
        let (stop, together) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let single = Arc::new(AtomicU64::new(0));
        let dir = self.dirs.first().map(|(dir, _)| dir.clone()).unwrap_or_default();
        let (stopped, sum, most) = (Arc::clone(&stop), Arc::clone(&together), Arc::clone(&single));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let (now, highest) = resident(&dir);
                sum.fetch_max(now, Ordering::Relaxed);
                most.fetch_max(highest, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        MemoryWatch { stop, together, single, thread }
    }

    fn step(&self, which: impl Fn(&(PathBuf, PathBuf)) -> &PathBuf) -> Result<()> {
        for dirs in &self.dirs {
            let procs = which(dirs).join("cgroup.procs");
            std::fs::write(&procs, std::process::id().to_string())
                .map_err(|e| format!("cannot write {}: {e}", procs.display()))?;
        }
        Ok(())
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.guard.end();
        // Where somebody has ended the guard.
        roots().into_iter().for_each(|root| remove(&root.join(&self.name)));
    }
}

/// Where hierarchies are mounted.
fn roots() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let roots = table.lines().filter(|line| line.contains(" - cgroup"));
    roots.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// See [`Meter::beside`].
pub(crate) struct Beside(Option<PathBuf>);

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(outside) = &self.0 {
            let _ = std::fs::write(outside.join("cgroup.procs"), std::process::id().to_string());
        }
    }
}

fn remove(dir: &Path) {
    // The kernel needs a moment after the last process; a contest has ended its own.
    for _ in 0..50 {
        let below = std::fs::read_dir(dir).into_iter().flatten().flatten();
        below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove(&entry.path()));
        match std::fs::remove_dir(dir) {
            Err(e) if e.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(20));
            }
            _ => break,
        }
    }
}

/// A thread that adds up resident memory every 5 ms.
pub(crate) struct MemoryWatch {
    stop: Arc<AtomicBool>,
    together: Arc<AtomicU64>,
    single: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

/// Memory, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// The most that all processes together had resident at one moment (`VmRSS`, every 5 ms).
    pub(crate) together: u64,
    /// The most that one process ever had resident (`VmHWM`).
    pub(crate) single: u64,
}

impl MemoryWatch {
    /// The most there was.
    pub(crate) fn stop(self) -> Memory {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        let read = |peak: Arc<AtomicU64>| peak.load(Ordering::Relaxed);
        Memory { together: read(self.together), single: read(self.single) }
    }
}

/// What the processes in `dir` and below have resident together, and the most that one of them ever had, in KiB.
fn resident(dir: &Path) -> (u64, u64) {
    let procs = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    let own = procs.lines().map(resident_of);
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.path().is_dir()).map(|entry| resident(&entry.path()));
    own.chain(below).fold((0, 0), |(sum, most), (now, highest)| (sum + now, most.max(highest)))
}

fn resident_of(pid: &str) -> (u64, u64) {
    let command = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    // Those that count do not count, nor do their children as long as they are not yet what they will be.
    let name = command(pid);
    if name.trim_end() == "python3" || name == command("self") {
        return (0, 0);
    }
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let read = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    (read("VmRSS:"), read("VmHWM:"))
}

/// Where the hierarchy with `controller` is mounted; v2's has none of its own.
fn mounted(controller: &str) -> Result<Option<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let found = table.lines().find_map(|line| {
        let (own, rest) = line.split_once(" - ")?;
        let mut rest = rest.split(' ');
        let (kind, _, options) = (rest.next()?, rest.next()?, rest.next()?);
        let fits = if controller.is_empty() {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && options.split(',').any(|option| option == controller)
        };
        fits.then(|| PathBuf::from(own.split(' ').nth(4).unwrap_or_default()))
    });
    Ok(found)
}
