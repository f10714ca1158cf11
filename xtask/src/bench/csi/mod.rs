//! A driver for local volumes: each call of a volume's life, beside the host-path driver of the CSI project where there is one
//! (`--peer`: a folder with `hostpathplugin`), and beside the least that the kernel asks for.
//!
//! Pools are on an xfs of the bench's own, so that files can share blocks, those of subvolumes on a btrfs; the host-path driver's
//! folder is on the xfs. The host-path driver does less than is asked of ours: it waits for no disk, so what it has acknowledged may
//! be gone after a power cut, and its volumes are plain directories without a bound. It is there for who knows it, not as a measure of
//! what can be had. Ours is measured as installed, `sextant-csi`, unless `--program` names another.
//!
//! What is written through a volume is compared with the same kind of file system on a disk like the pool's: an ext4 for images, for
//! subvolumes a btrfs without quotas. So an image answers for its loop device and its pool, and not for what an ext4 takes beside an
//! xfs, in an image or not; the rate of the pool's own file system is told beside it. Two disks that are made alike differ by up to
//! 7 %, so the two with btrfs change places each round: an even number of rounds says most.

mod floor;
mod load;
mod side;
mod subvolumes;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::{Disk, Kind, detach_below};
use super::{Bench, Meter, Report};
use crate::Result;
use crate::dist::{SMALL_DRIVER, lay_out_driver};
use crate::packages;
use crate::program::{cargo, quiet, released, target};
use side::Side;
use table::{Outcome, Rounds};

/// What a round of all sides stores, with room to spare.
const ROOM: u64 = 24 << 30;

pub(super) fn csi(bench: &Bench) -> Result<Report> {
    packages::install(&["btrfs-progs", "e2fsprogs", "xfsprogs"])?;
    let bin = tempfile::Builder::new().prefix("sextant-bench-bin-").tempdir()?;
    let program = match &bench.program {
        Some(program) => program.clone(),
        None => installed(bin.path())?,
    };
    let mut sides = vec![Side::Ours { program: program.clone(), backend: "image" }];
    sides.push(Side::Ours { program: program.clone(), backend: "btrfs" });
    sides.push(Side::Ours { program, backend: "dir" });
    sides.extend(bench.peer.as_ref().map(|folder| Side::HostPath(folder.join("hostpathplugin"))));
    let disk = |kind| Disk::new(&target(), kind, ROOM);
    let btrfs = [disk(Kind::Btrfs)?, disk(Kind::Btrfs)?];
    let disks = Disks { xfs: disk(Kind::Xfs)?, ext4: disk(Kind::Ext4)?, btrfs };
    let meter = Meter::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Report::of(&runtime.block_on(contest(bench, &meter, &sides, &disks))?)
}

/// Ours, as installed.
fn installed(bin: &Path) -> Result<PathBuf> {
    let program = bin.join("sextant");
    std::fs::copy(released()?, &program)?;
    cargo([&["build", "--locked"], SMALL_DRIVER].concat())?;
    lay_out_driver(bin)?;
    Ok(program)
}

/// File systems of the bench's own.
struct Disks {
    xfs: Disk,
    /// What is in images.
    ext4: Disk,
    /// A pool, and one without quotas.
    btrfs: [Disk; 2],
}

impl Disks {
    /// Where pools on btrfs are in a round, and what counts nothing beside it.
    fn btrfs(&self, round: u32) -> (&Path, &Path) {
        let [even, odd] = self.btrfs.each_ref().map(Disk::place);
        if round.is_multiple_of(2) { (even, odd) } else { (odd, even) }
    }
}

async fn contest(bench: &Bench, meter: &Meter, sides: &[Side], disks: &Disks) -> Result<Outcome> {
    let mut all: Vec<Rounds> = sides.iter().map(|side| Rounds::new(side.name())).collect();
    let mut floor = Rounds::new("floor".into());
    let mut of_btrfs = Rounds::new("of btrfs".into());
    for round in 0..bench.rounds() {
        let (pool, bare) = disks.btrfs(round);
        // It was a pool in the round before.
        quiet(Command::new("btrfs").args(["quota", "disable"]).arg(bare))?;
        let mut turns: Vec<_> = sides.iter().zip(&mut all).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        for (side, rounds) in turns {
            let told = |e: Box<dyn std::error::Error>| format!("{}, round {round}: {e}", side.name());
            let (disk, bare) = match side.backend() {
                Some("btrfs") => (pool, bare),
                _ => (disks.xfs.place(), disks.ext4.place()),
            };
            one(side, meter, rounds, disk, bare).await.map_err(told)?;
        }
        let told = |e: Box<dyn std::error::Error>| format!("floor, round {round}: {e}");
        floor::round(disks.xfs.place(), &mut floor, floor::image).map_err(told)?;
        floor::round(pool, &mut of_btrfs, subvolumes::one).map_err(told)?;
    }
    Ok(Outcome::new(bench.rounds(), all, floor, of_btrfs))
}

/// A new driver, and a round of it.
async fn one(side: &Side, meter: &Meter, rounds: &mut Rounds, disk: &Path, bare: &Path) -> Result<()> {
    let place = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in(disk)?;
    let done = round(side, meter, rounds, place.path(), bare).await;
    // What a driver has mounted that failed half-way; it was killed.
    detach_below(place.path());
    done
}

async fn round(side: &Side, meter: &Meter, rounds: &mut Rounds, place: &Path, bare: &Path) -> Result<()> {
    let running = side.start(meter, place).await?;
    let asked = load::Asked { backend: side.backend(), place, bare };
    load::life(&running.driver, &asked, meter, rounds).await?;
    load::callers(&running.driver, &asked, rounds).await?;
    if side.is_written_through() {
        load::throughput(&running.driver, &asked, rounds).await?;
    }
    rounds.memory.push(running.peak()?);
    rounds.program = running.program()?;
    running.end().await
}
