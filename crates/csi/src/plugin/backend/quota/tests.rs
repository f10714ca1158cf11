//! Volumes on ext4 and xfs with project quotas. Kernels that lack them pass these over, but for what is said then.

#[path = "../../../../tests/driver/disk.rs"]
mod disk;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::process::Command;

use grpc::Code;
use kernel::capability::{Capability, Sets};
use kernel::quota;
use rustix::io::Errno;

use self::disk::Disk;
use super::*;
use crate::plugin::pool::record::Snapshot;

const MIB: u64 = 1 << 20;
const IDS: [u32; 2] = [7000, 7999];

struct Rig {
    disk: Disk,
    quotas: Quotas,
}

/// Has `test` try each kind of file system that there is, larger ones than all volumes of a test.
fn on_each(test: impl Fn(&Rig)) {
    let folder = tempfile::tempdir().unwrap();
    for disk in Disk::with_quotas(folder.path(), 1 << 30) {
        let quotas = Quotas::open(&disk.path, IDS).unwrap();
        test(&Rig { disk, quotas });
    }
}

impl Rig {
    fn place(&self, id: &str) -> PathBuf {
        self.disk.path.join(id)
    }

    fn made(&self, volume: &Volume, source: Option<Source<'_>>) -> PathBuf {
        let place = self.place(&volume.id);
        fs::create_dir(&place).unwrap();
        self.quotas.create(&place, volume, source).unwrap();
        self.quotas.sync(&place).unwrap();
        place
    }

    fn project(&self, id: &str) -> u32 {
        self.quotas.projects.of(&self.place(id)).unwrap().unwrap()
    }

    fn quota(&self, id: &str) -> Quota {
        self.quotas.projects.quota(self.project(id)).unwrap()
    }

    fn free(&self) -> u64 {
        Space::of(&self.disk.path).unwrap().free
    }
}

fn volume(id: &str, capacity: u64) -> Volume {
    Volume::of_test(NAME, id, capacity)
}

/// Runs `work` as who has root, and not CAP_SYS_RESOURCE, before which ext4's limits do not hold.
fn as_container<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut sets = Sets::current().unwrap();
            sets.effective.remove(Capability::SysResource);
            sets.permitted.remove(Capability::SysResource);
            sets.apply().unwrap();
            work()
        });
        worker.join().unwrap()
    })
}

/// Writes to a new file until it is stopped: how much it got, and why no more.
fn fill(path: &Path) -> (u64, Option<i32>) {
    as_container(|| {
        let file = File::create(path).unwrap();
        let (part, mut at) = (vec![7; MIB as usize / 4], 0);
        let stopped = loop {
            match file.write_at(&part, at) {
                Ok(length) => at += length as u64,
                Err(e) => break e,
            }
        };
        // What was taken is kept: it is no promise of memory alone.
        file.sync_all().unwrap();
        (at, stopped.raw_os_error())
    })
}

#[test]
fn what_cannot_be_had_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, hint) in [("ext4", "tune2fs -O project,quota"), ("xfs", "mount it with `-o prjquota`")] {
        let disk = Disk::without_quotas(folder.path(), kind);
        let refused = Quotas::open(&disk.path, IDS).err().unwrap();
        assert_eq!(refused.code, Code::FailedPrecondition, "{refused}");
        assert!(refused.message.contains("prjquota") && refused.message.contains(hint), "{refused}");
    }
    let refused = Quotas::open(Path::new("/proc"), IDS).err().unwrap();
    assert!(refused.message.contains("neither on ext4 nor on xfs"), "{refused}");
}

