//! Images with data in them, on pools that share blocks and on one that does not.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;

use super::*;
use crate::plugin::pool::record::{FORMAT, Snapshot};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const KINDS: [Kind; 3] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs];

/// A directory for places, on this machine's file system or in an image of its own.
struct Rig {
    path: PathBuf,
    images: Images,
    _mount: Option<OwnedFd>,
    _folder: tempfile::TempDir,
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
    /// A pool on the file system of temporary files.
    fn here() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open(folder.path()).unwrap();
        Rig { path: folder.path().to_owned(), images, _mount: None, _folder: folder }
    }

    /// A pool on a file system of this kind.
    fn on(kind: Kind) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        // Its devices are known by this name, and other tests have pools at the same time.
        let own = folder.path().file_name().unwrap().to_string_lossy().replace('.', "pool-");
        let place = folder.path().join(own);
        fs::create_dir(&place).unwrap();
        let volume = volume("pool", kind, 2 * GIB);
        let images = Images { copies: Copies::Whole, default: Kind::Ext4 };
        images.create(&place, &volume, None).unwrap();
        let mount = Mounted(images.mount(&place, &volume, &how(false)).unwrap());
        let path = mount.root();
        let images = Images::open(&path).unwrap();
        Rig { path, images, _mount: Some(mount.0), _folder: folder }
    }

    fn place(&self, id: &str) -> PathBuf {
        // Tests run beside each other, and devices are the machine's.
        let inode = fs::metadata(&self.path).unwrap().ino();
        let pool = self._folder.path().file_name().unwrap().to_string_lossy().replace('.', "");
        self.path.join(format!("{id}-{pool}-{inode}"))
    }

    fn new_place(&self, id: &str) -> PathBuf {
        let place = self.place(id);
        fs::create_dir(&place).unwrap();
        place
    }

    fn made(&self, volume: &Volume, source: Option<Source<'_>>) -> PathBuf {
        let place = self.new_place(&volume.id);
        self.images.create(&place, volume, source).unwrap();
        self.images.sync(&place).unwrap();
        place
    }

    fn mounted(&self, volume: &Volume) -> Mounted {
        Mounted(self.images.mount(&self.place(&volume.id), volume, &how(false)).unwrap())
    }

    fn snapshot(&self, id: &str, volume: &Volume, root: Option<&Path>) -> (Snapshot, PathBuf) {
        let to = self.new_place(id);
        let from = self.place(&volume.id);
        self.images.snapshot(&[Cut { volume, from: &from, root, to: &to }]).unwrap();
        (snapshot_of(id, volume), to)
    }
}

