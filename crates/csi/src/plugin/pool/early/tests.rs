//! A power cut on btrfs: what is on the disk then is mounted, and a pool is opened there. Between a name and the commit that makes it
//! durable nothing is there; what was acknowledged is.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use grpc::{Code, Failure};
use kernel::{loopdev, mount};
use rustix::mount::{MountFlags, UnmountFlags, mount_remount, unmount};

use super::super::record::{From, Record, Snapshot, Volume, unfinished};
use super::super::{Kept, Pool, SNAPSHOTS, VOLUMES};
use crate::plugin::backend::btrfs::Subvolumes;
use crate::plugin::backend::btrfs::disk::Disk;
use crate::plugin::backend::{Cut, Source};

/// Somebody who syncs all of the machine may come between.
const TRIES: usize = 20;

/// The power goes: what the disk holds now is kept.
fn cut(folder: &Path) {
    fs::copy(folder.join("disk0.img"), folder.join("cut.img")).unwrap();
}

/// Whatever is synced by anybody makes all durable that btrfs has in its log.
fn sync_another(folder: &Path) {
    let mut other = File::create(folder.join("disk/other")).unwrap();
    other.write_all(b"synced").unwrap();
    other.sync_all().unwrap();
}

/// As a backend does that shares the pool.
fn sync_names(folder: &Path) {
    File::open(folder.join("disk/pool").join(VOLUMES)).unwrap().sync_all().unwrap();
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
        let mut tries = 3000;
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

    /// The next driver finds these, whole.
    fn has(&self, volumes: &[&Volume], snapshots: &[&Snapshot]) {
        fn kept<R: Record>(pool: &Path, part: &str, id: &str) {
            let place = pool.join(part).join(id);
            assert!(place.join(R::FILE).exists() && !unfinished::<R>(&place).exists(), "{id}");
            assert!(kernel::btrfs::is_root(File::open(place.join("data")).unwrap()).unwrap(), "{id}");
        }
        let path = self.0.join("pool");
        let pool = open(&path);
        assert_eq!(pool.volumes().iter().map(|kept| &kept.record).collect::<Vec<_>>(), volumes);
        assert_eq!(pool.snapshots().iter().map(|kept| &kept.record).collect::<Vec<_>>(), snapshots);
        volumes.iter().for_each(|volume| kept::<Volume>(&path, VOLUMES, &volume.id));
        snapshots.iter().for_each(|snapshot| kept::<Snapshot>(&path, SNAPSHOTS, &snapshot.id));
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

fn volume(id: &str, source: Option<From>) -> Volume {
    Volume { source, fs_type: "btrfs".into(), ..Volume::of_test("btrfs", id, 16 << 20) }
}

/// Its record has blocks of its own, and is synced by itself.
fn long(volume: Volume) -> Volume {
    Volume { parameters: [("p".to_owned(), "x".repeat(8192))].into(), ..volume }
}

/// All that is there before is durable.
fn disk(folder: &Path) -> (Disk, Pool) {
    let disk = Disk::new(folder, 128 << 20);
    let pool = open(&disk.path().join("pool"));
    kernel::btrfs::commit(File::open(disk.path()).unwrap()).unwrap();
    (disk, pool)
}

/// The power goes before a copy is cut.
fn uncut(volume: &Volume, sync: fn(&Path)) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let (disk, pool) = disk(folder.path());
    let reserved = pool.reserve(0).unwrap();
    let made = pool.add_volume(reserved, volume.clone(), |_, _, _| {
        sync(folder.path());
        cut(folder.path());
        Err(Failure::new(Code::Internal, "the power is gone"))
    });
    assert!(made.is_err());
    drop((pool, disk));
    Found::of(folder.path()).is_without_volumes()
}

#[test]
fn a_copy_that_was_not_cut_yet_is_nothing() {
    let volume = volume("v", Some(From::Volume("w".into())));
    assert!((0..TRIES).any(|_| uncut(&volume, sync_names)));
    assert!((0..TRIES).any(|_| uncut(&long(volume.clone()), sync_another)));
}

/// As `add_volume` does it, up to the commit.
#[test]
fn a_new_one_that_has_its_name_before_the_commit_is_nothing() {
    let once = || {
        let folder = tempfile::tempdir().unwrap();
        let (disk, pool) = disk(folder.path());
        let backend = pool.backend("btrfs").unwrap();
        let volume = long(volume("v", None));
        let place = pool.begin(&volume.id, &volume, backend.cuts_durably()).unwrap();
        kernel::btrfs::create(File::open(&place).unwrap(), c"data").unwrap();
        backend.sync(&place).unwrap();
        let place = pool.rename(&place, VOLUMES).unwrap();
        sync_another(folder.path());
        cut(folder.path());
        backend.commit(&[&place]).unwrap();
        drop(pool);
        assert_eq!(open(&disk.path().join("pool")).volumes().len(), 1, "with the commit it is there");
        drop(disk);
        Found::of(folder.path()).is_without_volumes()
    };
    assert!((0..TRIES).any(|_| once()));
}

/// A new volume, which is acknowledged.
fn new(pool: &Pool, volume: &Volume) -> Arc<Kept<Volume>> {
    let reserved = pool.reserve(0).unwrap();
    pool.add_volume(reserved, volume.clone(), |backend, place, volume| backend.create(place, volume, None))
        .unwrap()
}

/// The power goes as soon as it is: nobody syncs anything afterwards.
#[test]
fn what_was_acknowledged_is_there() {
    let (first, copy) = (volume("v", None), volume("w", Some(From::Volume("v".into()))));
    let snapshot = Snapshot::of_test("s", &first);
    let cut_of = |pool: &Pool| {
        let first = new(pool, &first);
        let reserved = pool.reserve(0).unwrap();
        pool.add_snapshots(reserved, vec![snapshot.clone()], None, |backend, places| {
            let (volume, from, to) = (&first.record, &first.place, &places[0]);
            backend.snapshot(&[Cut { volume, from, root: None, to }])
        })
        .unwrap();
    };
    let copy_of = |pool: &Pool| {
        let first = new(pool, &first);
        let reserved = pool.reserve(0).unwrap();
        pool.add_volume(reserved, copy.clone(), |backend, place, volume| {
            backend.create(place, volume, Some(Source::Volume(&first.record, &first.place, None)))
        })
        .unwrap();
    };
    let after = |act: &dyn Fn(&Pool)| {
        let folder = tempfile::tempdir().unwrap();
        let (disk, pool) = disk(folder.path());
        act(&pool);
        cut(folder.path());
        drop((pool, disk));
        (Found::of(folder.path()), folder)
    };
    after(&|pool| drop(new(pool, &first))).0.has(&[&first], &[]);
    let large = long(first.clone());
    after(&|pool| drop(new(pool, &large))).0.has(&[&large], &[]);
    after(&cut_of).0.has(&[&first], &[&snapshot]);
    after(&copy_of).0.has(&[&first, &copy], &[]);
    let gone = |pool: &Pool| {
        copy_of(pool);
        pool.remove_volume("v").unwrap();
    };
    after(&gone).0.has(&[&copy], &[]);
}

/// What decides where a small file's bytes are.
#[test]
fn what_was_acknowledged_is_there_however_the_file_system_keeps_it() {
    let first = volume("v", None);
    for options in [c"max_inline=0", c"compress-force=zlib", c"nodatacow"] {
        let folder = tempfile::tempdir().unwrap();
        let (disk, pool) = disk(folder.path());
        mount_remount(disk.path(), MountFlags::empty(), options).unwrap();
        new(&pool, &first);
        cut(folder.path());
        drop((pool, disk));
        Found::of(folder.path()).has(&[&first], &[]);
    }
}