#[test]
fn a_writer_gets_the_capacity_and_is_stopped() {
    on_each(|rig| {
        for capacity in [rig.quotas.shape.least(), 64 * MIB] {
            let mut volume = volume(&format!("v{capacity}"), capacity);
            let place = rig.made(&volume, None);
            let usage = |volume: &Volume| rig.quotas.usage(&place, volume, None).unwrap();
            assert!(usage(&volume).used <= 4096 && usage(&volume).total == capacity);
            let (wrote, stopped) = fill(&place.join("data/file"));
            let wanted = if rig.disk.kind == "ext4" { Errno::DQUOT } else { Errno::NOSPC };
            assert_eq!(stopped, Some(wanted.raw_os_error()), "{}", rig.disk.kind);
            let bounds = capacity..=capacity + capacity / 20;
            assert!(bounds.contains(&wrote), "{}: {wrote} of {capacity}", rig.disk.kind);
            println!("{}: {wrote} of {capacity}", rig.disk.kind);
            let allocated = rig.quotas.allocated(&place).unwrap();
            assert!((wrote..=rig.quotas.taken(&wish(), capacity)).contains(&allocated), "{allocated}");
            let full = usage(&volume);
            assert!(full.used == capacity && full.available == 0 && full.inodes_used == 2, "{full:?}");
            // ext4 holds nobody who has CAP_SYS_RESOURCE in the first user namespace: docs/csi.md says so.
            let beyond = fs::write(place.join("data/beyond"), vec![1; 8 * MIB as usize]);
            assert_eq!(beyond.is_ok(), rig.disk.kind == "ext4", "{beyond:?}");
            // A full xfs has not even its name.
            let _not_there = fs::remove_file(place.join("data/beyond"));
            // What sees the directory alone sees the limit, too.
            let told = rustix::fs::statvfs(place.join("data")).unwrap();
            let told = told.f_blocks * told.f_frsize;
            assert!(bounds.contains(&told), "{}: {told} of {capacity}", rig.disk.kind);

            // It grows while it is used.
            let larger = capacity * 2;
            rig.quotas.expand(&place, &volume, larger, None).unwrap();
            volume.capacity = larger;
            let (more, _) = fill(&place.join("data/more"));
            let bounds = larger..=larger + larger / 20;
            assert!(bounds.contains(&(wrote + more)), "{}: {wrote} + {more}", rig.disk.kind);
            assert_eq!(usage(&volume).total, larger);
            // Killed before the record was written: it is as the record says.
            volume.capacity = capacity;
            rig.quotas.recover(&place, &volume, None).unwrap();
            assert_eq!(rig.quota(&volume.id).most_bytes, rig.quotas.shape.limits(capacity).bytes);
            rig.quotas.remove(&place).unwrap();
        }
    });
}

fn wish() -> Wish {
    Wish { block: false, fs_type: String::new(), parameters: BTreeMap::new(), mutable: BTreeMap::new() }
}

#[test]
fn inodes_are_bounded() {
    on_each(|rig| {
        let volume = volume("v", rig.quotas.shape.least());
        let place = rig.made(&volume, None);
        let most = rig.quota("v").most_inodes;
        let (made, stopped) = as_container(|| {
            for number in 0.. {
                if let Err(e) = File::create(place.join(format!("data/{number}"))) {
                    return (number, e.raw_os_error());
                }
            }
            unreachable!()
        });
        let wanted = if rig.disk.kind == "ext4" { Errno::DQUOT } else { Errno::NOSPC };
        assert_eq!((made + 1, stopped), (most, Some(wanted.raw_os_error())), "{}", rig.disk.kind);
        // Somebody lifts them: it is told, and the next start mends it.
        let ailment = || rig.quotas.ailment(&place, &volume, None).unwrap();
        assert_eq!(ailment(), None);
        rig.quotas.projects.free(rig.project("v")).unwrap();
        assert!(ailment().is_some_and(|told| told.contains("lost its limits")), "{:?}", ailment());
        rig.quotas.recover(&place, &volume, None).unwrap();
        assert_eq!((ailment(), rig.quota("v").most_inodes), (None, most));
        rig.quotas.remove(&place).unwrap();
    });
}

