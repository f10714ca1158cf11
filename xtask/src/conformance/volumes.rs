//! csi-sanity, against `sextant csi-driver` with each of its backends.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Conformance;
use crate::Result;
use crate::bench::disk::{Disk, Kind};
use crate::packages;
use crate::program::target;

/// A way of having volumes that the suite is run against.
struct Way {
    name: &'static str,
    parameters: &'static str,
    block: bool,
    /// What its pool has to be on.
    on: Option<Kind>,
}

/// Bytes of such a file system: for the largest volumes of the suite.
const ROOM: u64 = 24 << 30;

const WAYS: &[Way] = &[
    Way { name: "btrfs", parameters: "backend: btrfs", block: false, on: Some(Kind::Btrfs) },
    Way { name: "dir", parameters: "backend: dir", block: false, on: None },
    Way {
        name: "image-ext4",
        parameters: "{backend: image, csi.storage.k8s.io/fstype: ext4}",
        block: false,
        on: None,
    },
    Way {
        name: "image-xfs",
        parameters: "{backend: image, csi.storage.k8s.io/fstype: xfs}",
        block: false,
        on: None,
    },
    Way { name: "image-block", parameters: "backend: image", block: true, on: None },
];

/// Has the suite's own script run the specs against each way, and leaves `results.txt` in `out`.
pub(super) fn run(args: &Conformance, sextant: &Path, out: &Path) -> Result<()> {
    packages::install(&["btrfs-progs", "e2fsprogs", "xfsprogs"])?;
    let is_meant = |way: &&Way| args.items.is_empty() || args.items.iter().any(|item| item == way.name);
    let mut results = String::new();
    for way in WAYS.iter().filter(is_meant) {
        let place = tempfile::Builder::new().prefix("sextant-csi-").tempdir()?;
        let disk = way.on.map(|kind| Disk::new(&target(), kind, ROOM)).transpose()?;
        let pool = disk.as_ref().map_or(place.path(), Disk::place).join("pool");
        let driver = Driver::start(sextant, place.path(), &pool)?;
        let raw = std::path::absolute(out)?.join(way.name);
        let caps = place.path().join("caps");
        std::fs::write(&caps, format!("MUTABLE='protected: \"false\"'\nPARAMS='{}'\n", way.parameters))?;
        let mut suite = Command::new(std::path::absolute(&args.suite)?.join("csi/sanity"));
        suite.arg(&driver.socket).arg(&raw).arg("--caps").arg(&caps);
        if way.block {
            suite.arg("--block");
        }
        // It fails where a spec does; that is for the comparison to say.
        let said = suite.stderr(Stdio::inherit()).output()?.stdout;
        println!("{}: {}", way.name, String::from_utf8_lossy(&said).trim());
        results.push_str(&self::results(way.name, &raw)?);
    }
    Ok(std::fs::write(out.join("results.txt"), results)?)
}

/// What the suite's script found of a way, as the book has it.
pub(super) fn results(way: &str, raw: &Path) -> Result<String> {
    let mut results = String::new();
    for line in std::fs::read_to_string(raw.join("results.txt"))?.lines() {
        let Some((outcome, name)) = ["not ok", "ok", "skip", "pending"]
            .iter()
            .find_map(|word| line.strip_prefix(word).map(|name| (*word, name.trim())))
        else {
            continue;
        };
        let (name, why) = name.split_once("  # ").unwrap_or((name, ""));
        let outcome = if outcome == "pending" { "skip" } else { outcome };
        let why = if why.is_empty() { String::new() } else { format!(" -- {why}") };
        writeln!(results, "{way}: {name} {outcome}{why}")?;
    }
    Ok(results)
}

/// A driver; told to end when it is dropped, as it has devices and mounts to let go of.
struct Driver {
    child: Child,
    socket: PathBuf,
}

impl Driver {
    fn start(sextant: &Path, place: &Path, pool: &Path) -> Result<Driver> {
        let socket = place.join("csi.sock");
        let mut command = Command::new(sextant);
        command.arg("--run-dir").arg(place.join("run")).arg("csi-driver").arg("--socket").arg(&socket);
        command.arg("--pool").arg(format!("pool={}", pool.display())).args(["--node-id", "node-1"]);
        // One that does not come up ends, too.
        let mut driver = Driver { child: command.stdin(Stdio::null()).spawn()?, socket };
        let until = Instant::now() + Duration::from_secs(30);
        while !driver.socket.exists() {
            if driver.child.try_wait()?.is_some() || Instant::now() > until {
                return Err("sextant csi-driver does not come up".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed())
            && matches!(self.child.try_wait(), Ok(None))
        {
            let _ended = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("sextant csi-driver does not end within 20 s of SIGTERM: it is killed");
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}
