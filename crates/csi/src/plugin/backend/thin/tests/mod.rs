//! Thin volumes with data in them, on a pool on a loop device. Where there is no device mapper nothing of it can be had.

mod copies;
mod crypted;
/// The same as that of the tests from outside.
#[path = "../../../../../tests/thin/disk.rs"]
#[allow(dead_code, reason = "they need more of it")]
mod disk;
mod pools;
mod volumes;

use std::collections::BTreeMap;
use std::fs;

use kernel::dm;

use self::disk::Disk;
use super::*;
use crate::plugin::backend::filesystem::tests::*;

/// A pool with a directory for its records.
struct Rig {
    /// Before the disk: it is on that.
    volumes: Volumes,
    folder: tempfile::TempDir,
    disk: Disk,
}

impl Rig {
    fn new(bytes: u64) -> Option<Rig> {
        let disk = Disk::new(bytes)?;
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("volumes")).unwrap();
        let volumes = Volumes::open(folder.path(), &disk.path).unwrap();
        Some(Rig { volumes, folder, disk })
    }

    /// Another driver in the place of this one.
    fn again(self) -> Rig {
        let Rig { volumes, folder, disk } = self;
        drop(volumes);
        let volumes = Volumes::open(folder.path(), &disk.path).unwrap();
        Rig { volumes, folder, disk }
    }

    fn place(&self, id: &str) -> PathBuf {
        self.folder.path().join("volumes").join(id)
    }

    fn new_place(&self, id: &str) -> PathBuf {
        let place = self.place(id);
        fs::create_dir(&place).unwrap();
        place
    }

    fn made(&self, volume: &Volume, source: Option<Source<'_>>) -> PathBuf {
        let place = self.new_place(&volume.id);
        self.volumes.create(&place, volume, source).unwrap();
        self.volumes.sync(&place).unwrap();
        place
    }

    fn mounted(&self, volume: &Volume) -> Mounted {
        Mounted(self.volumes.mount(&self.place(&volume.id), volume, &how(false)).unwrap())
    }

    /// A place for a snapshot, for which so much is set aside.
    fn place_for(&self, id: &str, volume: &Volume, held: u64) -> (Snapshot, PathBuf) {
        let snapshot = Snapshot { held, ..Snapshot::of_test(id, volume) };
        let place = self.new_place(id);
        record::write(&place, &snapshot).unwrap();
        (snapshot, place)
    }

    fn snapshot(&self, id: &str, volume: &Volume, root: Option<&Path>) -> (Snapshot, PathBuf) {
        let from = self.place(&volume.id);
        let held = self.volumes.allocated(&from).unwrap();
        let (snapshot, to) = self.place_for(id, volume, held);
        self.volumes.snapshot(&[Cut { volume, from: &from, root, to: &to }]).unwrap();
        (snapshot, to)
    }

    /// The devices of the pool's volumes.
    fn devices(&self) -> Vec<String> {
        let mut names = dm::list(&self.volumes.pool.name("")).unwrap();
        names.retain(|name| !["pool", "data", "metadata"].iter().any(|part| name.ends_with(part)));
        names
    }

    /// Waits until no volume has a device.
    fn until_idle(&self) {
        let is_idle = || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            self.devices().is_empty()
        };
        assert!((0..36_000).any(|_| is_idle()), "{:?}", self.devices());
    }

    fn used(&self) -> u64 {
        self.disk.used()
    }
}

fn volume(id: &str, kind: Kind, capacity: u64) -> Volume {
    volume_of(NAME, id, kind, capacity)
}