#[test]
fn copies_have_projects_of_their_own() {
    on_each(|rig| {
        let origin = volume("v", 64 * MIB);
        let place = rig.made(&origin, None);
        let data = place.join("data");
        fs::create_dir_all(data.join("a/b")).unwrap();
        let text: Vec<u8> = (0..20 * MIB / 8).flat_map(|n| n.to_le_bytes()).collect();
        fs::write(data.join("a/b/file"), &text).unwrap();
        fs::hard_link(data.join("a/b/file"), data.join("linked")).unwrap();
        symlink("a/b/file", data.join("link")).unwrap();
        File::open(&data).and_then(|root| Ok(rustix::fs::syncfs(root)?)).unwrap();
        let (before, free) = (rig.quota("v"), rig.free());
        let cut = rig.place("s");
        fs::create_dir(&cut).unwrap();
        rig.quotas.snapshot(&[Cut { volume: &origin, from: &place, root: None, to: &cut }]).unwrap();
        let shares = free - rig.free() < MIB;
        assert_eq!(shares, rig.disk.kind == "xfs", "{}", rig.disk.kind);
        // What the volume has is what it had, and the snapshot's is as much.
        assert_eq!(rig.quota("v"), before);
        let has = rig.quota("s");
        assert!(has.bytes >= text.len() as u64 && has.inodes == before.inodes, "{has:?} {before:?}");
        let space = rig.quotas.space(&rig.disk.path).unwrap();
        assert!(space.size - space.free >= 2 * before.bytes, "{}: {space:?}", rig.disk.kind);
        fs::write(data.join("a/b/file"), "later").unwrap();

        let clone = volume("c", 96 * MIB);
        let restored = rig.made(&clone, Some(Source::Snapshot(&Snapshot::of_test("s", &origin), &cut)));
        assert!(fs::read(restored.join("data/linked")).unwrap() == text, "{}", rig.disk.kind);
        assert_eq!(fs::metadata(restored.join("data/linked")).unwrap().nlink(), 2);
        let projects: Vec<u32> = ["v", "s", "c"].map(|id| rig.project(id)).into();
        for (at, project) in projects.iter().enumerate() {
            assert!((IDS[0]..=IDS[1]).contains(project) && !projects[..at].contains(project));
        }
        for (place, project) in [(&cut, projects[1]), (&restored, projects[2])] {
            for path in ["", "a", "a/b", "a/b/file", "linked"] {
                let file = File::open(place.join("data").join(path)).unwrap();
                assert_eq!(quota::project(file).unwrap(), project, "{} {path:?}", rig.disk.kind);
            }
        }
        assert_eq!(rig.quota("c").most_bytes, rig.quotas.shape.limits(96 * MIB).bytes);
        let (more, _) = fill(&restored.join("data/more"));
        let all = more + text.len() as u64;
        assert!((96 * MIB..=100 * MIB).contains(&all), "{}: {all}", rig.disk.kind);
        for place in [place, cut, restored] {
            rig.quotas.remove(&place).unwrap();
        }
        rig.disk.until_nothing_is_of_projects(&File::open(&rig.disk.path).unwrap(), IDS);
    });
}

/// A full volume can be copied, and the copy is as full.
#[test]
fn what_is_full_is_copied() {
    on_each(|rig| {
        let origin = volume("v", 16 * MIB);
        let place = rig.made(&origin, None);
        for number in 0..64 {
            fs::write(place.join(format!("data/small{number}")), [1; 5000]).unwrap();
        }
        fill(&place.join("data/rest"));
        let copy = volume("c", 16 * MIB);
        let made = rig.made(&copy, Some(Source::Volume(&origin, &place, None)));
        let sizes = ["v", "c"].map(|id| rig.quota(id).bytes);
        assert!(sizes[1].abs_diff(sizes[0]) <= 64 << 10, "{}: {sizes:?}", rig.disk.kind);
        let further = as_container(|| fs::write(made.join("data/further"), vec![1; 8 << 20]).unwrap_err());
        assert!(matches!(further.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded), "{further}");
        rig.quotas.remove(&place).unwrap();
        rig.quotas.remove(&made).unwrap();
    });
}

