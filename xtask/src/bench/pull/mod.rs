//! `bench pull`: an image of small files from a registry on loopback, by ours, containerd and podman in turn.

mod image;
mod memory;
mod puller;
mod table;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::{Disk, Kind, detach_below};
use super::{Bench, Report};
use crate::Result;
use crate::interop::Site;
use crate::packages;
use crate::program::{quiet, target};
use image::{COMPRESSIONS, Image};
use puller::{Cost, Puller};
use table::{Outcome, Variant};

/// What a round of all sides and compressions stores, with room to spare.
const ROUND: u64 = 8 << 30;

/// Where stores are made. On a disk they are removed at the end, all at once: ext4 would make whoever comes after a removal pay.
struct Yard {
    dir: PathBuf,
    /// For sockets, whose paths must be short.
    run: tempfile::TempDir,
    count: Cell<u32>,
    /// In memory: to keep what is done would take a lot of it, and removing costs nobody later.
    volatile: bool,
    /// Its own filesystem, if it has one.
    disk: Option<Disk>,
}

/// linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;

impl Yard {
    fn new(on: Option<&Path>, cache: &Path, rounds: u32) -> Result<Self> {
        let disk = if on.is_none() {
            Some(Disk::new(cache, Kind::Ext4, ROUND * (u64::from(rounds) + 1))?)
        } else {
            None
        };
        let place = disk.as_ref().map(Disk::place).or(on).unwrap_or(cache);
        let dir = place.join(format!("sextant-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let run = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/tmp")?;
        let volatile = rustix::fs::statfs(&dir)?.f_type as u64 == TMPFS_MAGIC;
        Ok(Self { dir, run, count: Cell::new(0), volatile, disk })
    }

    /// The latest directory's store is no longer needed.
    fn done(&self) -> Result<()> {
        if self.volatile {
            let dir = self.dir.join(self.count.get().to_string());
            detach_below(&dir);
            fs::remove_dir_all(dir)?;
        }
        Ok(())
    }

    /// A directory nobody has used.
    fn fresh(&self) -> Result<PathBuf> {
        self.count.set(self.count.get() + 1);
        let dir = self.dir.join(self.count.get().to_string());
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// A short path that belongs to the latest of these directories.
    fn short(&self) -> PathBuf {
        self.run.path().join(self.count.get().to_string())
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        detach_below(&self.dir);
        detach_below(self.run.path());
        if self.disk.is_some() {
            // It goes as a whole.
            return;
        }
        if let Err(e) = fs::remove_dir_all(&self.dir) {
            eprintln!("warning: cannot remove {}: {e}", self.dir.display());
        }
    }
}

/// Wall, CPU time and memory of a pull, against containerd's.
pub(super) fn pull(bench: &Bench) -> Result<Report> {
    packages::install(packages::NEEDED)?;
    let cache = target().join("bench");
    let image = Image::cached(&cache)?;
    let site = Site::new()?;
    for (compression, _) in COMPRESSIONS {
        let to = format!("docker://{}", site.reference(&reference(compression)));
        let mut skopeo = Command::new("skopeo");
        // Or it takes the other compression's layers instead, which it remembers to be the same.
        skopeo.args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"]);
        quiet(skopeo.args([&image.layout(compression), &to]))?;
    }
    let yard = Yard::new(bench.on.as_deref(), &cache, bench.rounds())?;
    let mut costs = COMPRESSIONS.map(|_| Puller::ALL.map(|_| Vec::<Cost>::new()));
    for round in 0..bench.rounds() as usize {
        for ((compression, _), costs) in COMPRESSIONS.iter().zip(&mut costs) {
            // Each is once the first, the second, the third.
            for turn in 0..Puller::ALL.len() {
                let which = (turn + round) % Puller::ALL.len();
                let (Some(puller), Some(costs)) = (Puller::ALL.get(which), costs.get_mut(which)) else {
                    continue;
                };
                let name = puller.name()?;
                let cost = puller.pull(&yard, &site.reference(&reference(compression)));
                let cost = cost.map_err(|e| format!("{name}, {compression}: {e}"))?;
                eprintln!("{compression}, round {round}, {name}: {:.2} s, cpu {:.2} s", cost.wall, cost.cpu);
                costs.push(cost);
                yard.done()?;
            }
        }
    }
    let variants = COMPRESSIONS.iter().zip(costs);
    let variants = variants.map(|((name, _), costs)| Variant::of(name, &costs)).collect::<Result<_>>()?;
    let on = match &yard.disk {
        Some(_) => "a new ext4, on a loop device".to_owned(),
        None => yard.dir.display().to_string(),
    };
    Report::of(&Outcome::new(&image, on, bench.rounds(), variants))
}

fn reference(compression: &str) -> String {
    format!("small-files:{compression}")
}
