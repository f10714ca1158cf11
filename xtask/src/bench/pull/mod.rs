//! `bench pull`: an image of small files from a registry on loopback, by ours, containerd and podman in turn.

mod image;
mod puller;
mod table;

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Bench, Report};
use crate::Result;
use crate::interop::Site;
use crate::packages;
use crate::program::{quiet, target};
use image::{COMPRESSIONS, Image};
pub(super) use puller::detach_below;
use puller::{Cost, Puller};
use table::{Outcome, Variant};

/// Where stores are made. They are removed at the end, all at once: ext4 would make whoever comes after a removal pay.
struct Yard {
    dir: PathBuf,
    /// For sockets, whose paths must be short.
    run: tempfile::TempDir,
    count: Cell<u32>,
}

impl Yard {
    fn new(on: &Path) -> Result<Self> {
        let dir = on.join(format!("sextant-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
        let run = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/tmp")?;
        Ok(Self { dir, run, count: Cell::new(0) })
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
        quiet(skopeo.args(["copy", "--quiet", "--dest-tls-verify=false", &image.layout(compression), &to]))?;
    }
    let yard = Yard::new(bench.on.as_deref().unwrap_or(&cache))?;
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
            }
        }
    }
    let variants = COMPRESSIONS.iter().zip(costs);
    let variants = variants.map(|((name, _), costs)| Variant::of(name, &costs)).collect::<Result<_>>()?;
    Report::of(&Outcome::new(&image, &yard.dir, bench.rounds(), variants))
}

fn reference(compression: &str) -> String {
    format!("small-files:{compression}")
}
