use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::program::read;
use crate::{Error, Result};

/// What an instance's cgroups and table are called, by its run directory (ARCHITECTURE.md).
pub fn instance_name(run: &Path) -> String {
    let hash = run.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("sextant-{:08x}", hash as u32 ^ (hash >> 32) as u32)
}

/// Which of the machine's effects to watch. Without more, it watches what everybody shares: mounts, links, named
/// network namespaces, loop devices, nftables' tables.
#[derive(Debug, Clone, Default)]
pub struct Machine {
    dirs: Vec<PathBuf>,
    cgroups: Vec<String>,
    markers: Vec<String>,
    only: Option<String>,
}

impl Machine {
    /// The whole machine, without files, cgroups and processes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches every file below `dir` as well.
    #[must_use]
    pub fn files_under(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dirs.push(dir.into());
        self
    }

    /// Watches the cgroups, in every hierarchy, below those whose name starts with `name`.
    #[must_use]
    pub fn cgroups_named(mut self, name: impl Into<String>) -> Self {
        self.cgroups.push(name.into());
        self
    }

    /// Watches processes that have `marker` in their environment or command line (but not this one).
    #[must_use]
    pub fn processes_marked(mut self, marker: impl Into<String>) -> Self {
        self.markers.push(marker.into());
        self
    }

    /// Of mounts, links, namespaces, loop devices and tables only those that have `word` in them: for a machine on
    /// which others are at work.
    #[must_use]
    pub fn only(mut self, word: impl Into<String>) -> Self {
        self.only = Some(word.into());
        self
    }

    /// What there is now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let mut items = BTreeSet::new();
        items.extend(mounts()?);
        items.extend(links()?);
        items.extend(named_netns()?);
        items.extend(loop_devices()?);
        items.extend(nft_tables()?);
        if let Some(word) = &self.only {
            items.retain(|item| item.contains(word));
        }
        for name in &self.cgroups {
            items.extend(cgroups(name)?);
        }
        for marker in &self.markers {
            items.extend(processes(marker)?);
        }
        for dir in &self.dirs {
            files(dir, &mut items)?;
        }
        Ok(Snapshot { items })
    }

    /// Waits until the machine is as it was: some of the kernel's work (a namespace's end, a cgroup's) comes later.
    /// What is then still different is an error that starts with `what`.
    pub fn settle(&self, before: &Snapshot, limit: Duration, what: &str) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let diff = before.diff(&self.snapshot()?);
            if diff.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::Leak { what: what.to_owned(), diff });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What there was at one moment, one line each: "mount /x", "link br0", ...
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    items: BTreeSet<String>,
}

impl Snapshot {
    /// What `after` has more and less.
    pub fn diff(&self, after: &Self) -> Diff {
        Diff {
            new: after.items.difference(&self.items).cloned().collect(),
            gone: self.items.difference(&after.items).cloned().collect(),
        }
    }

    /// The lines, sorted. Of kinds that others on the machine have too (mounts, namespaces, loop devices) only those that
    /// name `place`, a directory of the test's own.
    pub fn items_of(&self, place: &str) -> BTreeSet<String> {
        let shared = |item: &str| ["mount ", "netns ", "loop "].iter().any(|kind| item.starts_with(kind));
        self.items().filter(|item| !shared(item) || item.contains(place)).map(str::to_owned).collect()
    }

    /// The lines, sorted.
    pub fn items(&self) -> impl Iterator<Item = &str> {
        self.items.iter().map(String::as_str)
    }
}

/// The difference between two moments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// There now, not before: a leak.
    pub new: Vec<String>,
    /// There before, not now: somebody else's thing was taken away.
    pub gone: Vec<String>,
}

impl Diff {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.gone.is_empty()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        let new = self.new.iter().map(|item| format!("left over: {item}"));
        let gone = self.gone.iter().map(|item| format!("missing: {item}"));
        f.write_str(&new.chain(gone).collect::<Vec<_>>().join("; "))
    }
}

fn mounts() -> Result<Vec<String>> {
    let table = read(Path::new("/proc/self/mountinfo"))?;
    let mut all = Vec::new();
    for line in table.lines() {
        let (own, rest) = line.split_once(" - ").unwrap_or((line, ""));
        let point = own.split(' ').nth(4).unwrap_or_default();
        all.push(format!("mount {point} ({})", rest.split(' ').next().unwrap_or_default()));
    }
    // Two mounts on one point are two lines.
    let counted = all.iter().enumerate().map(|(at, item)| {
        let earlier = all.iter().take(at).filter(|other| *other == item).count();
        if earlier == 0 { item.clone() } else { format!("{item} again, {earlier}") }
    });
    Ok(counted.collect())
}

