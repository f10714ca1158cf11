//! Thin volumes with data in them, on a pool on a loop device. Where there is no device mapper nothing of it can be had.

mod copies;
mod crypted;
mod pools;
mod volumes;

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd as _;

use kernel::{dm, loopdev};

use super::*;
use crate::plugin::pool::record::FORMAT;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const KINDS: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];

/// A loop device over an empty file, both of which go with it.
struct Disk {
    path: PathBuf,
    open: File,
}

impl Disk {
    /// None where there is no device mapper, which is told; in the guest there must be.
    fn new(bytes: u64) -> Option<Disk> {
        match dm::version() {
            Ok(_) => {}
            Err(e) if std::env::var_os("SEXTANT_NEEDS_DM").is_none() => {
                eprintln!("skipped: {e}");
                return None;
            }
            Err(e) => panic!("{e}"),
        }
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (path, open) = loopdev::attach(&file, "sextant-test-thin", options).unwrap();
        Some(Disk { path, open })
    }
}

/// A pool with a directory for its records.
struct Rig {
    /// Before the disk: it is on that.
    volumes: Volumes,
    folder: tempfile::TempDir,
    disk: Disk,
}

/// A volume that is mounted nowhere but for its descriptor.
struct Mounted(OwnedFd);

impl Mounted {
    /// For programs as well, which do not have this process's descriptors.
    fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    fn available(&self) -> u64 {
        let told = rustix::fs::statvfs(self.root()).unwrap();
        told.f_bavail * told.f_frsize
    }
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
        let snapshot = Snapshot {
            format: FORMAT,
            id: id.into(),
            name: id.into(),
            volume: volume.clone(),
            created: 0,
            group: String::new(),
            held,
        };
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
        assert!((0..2000).any(|_| is_idle()), "{:?}", self.devices());
    }

    fn used(&self) -> u64 {
        self.volumes.pool.health().unwrap().data_used()
    }
}

static NOTHING: BTreeMap<String, String> = BTreeMap::new();

fn how(read_only: bool) -> Mounting<'static> {
    Mounting { read_only, options: &[], secrets: &NOTHING }
}

fn volume(id: &str, kind: Kind, capacity: u64) -> Volume {
    Volume {
        format: FORMAT,
        id: id.into(),
        name: id.into(),
        backend: NAME.into(),
        asked: capacity,
        capacity,
        taken: 0,
        block: kind == Kind::Block,
        fs_type: kind.name().into(),
        parameters: BTreeMap::new(),
        mutable: BTreeMap::new(),
        source: None,
        created: 0,
        ephemeral: false,
    }
}

/// Bytes that are the same nowhere else.
fn pattern(seed: u64, length: u64) -> Vec<u8> {
    (0..length / 8)
        .flat_map(|n| (n + (seed << 32) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}