fn snapshot_of(id: &str, volume: &Volume) -> Snapshot {
    Snapshot {
        format: FORMAT,
        id: id.into(),
        name: id.into(),
        volume: volume.clone(),
        created: 0,
        group: String::new(),
        held: 0,
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
        capacity,
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

#[test]
fn an_empty_volume_has_its_capacity_and_at_most_a_twentieth_more() {
    let rig = Rig::here();
    for kind in KINDS {
        let sizes = [48 * MIB, 127 * MIB, 128 * MIB, 300 * MIB, GIB, 3 * GIB, 8 * GIB, 60 * GIB, 500 * GIB];
        for capacity in sizes.into_iter().filter(|&size| size > kind.least()).chain([kind.least()]) {
            let volume = volume(&format!("{}-{capacity}", kind.name()), kind, capacity);
            let place = rig.made(&volume, None);
            let mounted = rig.mounted(&volume);
            let available = mounted.available();
            let bounds = capacity..=capacity + capacity / 20;
            assert!(bounds.contains(&available), "{kind:?} of {capacity}: {available}");
            let usage = rig.images.usage(&place, &volume, Some(&mounted.root())).unwrap();
            assert_eq!((usage.total, usage.used, usage.available), (capacity, 0, capacity), "{kind:?}");
            assert_eq!(rig.images.ailment(&place, &volume, Some(&mounted.root())).unwrap(), None);
            drop(mounted);
            rig.images.remove(&place).unwrap();
        }
    }
}

#[test]
fn a_writer_gets_the_capacity_and_is_stopped() {
    let rig = Rig::here();
    for kind in KINDS {
        let volume = volume(kind.name(), kind, kind.least());
        let place = rig.made(&volume, None);
        let mounted = rig.mounted(&volume);
        let file = File::create(mounted.path("file")).unwrap();
        let (part, mut at) = (pattern(7, MIB / 4), 0);
        let stopped = loop {
            match file.write_at(&part, at) {
                Ok(length) => at += length as u64,
                Err(e) => break e,
            }
        };
        assert_eq!(stopped.raw_os_error(), Some(Errno::NOSPC.raw_os_error()), "{kind:?}");
        // What was taken is kept: it is no promise of memory alone.
        file.sync_all().unwrap();
        let least = volume.capacity - volume.capacity / 200;
        assert!(
            (least..volume.capacity + volume.capacity / 20).contains(&at),
            "{kind:?}: {at} of {}",
            volume.capacity
        );
        assert!(rig.images.allocated(&place).unwrap() <= kind.image(volume.capacity), "{kind:?}");
        let usage = rig.images.usage(&place, &volume, Some(&mounted.root())).unwrap();
        let is_full = usage.total == volume.capacity && usage.available < 3 * MIB;
        assert!(is_full && usage.used + usage.available == usage.total, "{kind:?}: {usage:?}");
        drop((file, mounted));
        rig.images.remove(&place).unwrap();
    }
}

#[test]
fn snapshots_and_clones_have_the_data_of_their_moment() {
    for (rig, copies) in [
        (Rig::on(Kind::Xfs), Copies::Shared),
        (Rig::on(Kind::Btrfs), Copies::Shared),
        (Rig::on(Kind::Ext4), Copies::Whole),
    ] {
        assert_eq!(rig.images.abilities().copies, copies);
        for kind in KINDS {
            let id = |what: &str| format!("{what}-{}", kind.name());
            let origin = volume(&id("origin"), kind, kind.least());
            let place = rig.made(&origin, None);
            let mounted = rig.mounted(&origin);
            let (first, second) = (pattern(1, 5 * MIB), pattern(2, 5 * MIB));
            // Not synced: freezing does that.
            fs::write(mounted.path("data"), &first).unwrap();
            let (snapshot, at) = rig.snapshot(&id("snapshot"), &origin, Some(&mounted.root()));
            fs::write(mounted.path("data"), &second).unwrap();

            let mut restored = volume(&id("restored"), kind, kind.least() * 2);
            restored.source = Some(crate::plugin::pool::record::From::Snapshot(snapshot.id.clone()));
            rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
            let clone = volume(&id("clone"), kind, kind.least());
            rig.made(&clone, Some(Source::Volume(&origin, &place, Some(&mounted.root()))));
            fs::write(mounted.path("data"), b"later").unwrap();

            // All beside each other.
            let restored_at = rig.mounted(&restored);
            let clone_at = rig.mounted(&clone);
            assert!(fs::read(restored_at.path("data")).unwrap() == first, "{kind:?}");
            assert!(fs::read(clone_at.path("data")).unwrap() == second, "{kind:?}");
            assert_eq!(fs::read(mounted.path("data")).unwrap(), b"later", "{kind:?}");
            let wanted = restored.capacity - 6 * MIB;
            assert!(restored_at.available() >= wanted, "{kind:?}: {} of {wanted}", restored_at.available());
            fs::write(clone_at.path("data"), b"the clone's own").unwrap();
            assert_eq!(fs::read(mounted.path("data")).unwrap(), b"later", "{kind:?}");

            drop((mounted, restored_at, clone_at));
            for name in ["origin", "snapshot", "restored", "clone"] {
                rig.images.remove(&rig.place(&id(name))).unwrap();
            }
        }
    }
}

#[test]
fn a_copy_is_of_the_same_kind_as_its_origin() {
    let rig = Rig::here();
    let origin = volume("origin", Kind::Ext4, 16 * MIB);
    let from = rig.made(&origin, None);
    for other in [volume("other", Kind::Xfs, 256 * MIB), volume("raw", Kind::Block, 64 * MIB)] {
        let place = rig.new_place(&other.id);
        let failure =
            rig.images.create(&place, &other, Some(Source::Volume(&origin, &from, None))).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
    }
}

#[test]
fn cuts_of_several_volumes_are_of_one_moment() {
    let rig = Rig::on(Kind::Xfs);
    let volumes = [volume("one", Kind::Ext4, 16 * MIB), volume("two", Kind::Btrfs, 128 * MIB)];
    let mounted: Vec<Mounted> = volumes
        .iter()
        .map(|volume| {
            rig.made(volume, None);
            rig.mounted(volume)
        })
        .collect();
    // Whoever writes a number here and then there has in no moment a larger one there.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let open = |mounted: &Mounted| File::create(mounted.path("number")).unwrap();
    let (here, there) = (open(&mounted[0]), open(&mounted[1]));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 1_u64.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                here.write_all_at(&number.to_le_bytes(), 0).unwrap();
                there.write_all_at(&number.to_le_bytes(), 0).unwrap();
            }
        });
        for round in 0..5 {
            let to = ["a", "b"].map(|name| rig.new_place(&format!("{name}{round}")));
            let from = volumes.each_ref().map(|volume| rig.place(&volume.id));
            let roots = [mounted[0].root(), mounted[1].root()];
            let cut =
                |n: usize| Cut { volume: &volumes[n], from: &from[n], root: Some(&roots[n]), to: &to[n] };
            rig.images.snapshot(&[cut(0), cut(1)]).unwrap();
            let read = |n: usize| {
                let mount = Mounted(rig.images.mount(&to[n], &volumes[n], &how(true)).unwrap());
                let bytes = fs::read(mount.path("number")).unwrap();
                bytes.try_into().map_or(0, u64::from_le_bytes)
            };
            let (one, two) = (read(0), read(1));
            assert!(one == two || one == two + 1, "round {round}: {one} and {two}");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_snapshot_under_a_writer_has_what_was_synced_before_and_nothing_later_without_it() {
    for rig in [Rig::on(Kind::Xfs), Rig::on(Kind::Btrfs), Rig::here()] {
        for kind in KINDS {
            let volume = volume(kind.name(), kind, kind.least());
            rig.made(&volume, None);
            let mounted = rig.mounted(&volume);
            let [first, second] = ["first", "second"].map(|name| File::create(mounted.path(name)).unwrap());
            let stop = std::sync::atomic::AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for number in 1_u64.. {
                        for file in [&first, &second] {
                            file.write_all_at(&number.to_le_bytes(), 0).unwrap();
                            file.sync_all().unwrap();
                        }
                        if stop.load(std::sync::atomic::Ordering::Relaxed) {
                            break;
                        }
                    }
                });
                let number = |mount: &Mounted, name: &str| {
                    fs::read(mount.path(name)).unwrap().try_into().map_or(0, u64::from_le_bytes)
                };
                for round in 0..4 {
                    let before = number(&mounted, "second");
                    let id = format!("{}-{round}", kind.name());
                    let (_, at) = rig.snapshot(&id, &volume, Some(&mounted.root()));
                    let after = number(&mounted, "first");
                    let cut = Mounted(rig.images.mount(&at, &volume, &how(true)).unwrap());
                    let (one, two) = (number(&cut, "first"), number(&cut, "second"));
                    assert!(one == two || one == two + 1, "{kind:?} {round}: {one} and {two}");
                    assert!(
                        two + 1 >= before && one <= after,
                        "{kind:?} {round}: {before}, {two}, {one}, {after}"
                    );
                }
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
    }
}

