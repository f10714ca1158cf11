//! The least that a volume in a subvolume asks for: what the kernel does, and the commit that makes it durable.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use kernel::{btrfs, extents, mount};

use super::floor::{RECORD, timed};
use super::load::{DATA, SIZE};
use super::table::Rounds;
use crate::Result;

const SUBVOLUME: &CStr = c"data";

/// A volume in a subvolume, on a file system that counts.
pub(super) fn one(dir: &Path, rounds: &mut Rounds) -> Result<()> {
    let (stage, target) = (dir.join("stage"), dir.join("target"));
    let root = File::open(dir)?;
    let (volume, own) = timed(rounds, "CreateVolume", || {
        let volume = place(dir, "volume")?;
        btrfs::create(File::open(&volume)?, SUBVOLUME)?;
        let own = File::open(volume.join("data"))?;
        btrfs::limit(&root, btrfs::id(&own)?, SIZE + (SIZE >> 4))?;
        btrfs::commit(&root)?;
        Ok((volume, own))
    })?;
    timed(rounds, "NodeStageVolume", || {
        Ok(mount::attach(mount::clone_tree(&own, c"", false)?, File::open(&stage)?)?)
    })?;
    timed(rounds, "NodePublishVolume", || {
        Ok(mount::attach(mount::clone_tree(File::open(&stage)?, c"", false)?, File::open(&target)?)?)
    })?;
    let mut data = File::create(target.join("data"))?;
    data.write_all(&vec![7; DATA])?;
    data.sync_all()?;
    drop(data);
    timed(rounds, "NodeGetVolumeStats", || Ok(btrfs::group(&btrfs::uuid(&root)?, btrfs::id(&own)?)?))?;
    // A snapshot is a commit of its own, with what was made before it; a copy's limit, which ours gets as well, is not asked for.
    let copy = |name, from: &File, read_only| {
        let to = place(dir, name)?;
        btrfs::snapshot(File::open(&to)?, SUBVOLUME, from, read_only)?;
        Ok(to)
    };
    let cut = timed(rounds, "CreateSnapshot", || copy("cut", &own, true))?;
    timed(rounds, "NodeUnpublishVolume", || Ok(mount::detach(&target)?))?;
    timed(rounds, "NodeUnstageVolume", || Ok(mount::detach(&stage)?))?;
    let clone = timed(rounds, "CreateVolume, of a volume", || copy("clone", &own, false))?;
    remove(&root, &clone)?;
    let from = File::open(cut.join("data"))?;
    let clone = timed(rounds, "CreateVolume, of a snapshot", || copy("clone", &from, false))?;
    remove(&root, &clone)?;
    drop((own, from));
    timed(rounds, "DeleteSnapshot", || remove(&root, &cut))?;
    timed(rounds, "DeleteVolume", || remove(&root, &volume))
}

/// A directory with what is remembered.
fn place(dir: &Path, name: &str) -> Result<PathBuf> {
    let place = dir.join(name);
    fs::create_dir(&place)?;
    let mut file = File::create(place.join("record"))?;
    file.write_all(&[b'x'; RECORD])?;
    // It is in the trees then, and comes to the disk with the commit, as its name does.
    extents::places(&file, 0)?;
    Ok(place)
}

fn remove(root: &File, place: &Path) -> Result<()> {
    let id = btrfs::id(File::open(place.join("data"))?)?;
    btrfs::destroy(root, id)?;
    fs::remove_file(place.join("record"))?;
    fs::remove_dir(place)?;
    Ok(btrfs::commit(root)?)
}