#[test]
fn a_project_of_somebody_else_is_not_taken() {
    on_each(|rig| {
        let taken = |project| Quotas::open(&rig.disk.path, [project, project + 1]).unwrap();
        // One that has files, and one that has limits alone, beyond what a start sweeps.
        fs::create_dir(rig.place("theirs")).unwrap();
        let theirs = File::open(rig.place("theirs")).unwrap();
        quota::set_project(&theirs, 100, true).unwrap();
        let quotas = taken(100);
        quota::limit(&theirs, 101, MIB, 7).unwrap();
        let place = rig.place("v");
        fs::create_dir(&place).unwrap();
        let refused = quotas.create(&place, &volume("v", 16 * MIB), None).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert!(refused.message.contains("project-ids"), "{refused}");
        // What is half made goes, and takes nobody's limits away: not those of the directory around it either.
        quota::set_project(File::open(&place).unwrap(), 102, true).unwrap();
        quota::limit(&theirs, 102, MIB, 7).unwrap();
        quotas.remove(&place).unwrap();
        for project in [101, 102] {
            assert_eq!(quota::of(&theirs, project).unwrap().most_inodes, 7);
        }
        // At a start limits that nothing is of go, within the pool's own range.
        drop(taken(100));
        let left = [101, 102].map(|project| quota::of(&theirs, project).unwrap().most_inodes);
        assert_eq!(left, [0, 7]);
        fs::create_dir(&place).unwrap();
        let quotas = taken(100);
        quotas.create(&place, &volume("v", 16 * MIB), None).unwrap();
        assert_eq!(quotas.projects.of(&place).unwrap(), Some(101));
        quotas.remove(&place).unwrap();
    });
}

#[test]
fn many_at_once_have_projects_of_their_own() {
    on_each(|rig| {
        // As many as there are, by two that know nothing of each other.
        let other = Quotas::open(&rig.disk.path, [8000, 8015]).unwrap();
        let one = Quotas::open(&rig.disk.path, [8000, 8015]).unwrap();
        std::thread::scope(|scope| {
            for number in 0..16 {
                let quotas = if number % 2 == 0 { &one } else { &other };
                scope.spawn(move || {
                    let place = rig.place(&format!("m{number}"));
                    fs::create_dir(&place).unwrap();
                    let make = || quotas.create(&place, &volume("m", 16 * MIB), None);
                    // The last ones may find all of them looked at by others for a moment.
                    while make().is_err() {
                        fs::remove_dir(place.join("data")).unwrap();
                    }
                });
            }
        });
        let places: Vec<PathBuf> = (0..16).map(|number| rig.place(&format!("m{number}"))).collect();
        let mut projects: Vec<u32> =
            places.iter().map(|place| one.projects.of(place).unwrap().unwrap()).collect();
        projects.sort_unstable();
        assert_eq!(projects, (8000..8016).collect::<Vec<u32>>(), "{}", rig.disk.kind);
        places.iter().for_each(|place| one.remove(place).unwrap());
    });
}

const FOLDER: &str = "SEXTANT_TEST_CSI_FOLDER";

/// The other side of the next test: root of a user namespace, who owns what is there.
#[test]
#[ignore = "started by the other test"]
fn child() {
    let data = PathBuf::from(std::env::var_os(FOLDER).expect("a folder"));
    for (path, is_directory) in [(data.clone(), true), (data.join("file"), false)] {
        let file = File::open(&path).unwrap();
        let refused = quota::set_project(&file, 0, is_directory).unwrap_err();
        assert_eq!(refused.errno(), Some(Errno::INVAL), "{refused}");
    }
}

#[test]
fn in_a_user_namespace_nobody_leaves_the_project() {
    on_each(|rig| {
        let place = rig.made(&volume("v", 16 * MIB), None);
        let data = place.join("data");
        fs::write(data.join("file"), "x").unwrap();
        let test = "plugin::backend::quota::tests::child";
        let status = Command::new("unshare")
            .arg("-r")
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", test])
            .env(FOLDER, &data)
            .status()
            .unwrap();
        assert!(status.success(), "{}", rig.disk.kind);
        // Outside of one its owner may, whoever that is: docs/csi.md says so.
        std::os::unix::fs::chown(data.join("file"), Some(1000), Some(1000)).unwrap();
        let file = File::open(data.join("file")).unwrap();
        let left = kernel::capability::as_user(1000, 1000, || quota::set_project(&file, 0, false)).unwrap();
        assert!(left.is_ok(), "{}: {left:?}", rig.disk.kind);
        rig.quotas.remove(&place).unwrap();
    });
}