#[test]
fn what_is_mounted_thaws_when_its_driver_was_killed() {
    let rig = Rig::here();
    let volume = volume("frozen", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    let left = freeze::freeze(open_root(&mounted.root()).unwrap()).unwrap();
    let to = rig.new_place("snapshot");
    let root = mounted.root();
    let cut = Cut { volume: &volume, from: &place, root: Some(&root), to: &to };
    assert_eq!(rig.images.snapshot(&[cut]).unwrap_err().code, Code::Aborted);
    rig.images.recover(&place, &volume, Some(&mounted.root())).unwrap();
    fs::write(mounted.path("file"), b"it can be written").unwrap();
    left.thaw().unwrap();
    rig.images.snapshot(&[cut]).unwrap();
    fs::write(mounted.path("file"), b"and again").unwrap();
    // A cut that fails, as its place has an image already, thaws too.
    assert!(rig.images.snapshot(&[cut]).is_err());
    fs::write(mounted.path("file"), b"and still").unwrap();
}

#[test]
fn a_volume_grows_mounted_or_not() {
    let rig = Rig::here();
    for kind in KINDS {
        for online in [true, false] {
            let mut volume = volume(&format!("{}-{online}", kind.name()), kind, kind.least());
            let place = rig.made(&volume, None);
            let mounted = rig.mounted(&volume);
            let data = pattern(3, 3 * MIB);
            fs::write(mounted.path("data"), &data).unwrap();
            let larger = kind.least() * 3;
            let root = mounted.root();
            let mounted = if online {
                match rig.images.expand(&place, &volume, larger, Some(&root)) {
                    Err(failure) if kind == Kind::Ext4 && !may_grow_ext4().unwrap() => {
                        assert_eq!(failure.code, Code::FailedPrecondition);
                        assert!(failure.message.contains("CAP_SYS_RESOURCE"), "{failure}");
                        drop(mounted);
                        rig.mounted(&volume)
                    }
                    done => {
                        done.unwrap();
                        mounted
                    }
                }
            } else {
                drop(mounted);
                rig.images.expand(&place, &volume, larger, None).unwrap();
                rig.mounted(&volume)
            };
            volume.capacity = larger;
            let has = mounted.available() + data.len() as u64;
            let bounds = larger - larger / 200..=larger + larger / 20;
            assert!(bounds.contains(&has), "{kind:?} {online}: {has} of {larger}");
            assert!(fs::read(mounted.path("data")).unwrap() == data, "{kind:?}");
            rig.images.expand(&place, &volume, larger, None).unwrap();
            assert_eq!(rig.images.ailment(&place, &volume, Some(&mounted.root())).unwrap(), None, "{kind:?}");
            drop(mounted);
            rig.images.remove(&place).unwrap();
        }
    }
}

#[test]
fn a_block_device_is_found_again_grows_and_goes() {
    let rig = Rig::on(Kind::Xfs);
    let mut volume = volume("raw", Kind::Block, 8 * MIB);
    let place = rig.made(&volume, None);
    let device = rig.images.device(&place, &volume, false).unwrap();
    assert_eq!(rig.images.device(&place, &volume, false).unwrap(), device);
    let open = File::options().read(true).write(true).open(&device).unwrap();
    assert_eq!(kernel::block::size(&open).unwrap(), 8 * MIB);
    let data = pattern(4, 8 * MIB);
    open.write_all_at(&data, 0).unwrap();
    assert!(open.write_at(&[1; 512], 8 * MIB).is_err(), "it ends at its capacity");
    let (snapshot, at) = rig.snapshot("snapshot", &volume, None);
    open.write_all_at(&pattern(5, 8 * MIB), 0).unwrap();
    let mut restored = volume.clone();
    (restored.id, restored.capacity) = ("restored".into(), 12 * MIB);
    let restored_at = rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
    let read_only = rig.images.device(&restored_at, &restored, true).unwrap();
    let bytes = fs::read(&read_only).unwrap();
    assert!(
        bytes.len() as u64 == 12 * MIB
            && bytes[..data.len()] == data
            && bytes[data.len()..].iter().all(|&b| b == 0)
    );
    assert!(
        File::options().write(true).open(&read_only).and_then(|file| file.write_at(&[1; 512], 0)).is_err()
    );

    rig.images.expand(&place, &volume, 16 * MIB, None).unwrap();
    volume.capacity = 16 * MIB;
    assert_eq!(kernel::block::size(&open).unwrap(), 16 * MIB);
    let to = [rig.new_place("g1"), rig.new_place("g2")];
    let cut = |n: usize| Cut { volume: &volume, from: &place, root: None, to: &to[n] };
    let failure = rig.images.snapshot(&[cut(0), cut(1)]).unwrap_err();
    assert!(failure.code == Code::FailedPrecondition && failure.message.contains("in use"), "{failure}");
    drop(open);
    rig.images.release(&place, &volume).unwrap();
    rig.images.release(&place, &volume).unwrap();
    assert!(devices(&place).unwrap().is_empty());
    rig.images.remove(&restored_at).unwrap();
    assert!(devices(&restored_at).unwrap().is_empty() && !restored_at.exists());
}

#[test]
fn an_encrypted_volume_opens_with_its_key_alone() {
    let rig = Rig::on(Kind::Btrfs);
    let mut origin = volume("secret", Kind::Ext4, 32 * MIB);
    origin.parameters.insert(encryption::PARAMETER.into(), encryption::FSCRYPT.into());
    let place = rig.made(&origin, None);
    let secrets = |digits: &str| BTreeMap::from([("key".to_owned(), digits.repeat(32))]);
    let (right, wrong) = (secrets("a1b2"), secrets("c3d4"));
    let mount = |id: &str, volume: &Volume, read_only: bool, secrets: &BTreeMap<String, String>| {
        let how = Mounting { read_only, options: &[], secrets };
        rig.images.mount(&rig.place(id), volume, &how).map(Mounted)
    };
    let failure = mount("secret", &origin, true, &right).err().unwrap();
    assert!(
        failure.code == Code::FailedPrecondition && failure.message.contains("nothing was ever written"),
        "{failure}"
    );
    let mounted = mount("secret", &origin, false, &right).unwrap();
    let needle = b"words that are in no image in the clear";
    fs::write(mounted.path("file"), needle).unwrap();
    assert!(mounted.available() >= origin.capacity - MIB);
    let (snapshot, at) = rig.snapshot("snapshot", &origin, Some(&mounted.root()));
    drop(mounted);
    let raw = fs::read(place.join(IMAGE)).unwrap();
    assert!(!raw.windows(needle.len()).any(|window| window == needle));

    let failure = mount("secret", &origin, false, &wrong).err().unwrap();
    assert!(
        failure.code == Code::FailedPrecondition && failure.message.contains("is not its key"),
        "{failure}"
    );
    let failure = mount("secret", &origin, false, &NOTHING).err().unwrap();
    assert!(
        failure.code == Code::InvalidArgument && failure.to_string().contains("secrets[key]: is missing"),
        "{failure}"
    );
    assert_eq!(fs::read(mount("secret", &origin, true, &right).unwrap().path("file")).unwrap(), needle);

    let mut restored = origin.clone();
    (restored.id, restored.capacity) = ("restored".into(), 64 * MIB);
    rig.made(&restored, Some(Source::Snapshot(&snapshot, &at)));
    assert!(mount("restored", &restored, false, &wrong).is_err());
    let beside = mount("secret", &origin, false, &right).unwrap();
    let mounted = mount("restored", &restored, false, &right).unwrap();
    assert_eq!(fs::read(mounted.path("file")).unwrap(), needle);
    assert!(mounted.available() >= restored.capacity - MIB, "{}", mounted.available());
    assert_eq!(fs::read(beside.path("file")).unwrap(), needle);
}

#[test]
fn a_directory_of_a_mount_is_mounted_on_older_kernels_too() {
    let rig = Rig::here();
    let volume = volume("below", Kind::Ext4, 16 * MIB);
    rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    fs::create_dir(mounted.path("inner")).unwrap();
    fs::write(mounted.path("inner/file"), b"there").unwrap();
    for below in [
        filesystem::below(&mounted.0, c"inner").unwrap(),
        filesystem::below_attached(&mounted.0, c"inner").unwrap(),
    ] {
        let below = Mounted(below);
        assert_eq!(fs::read(below.path("file")).unwrap(), b"there");
        assert!(!fs::read_to_string("/proc/self/mounts").unwrap().contains("csi-image"));
    }
}

#[test]
fn an_option_is_refused_by_its_name() {
    let rig = Rig::here();
    for (kind, option, value) in [
        (Kind::Ext4, "nonsense", None),
        (Kind::Ext4, "commit", Some("soon")),
        (Kind::Xfs, "logbufs", Some("1000")),
        (Kind::Btrfs, "compress", Some("nothing-known")),
    ] {
        let volume = volume(&format!("{}-{option}", kind.name()), kind, kind.least());
        let place = rig.made(&volume, None);
        let options = [(option.to_owned(), value.map(str::to_owned))];
        let how = Mounting { read_only: false, options: &options, secrets: &NOTHING };
        let failure = rig.images.mount(&place, &volume, &how).unwrap_err();
        assert_eq!(failure.code, Code::InvalidArgument, "{failure}");
        assert!(failure.message.contains(option), "{failure}");
        // What was attached for it is gone.
        idle(&place).unwrap();
    }
    let volume = volume("discarding", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let options = [("discard".to_owned(), None), ("commit".to_owned(), Some("30".to_owned()))];
    let how = Mounting { read_only: true, options: &options, secrets: &NOTHING };
    let mounted = Mounted(rig.images.mount(&place, &volume, &how).unwrap());
    assert!(fs::write(mounted.path("file"), b"no").is_err(), "it is read-only");
}

#[test]
fn an_image_in_use_is_not_attached_twice() {
    let rig = Rig::here();
    let volume = volume("busy", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let mounted = rig.mounted(&volume);
    let held = File::create(mounted.path("held")).unwrap();
    drop(mounted);
    let failure = rig.images.mount(&place, &volume, &how(false)).unwrap_err();
    assert!(failure.code == Code::Aborted && failure.message.contains("is in use on /dev/loop"), "{failure}");
    drop(held);
    rig.mounted(&volume);
}

#[test]
fn a_damaged_ext4_is_mended_before_it_is_mounted() {
    let rig = Rig::here();
    let volume = volume("damaged", Kind::Ext4, 16 * MIB);
    let place = rig.made(&volume, None);
    let marked = Command::new("tune2fs").args(["-E", "force_fsck"]).arg(place.join(IMAGE)).output().unwrap();
    assert!(marked.status.success(), "{marked:?}");
    let told = || superblock::read(&open_image(&place, false).unwrap(), Kind::Ext4).unwrap().unwrap();
    assert!(told().damaged);
    assert!(rig.images.ailment(&place, &volume, None).unwrap().unwrap().contains("errors"));
    drop(rig.mounted(&volume));
    assert!(!told().damaged);
    assert_eq!(rig.images.ailment(&place, &volume, None).unwrap(), None);
    open_image(&place, true).unwrap().set_len(MIB).unwrap();
    assert!(rig.images.ailment(&place, &volume, None).unwrap().unwrap().contains("1048576 bytes"));
    fs::remove_file(place.join(IMAGE)).unwrap();
    assert!(rig.images.ailment(&place, &volume, None).unwrap().unwrap().contains("gone"));
}

#[test]
fn what_mkfs_says_is_in_the_failure() {
    let rig = Rig::here();
    let volume = volume("small", Kind::Xfs, 256 * MIB);
    let place = rig.new_place("small");
    File::create(place.join(IMAGE)).unwrap().set_len(MIB).unwrap();
    let failure = program::make(Kind::Xfs, &place.join(IMAGE), volume.capacity, false).unwrap_err();
    assert!(failure.message.contains("mkfs.xfs: exit status: 1: "), "{failure}");
    assert!(failure.message.len() > 100, "{failure}");
}

#[test]
fn ranges_and_changes_are_those_of_the_bytes() {
    for rig in [Rig::on(Kind::Xfs), Rig::on(Kind::Btrfs), Rig::on(Kind::Ext4)] {
        let base_volume = volume("base", Kind::Block, 32 * MIB);
        let base = rig.made(&base_volume, None);
        let write = |place: &Path, at: u64, length: u64, seed| {
            open_image(place, true).unwrap().write_all_at(&pattern(seed, length), at).unwrap();
        };
        write(&base, MIB, 2 * MIB, 1);
        write(&base, 20 * MIB, 64 << 10, 2);
        let (_, first) = rig.snapshot("first", &base_volume, None);
        let range = |offset, length| Range { offset, length };
        let all = rig.images.ranges(&first, 0, 100).unwrap();
        assert_eq!(all, [range(MIB, 2 * MIB), range(20 * MIB, 64 << 10)]);
        assert_eq!(rig.images.ranges(&first, 0, 1).unwrap(), all[..1]);
        assert_eq!(rig.images.ranges(&first, 3 * MIB, 100).unwrap(), all[1..]);
        let inside = rig.images.ranges(&first, 2 * MIB + 5, 100).unwrap();
        assert_eq!(inside, [range(2 * MIB, MIB), all[1]]);

        // The same bytes again are no change, wherever they are.
        write(&base, MIB, 2 * MIB, 1);
        // One changed block, a new one, and one that is given up.
        write(&base, MIB + (8 << 10), 4096, 3);
        write(&base, 10 * MIB, 8192, 4);
        let image = open_image(&base, true).unwrap();
        rustix::fs::fallocate(
            &image,
            rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
            20 * MIB,
            4096,
        )
        .unwrap();
        rig.images.expand(&base, &base_volume, 40 * MIB, None).unwrap();
        write(&base, 40 * MIB - 4096, 4096, 5);
        let (_, second) = rig.snapshot("second", &base_volume, None);
        let wanted = [
            range(MIB + (8 << 10), 4096),
            range(10 * MIB, 8192),
            range(20 * MIB, 4096),
            range(40 * MIB - 4096, 4096),
        ];
        assert_eq!(rig.images.changes(&first, &second, 0, 100).unwrap(), wanted);
        assert_eq!(rig.images.changes(&first, &second, 0, 2).unwrap(), wanted[..2]);
        assert_eq!(rig.images.changes(&first, &second, 10 * MIB + 8192, 100).unwrap(), wanted[2..]);
        assert_eq!(rig.images.changes(&second, &second, 0, 100).unwrap(), []);
        assert_eq!(rig.images.changes(&second, &first, 0, 100).unwrap(), wanted[..3]);
    }
}

/// What the killed process below does.
#[test]
#[ignore = "it is run by the next test, and waits to be killed"]
fn holds_devices() {
    let path = PathBuf::from(std::env::var_os("CSI_IMAGE_PLACES").expect("the next test says where"));
    let images = Images::open(&path).unwrap();
    let volume = volume("v", Kind::Ext4, 16 * MIB);
    let mut held = Vec::new();
    for place in fs::read_dir(&path).unwrap() {
        let place = place.unwrap().path();
        held.push(images.mount(&place, &volume, &how(false)).unwrap());
    }
    println!("held {}", held.len());
    std::thread::sleep(Duration::from_secs(600));
}

#[test]
fn a_killed_driver_leaves_no_device() {
    use std::io::BufRead as _;
    let rig = Rig::here();
    let volumes = ["a", "b", "c"].map(|id| volume(id, Kind::Ext4, 16 * MIB));
    let places = volumes.each_ref().map(|volume| rig.made(volume, None));
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "plugin::backend::image::tests::holds_devices", "--ignored", "--nocapture"])
        .env("CSI_IMAGE_PLACES", &rig.path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let held = lines.map_while(Result::ok).find(|line| line.contains("held"));
    assert!(held.is_some_and(|line| line.ends_with("held 3")));
    assert!(places.iter().all(|place| devices(place).unwrap().len() == 1));
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    for place in &places {
        idle(place).unwrap();
        rig.images.remove(place).unwrap();
    }
}

#[test]
fn parameters_are_refused_by_their_names() {
    let rig = Rig::here();
    let wish = |fs_type: &str, block, parameters: &[(&str, &str)]| Wish {
        block,
        fs_type: fs_type.into(),
        parameters: parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        mutable: BTreeMap::new(),
    };
    let refused = |wish: &Wish| rig.images.accepts(wish).unwrap_err().to_string();
    for fs_type in ["", "ext4", "xfs", "btrfs"] {
        rig.images.accepts(&wish(fs_type, false, &[])).unwrap();
    }
    rig.images.accepts(&wish("", true, &[])).unwrap();
    rig.images.accepts(&wish("", false, &[("encryption", "fscrypt")])).unwrap();
    let default = if may_grow_ext4().unwrap() { "ext4" } else { "xfs" };
    assert_eq!(rig.images.file_system(&wish("", false, &[])), default);
    assert_eq!(rig.images.least(&wish("", false, &[])), rig.images.least(&wish(default, false, &[])));
    assert_eq!(rig.images.file_system(&wish("", false, &[("encryption", "fscrypt")])), "ext4");
    assert_eq!(rig.images.file_system(&wish("", true, &[])), "");
    assert!(refused(&wish("ntfs", false, &[])).contains("\"ntfs\""));
    assert!(refused(&wish("", false, &[("colour", "red")])).contains("parameters[colour]"));
    assert!(refused(&wish("", false, &[("encryption", "rot13")])).contains("\"rot13\""));
    assert!(refused(&wish("xfs", false, &[("encryption", "fscrypt")])).contains("only ext4"));
    assert!(refused(&wish("", true, &[("encryption", "fscrypt")])).contains("only ext4"));
}
