//! A power cut on btrfs between a name and the commit that makes it durable: what is on the disk then is mounted, and a pool is
//! opened there.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grpc::{Code, Failure};
use kernel::{loopdev, mount};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::json;

use super::super::record::{From, Volume};
use super::super::{Pool, VOLUMES};
use crate::plugin::backend::btrfs::Subvolumes;

#[path = "../../../../tests/btrfs/disk.rs"]
mod disk;

/// Somebody who syncs all of the machine may come between.
const TRIES: usize = 20;

/// The power goes: what the disk holds now is kept. Whatever is synced by anybody makes all durable that btrfs has in its log.
fn cut(folder: &Path) {
    let mut other = File::create(folder.join("disk/other")).unwrap();
    other.write_all(b"synced").unwrap();
    other.sync_all().unwrap();
    fs::copy(folder.join("disk0.img"), folder.join("cut.img")).unwrap();
}

/// What was kept, mounted until this is dropped.
struct Found(PathBuf);

impl Found {
    /// The disk is mounted no more: there would be two of one file system.
    fn of(folder: &Path) -> Found {
        let place = folder.join("found");
        fs::create_dir(&place).unwrap();
        let backing = File::options().read(true).write(true).open(folder.join("cut.img")).unwrap();
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (device, _held) = loopdev::attach(&backing, "sextant-test-cut", options).unwrap();
        let source = CString::new(device.as_os_str().as_bytes()).unwrap();
        let mut tries = 100;
        let made = loop {
            match mount::filesystem(c"btrfs", Some(&source), [], 0) {
                // A program that another test starts has the disk's files until it executes.
                Err(_) if tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                made => break made.unwrap(),
            }
        };
        mount::attach(made, File::open(&place).unwrap()).unwrap();
        Found(place)
    }

    /// The next driver finds nothing. False where the log had no name to lose, as somebody's sync(2) came between.
    fn is_without_volumes(&self) -> bool {
        let path = self.0.join("pool");
        let place = path.join(VOLUMES).join("v");
        if !place.exists() || place.join("data").exists() {
            return false;
        }
        let pool = open(&path);
        assert!(pool.volumes().is_empty() && pool.is_readable("v").is_ok());
        for part in [VOLUMES, "incoming", "gone"] {
            assert_eq!(fs::read_dir(path.join(part)).unwrap().count(), 0, "{part}");
        }
        true
    }
}

impl Drop for Found {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn open(path: &Path) -> Pool {
    fs::create_dir_all(path).unwrap();
    Pool::open("a", path, vec![Box::new(Subvolumes::open(path).unwrap())], 1.0).unwrap()
}

fn volume(source: Option<From>) -> Volume {
    let record = json!({"format": 1, "id": "v", "name": "v", "backend": "btrfs", "capacity": 16 << 20, "taken": 17 << 20,
        "block": false, "fsType": "btrfs", "parameters": {}, "mutable": {}, "source": null, "created": 1, "ephemeral": false});
    Volume { source, ..serde_json::from_value(record).unwrap() }
}

/// All that is there before is durable.
fn disk(folder: &Path) -> (disk::Disk, Pool) {
    let disk = disk::Disk::new(folder, 128 << 20);
    let pool = open(&disk.path().join("pool"));
    kernel::btrfs::commit(File::open(disk.path()).unwrap()).unwrap();
    (disk, pool)
}

#[test]
fn a_copy_that_was_not_cut_yet_is_nothing() {
    let once = || {
        let folder = tempfile::tempdir().unwrap();
        let (disk, pool) = disk(folder.path());
        let reserved = pool.reserve(0).unwrap();
        let made = pool.add_volume(reserved, volume(Some(From::Volume("w".into()))), |_, _, _| {
            cut(folder.path());
            Err(Failure::new(Code::Internal, "the power is gone"))
        });
        assert!(made.is_err());
        drop((pool, disk));
        Found::of(folder.path()).is_without_volumes()
    };
    assert!((0..TRIES).any(|_| once()));
}

/// As `add_volume` does it, up to the commit.
#[test]
fn a_new_one_that_has_its_name_before_the_commit_is_nothing() {
    let once = || {
        let folder = tempfile::tempdir().unwrap();
        let (disk, pool) = disk(folder.path());
        let backend = pool.backend("btrfs").unwrap();
        let volume = volume(None);
        let place = pool.begin(&volume.id, &volume, backend.cuts_durably()).unwrap();
        kernel::btrfs::create(File::open(&place).unwrap(), c"data").unwrap();
        backend.sync(&place).unwrap();
        let place = pool.rename(&place, VOLUMES).unwrap();
        cut(folder.path());
        backend.commit(&[&place]).unwrap();
        drop(pool);
        assert_eq!(open(&disk.path().join("pool")).volumes().len(), 1, "with the commit it is there");
        drop(disk);
        Found::of(folder.path()).is_without_volumes()
    };
    assert!((0..TRIES).any(|_| once()));
}