fn links() -> Result<Vec<String>> {
    use kernel::netlink::{Protocol, Socket};
    let links = kernel::netlink::links(&mut Socket::open(Protocol::Route)?)?;
    Ok(links.into_iter().map(|link| format!("link {}", link.name)).collect())
}

fn named_netns() -> Result<Vec<String>> {
    names(Path::new("/run/netns"))
        .map(|names| names.into_iter().map(|name| format!("netns {name}")).collect())
}

fn loop_devices() -> Result<Vec<String>> {
    let mut all = Vec::new();
    for name in names(Path::new("/sys/block"))? {
        let backing = Path::new("/sys/block").join(&name).join("loop/backing_file");
        if let Ok(file) = fs::read_to_string(backing) {
            all.push(format!("loop device {name} on {}", file.trim_end()));
        }
    }
    Ok(all)
}

fn nft_tables() -> Result<Vec<String>> {
    // Without the program there is nobody who could have made a table but us, on a bare machine.
    let Ok(nft) = crate::program::find("nft") else { return Ok(Vec::new()) };
    let list = crate::program::run(std::process::Command::new(nft).args(["list", "tables"]))?;
    Ok(list.lines().map(|line| format!("nft {line}")).collect())
}

fn cgroups(name: &str) -> Result<Vec<String>> {
    let table = read(Path::new("/proc/self/mountinfo"))?;
    let roots = table.lines().filter_map(|line| {
        let (own, rest) = line.split_once(" - ")?;
        rest.starts_with("cgroup").then(|| PathBuf::from(own.split(' ').nth(4).unwrap_or_default()))
    });
    let mut all = Vec::new();
    for root in roots {
        for top in names(&root)? {
            if top.starts_with(name) && root.join(&top).is_dir() {
                cgroups_below(&root.join(top), &mut all)?;
            }
        }
    }
    Ok(all)
}

fn cgroups_below(dir: &Path, all: &mut Vec<String>) -> Result<()> {
    all.push(format!("cgroup {}", dir.display()));
    for name in names(dir)? {
        if dir.join(&name).is_dir() {
            cgroups_below(&dir.join(name), all)?;
        }
    }
    Ok(())
}

fn processes(marker: &str) -> Result<Vec<String>> {
    let own = std::process::id().to_string();
    let mut all = Vec::new();
    for pid in names(Path::new("/proc"))? {
        if pid == own || !pid.chars().all(|c| c.is_ascii_digit()) {
            continue;
        }
        let dir = Path::new("/proc").join(&pid);
        let has = |name: &str| {
            let text = fs::read(dir.join(name)).unwrap_or_default();
            text.windows(marker.len().max(1)).any(|window| window == marker.as_bytes())
        };
        if has("cmdline") || has("environ") {
            let comm = fs::read_to_string(dir.join("comm")).unwrap_or_default();
            all.push(format!("process {pid} ({})", comm.trim_end()));
        }
    }
    Ok(all)
}

fn files(dir: &Path, items: &mut BTreeSet<String>) -> Result<()> {
    for name in names(dir)? {
        let path = dir.join(name);
        items.insert(format!("file {}", path.display()));
        if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            files(&path, items)?;
        }
    }
    Ok(())
}

/// A directory's entries; one that is not there (any more) has none.
fn names(dir: &Path) -> Result<Vec<String>> {
    let gone = |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(Error::access("list", dir, e)),
    };
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_seen_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let machine = Machine::new().files_under(dir.path()).only("sextant-nobody");
        let before = machine.snapshot().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/b"), "").unwrap();
        let diff = before.diff(&machine.snapshot().unwrap());
        assert_eq!(diff.new.len(), 2);
        assert!(diff.to_string().contains("left over: file "));
        let error = machine.settle(&before, Duration::ZERO, "a test").unwrap_err();
        assert!(error.to_string().starts_with("a test: left over"), "{error}");
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        machine.settle(&before, Duration::ZERO, "a test").unwrap();
    }

    #[test]
    fn links_and_marked_processes_are_seen() {
        let marker = format!("sextant-testkit-{}", std::process::id());
        let machine = Machine::new().processes_marked(&marker);
        let before = machine.snapshot().unwrap();
        assert!(before.items().any(|item| item == "link lo"));
        let mut child = std::process::Command::new("sleep").arg("1000").env("X", &marker).spawn().unwrap();
        let diff = before.diff(&machine.snapshot().unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(diff.new.iter().any(|item| item.ends_with("(sleep)")), "{diff}");
    }
}
