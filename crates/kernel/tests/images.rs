//! File systems in image files on loop devices: growing, sharing, freezing, mapping, encrypting. Needs root, mkfs.ext4,
//! mkfs.xfs and mkfs.btrfs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::extents::{self, Extent};
use kernel::{freeze, fscrypt, grow, loopdev, mount, reflink};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const MIB: u64 = 1 << 20;

/// An image file with a file system in it.
struct Image {
    folder: tempfile::TempDir,
    kind: &'static str,
}

/// A detached mount of an image: it and its device go when this is dropped.
struct Mounted {
    /// Its root, opened: what a mount is made as serves as a place alone (`O_PATH`).
    root: OwnedFd,
    _mount: OwnedFd,
    device: File,
}

impl Image {
    fn new(kind: &'static str, mib: u64, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = Self { folder, kind };
        File::create(image.path()).unwrap().set_len(mib * MIB).unwrap();
        let mut mkfs = Command::new(format!("mkfs.{kind}"));
        let done = mkfs.arg("-q").args(options).arg(image.path()).output().expect("mkfs starts");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        image
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(self.path()).unwrap()
    }

    fn mount(&self) -> Mounted {
        mount(&self.path(), self.kind)
    }
}

fn mount(image: &Path, kind: &str) -> Mounted {
    let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
    let image = File::options().read(true).write(true).open(image).unwrap();
    let (path, device) = loopdev::attach(&image, "sextant-test-images", options).unwrap();
    let kind = std::ffi::CString::new(kind).unwrap();
    let source = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let mount = mount::filesystem(&kind, Some(&source), [], 0).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(&mount, ".", flags, Mode::empty()).unwrap();
    Mounted { root, _mount: mount, device }
}

impl Mounted {
    /// For programs as well, which do not have this process's descriptors.
    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}/{name}", std::process::id(), self.root.as_raw_fd()))
    }

    fn file(&self, name: &str) -> File {
        File::options().read(true).write(true).create(true).truncate(false).open(self.path(name)).unwrap()
    }

    fn directory(&self, name: &str) -> File {
        fs::create_dir_all(self.path(name)).unwrap();
        File::open(self.path(name)).unwrap()
    }

    fn capacity(&self) -> u64 {
        let stat = rustix::fs::fstatfs(&self.root).unwrap();
        stat.f_blocks as u64 * stat.f_bsize as u64
    }
}

/// The bytes of a block device.
fn size(mut device: &File) -> u64 {
    device.seek(SeekFrom::End(0)).unwrap()
}

/// Bytes that no two places of a file have in common.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64 / 8).flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect()
}

/// ext4 grows for `CAP_SYS_RESOURCE` alone, which root in a container may lack.
fn may_resize_ext4() -> bool {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    u64::from_str_radix(effective.trim(), 16).unwrap() & 1 << 24 != 0
}

#[test]
fn a_mounted_file_system_grows_with_its_image() {
    type Grow = fn(&OwnedFd, u64) -> kernel::Result<()>;
    let kinds: [(&str, Grow); 3] = [
        ("ext4", |root, bytes| grow::ext4(root, bytes)),
        ("xfs", |root, bytes| grow::xfs(root, bytes)),
        ("btrfs", |root, bytes| grow::btrfs(root, bytes)),
    ];
    for (kind, grow) in kinds {
        let image = Image::new(kind, 320, &[]);
        let mounted = image.mount();
        let before = mounted.capacity();
        let data = pattern(3 << 20);
        fs::write(mounted.path("data"), &data).unwrap();

        assert!(grow(&mounted.root, 640 * MIB).is_err(), "{kind}: the device is not that large yet");
        image.open().set_len(640 * MIB).unwrap();
        assert_eq!(size(&mounted.device), 320 * MIB);
        loopdev::set_capacity(&mounted.device).unwrap();
        assert_eq!(size(&mounted.device), 640 * MIB);
        if kind == "ext4" && !may_resize_ext4() {
            let refused = grow(&mounted.root, 640 * MIB).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::PERM), "{refused}");
            continue;
        }
        grow(&mounted.root, 640 * MIB).unwrap();
        let after = mounted.capacity();
        assert!(after >= before + 290 * MIB, "{kind}: {before} to {after}");
        assert!(after <= 640 * MIB, "{kind}: {after}");
        grow(&mounted.root, 640 * MIB).unwrap();
        assert_eq!(mounted.capacity(), after, "{kind}: growing to what it has changes nothing");
        assert_eq!(fs::read(mounted.path("data")).unwrap(), data, "{kind}");

        drop(mounted);
        let mounted = image.mount();
        assert!(mounted.capacity() == after && fs::read(mounted.path("data")).unwrap() == data, "{kind}");
    }
}

#[test]
fn none_shrinks() {
    type Grow = fn(&OwnedFd, u64) -> kernel::Result<()>;
    let kinds: [(&str, Grow); 2] =
        [("xfs", |root, bytes| grow::xfs(root, bytes)), ("btrfs", |root, bytes| grow::btrfs(root, bytes))];
    for (kind, grow) in kinds {
        let image = Image::new(kind, 640, &[]);
        let mounted = image.mount();
        let before = mounted.capacity();
        // The last group of an xfs is what newer kernels give back.
        for bytes in [640 * MIB - 4096, 639 * MIB, 480 * MIB, 320 * MIB] {
            let refused = grow(&mounted.root, bytes).unwrap_err();
            assert_eq!(refused.errno(), Some(Errno::INVAL), "{kind} of {bytes}: {refused}");
            assert_eq!(mounted.capacity(), before, "{kind} of {bytes}");
        }
    }
}

#[test]
fn a_btrfs_tells_its_device() {
    let image = Image::new("btrfs", 320, &[]);
    let mounted = image.mount();
    let told = fs::metadata(grow::btrfs_device(&mounted.root).unwrap()).unwrap();
    let device = mounted.device.metadata().unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&told), std::os::unix::fs::MetadataExt::rdev(&device));
    let other = Image::new("ext4", 32, &[]);
    assert_eq!(grow::btrfs_device(&other.mount().root).unwrap_err().errno(), Some(Errno::NOTTY));
}

/// A balance that stands still, as the file system below it does.
#[test]
fn a_btrfs_that_is_balanced_does_not_grow_and_says_so() {
    let below = Image::new("xfs", 640, &[]);
    let lower = below.mount();
    let name = lower.path("image");
    File::create(&name).unwrap().set_len(320 * MIB).unwrap();
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    let made = Command::new("mkfs.btrfs").args(["-q", "-U", uuid.trim()]).arg(&name).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mounted = mount(&name, "btrfs");
    fs::write(mounted.path("data"), pattern(3 << 20)).unwrap();
    rustix::fs::syncfs(&mounted.root).unwrap();
    File::options().write(true).open(&name).unwrap().set_len(400 * MIB).unwrap();
    loopdev::set_capacity(&mounted.device).unwrap();

    let frozen = freeze::freeze(lower.root.try_clone().unwrap()).unwrap();
    let mut balance = Command::new("btrfs");
    balance
        .args(["balance", "start", "--full-balance"])
        .arg(mounted.path(""))
        .stdout(std::process::Stdio::null());
    let mut balance = balance.spawn().unwrap();
    let operation = format!("/sys/fs/btrfs/{}/exclusive_operation", uuid.trim());
    let begun = (0..6000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(5));
        fs::read_to_string(&operation).unwrap().trim() == "balance"
    });
    let answer = grow::btrfs(&mounted.root, 400 * MIB);
    frozen.thaw().unwrap();
    let ended = balance.wait().unwrap();
    assert!(begun && ended.success(), "{begun}, {ended}");
    assert_eq!(answer.unwrap_err().errno(), Some(Errno::INPROGRESS));
    grow::btrfs(&mounted.root, 400 * MIB).unwrap();
    assert_eq!(mounted.capacity(), 400 * MIB);
}

/// The device's number may be another's by the time that it is opened.
#[test]
fn a_device_that_became_anothers_is_left_alone() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(MIB).unwrap();
    let tag = format!("sextant-test-others-{}", std::process::id());
    let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
    let (path, device) = loopdev::attach(&file, &tag, options).unwrap();
    assert!(loopdev::open_if(&path, |status| status.tag == "ours").unwrap().is_none());
    loopdev::detach_if(&path, |status| status.tag == "ours").unwrap();
    drop(loopdev::open_if(&path, |status| status.tag == tag).unwrap().unwrap());
    assert_eq!(loopdev::status(&device).unwrap().unwrap().options, options);
    loopdev::detach_if(&path, |status| status.tag == tag).unwrap();
    drop(device);
    let gone = (0..60_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        loopdev::find(&tag).unwrap().is_empty()
    });
    assert!(gone);
}

#[test]
fn a_device_is_found_by_the_name_of_its_file_as_it_is_now() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let file = File::options().read(true).write(true).create_new(true).open(&first).unwrap();
    file.set_len(MIB).unwrap();
    let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
    let (device, _open) = loopdev::attach(&file, "sextant-test-names", options).unwrap();
    let named = |name: &Path| {
        let found = loopdev::attached_to(|path| path == name).unwrap();
        found.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
    };
    assert_eq!(named(&first), std::slice::from_ref(&device));
    fs::rename(&first, &second).unwrap();
    assert_eq!(named(&first), [] as [PathBuf; 0]);
    assert_eq!(named(&second), std::slice::from_ref(&device));
    fs::remove_file(&second).unwrap();
    assert_eq!(named(&folder.path().join("second (deleted)")), [device]);
}

/// In a mount namespace of its own, where something else is in the device's place.
#[test]
fn a_device_that_cannot_be_asked_is_an_error_and_not_absent() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(MIB).unwrap();
    let tag = format!("sextant-test-asked-{}", std::process::id());
    let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
    let backing = file.reopen().unwrap();
    let (device, _open) = loopdev::attach(&backing, &tag, options).unwrap();
    std::thread::scope(|scope| {
        let hidden = scope.spawn(|| {
            use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
            use rustix::thread::UnshareFlags;
            kernel::namespace::unshare(UnshareFlags::NEWNS | UnshareFlags::FS).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            mount_bind(file.path(), &device).unwrap();
            let by_tag = loopdev::attached(|name| name == tag);
            let by_name = loopdev::attached_to(|path| path == file.path());
            // One that is somebody else's is not looked at.
            let others = loopdev::attached_to(|path| path == Path::new("/nowhere"));
            (by_tag, by_name, others)
        });
        let (by_tag, by_name, others) = hidden.join().unwrap();
        for answer in [by_tag, by_name] {
            assert_eq!(answer.unwrap_err().errno(), Some(Errno::NOTTY));
        }
        assert_eq!(others.unwrap(), []);
    });
    assert_eq!(loopdev::find(&tag).unwrap(), [device]);
}

#[test]
fn a_device_tells_what_it_is_attached_to_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    file.set_len(MIB).unwrap();
    let tag = format!("sextant-test-status-{}", std::process::id());
    let options = loopdev::Options { read_only: true, autoclear: true, direct_io: false };
    let (device, open) = loopdev::attach(&file, &tag, options).unwrap();
    let status = loopdev::status(&open).unwrap().unwrap();
    assert_eq!((status.tag.as_str(), status.options), (tag.as_str(), options));
    let inode = std::os::unix::fs::MetadataExt::ino(&file.metadata().unwrap());
    assert_eq!(status.backing.1, inode);
    assert_eq!(loopdev::attached(|name| name == tag).unwrap(), [(device, status)]);
}

#[test]
fn direct_io_is_used_where_the_file_can_and_else_not_missed() {
    let image = Image::new("xfs", 320, &[]);
    let mounted = image.mount();
    let file = mounted.file("inner");
    file.set_len(MIB).unwrap();
    let options = loopdev::Options { direct_io: true, autoclear: true, ..loopdev::Options::default() };
    let (_, device) = loopdev::attach(&file, "sextant-test-direct", options).unwrap();
    assert!(loopdev::status(&device).unwrap().unwrap().options.direct_io);
    // A file of tmpfs, or of the proc file system's kind, may or may not: it is attached all the same.
    let memory =
        File::from(rustix::fs::memfd_create("sextant-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    memory.set_len(MIB).unwrap();
    let (_, device) = loopdev::attach(&memory, "sextant-test-direct", options).unwrap();
    assert!(loopdev::status(&device).unwrap().is_some());
}

#[test]
fn a_clone_shares_blocks_until_one_side_writes() {
    for kind in ["xfs", "btrfs"] {
        let image = Image::new(kind, 320, &[]);
        let mounted = image.mount();
        let data = pattern(4 << 20);
        fs::write(mounted.path("from"), &data).unwrap();
        let (from, to) = (mounted.file("from"), mounted.file("to"));
        reflink::clone_file(&to, &from).unwrap();
        assert_eq!(fs::read(mounted.path("to")).unwrap(), data, "{kind}");
        let places = |file: &File| extents::places(file, 0).unwrap();
        let first: Vec<Extent> = places(&from);
        assert_eq!(first.iter().map(|e| e.length).sum::<u64>(), 4 << 20, "{kind}");
        assert!(first.iter().all(Extent::has_place), "{kind}: {first:?}");
        assert_eq!(first, places(&to), "{kind}");

        std::os::unix::fs::FileExt::write_all_at(&to, &[7; 4096], 8192).unwrap();
        let place = |extents: &[Extent], at: u64| {
            let extent = extents.iter().find(|e| (e.logical..e.logical + e.length).contains(&at)).unwrap();
            extent.physical + (at - extent.logical)
        };
        let second = places(&to);
        assert_ne!(place(&first, 8192), place(&second, 8192), "{kind}");
        assert_eq!(place(&first, 0), place(&second, 0), "{kind}");
        assert_eq!(place(&first, 12288), place(&second, 12288), "{kind}");
        assert_eq!(fs::read(mounted.path("from")).unwrap(), data, "{kind}: the origin is as it was");
    }
}

#[test]
fn where_nothing_can_be_shared_the_answer_says_so() {
    let image = Image::new("ext4", 32, &[]);
    let mounted = image.mount();
    fs::write(mounted.path("from"), b"data").unwrap();
    let e = reflink::clone_file(mounted.file("to"), mounted.file("from")).unwrap_err();
    assert!(reflink::is_unsupported(e), "{e}");
    let e = reflink::clone_file(mounted.file("to"), image.open()).unwrap_err();
    assert!(reflink::is_unsupported(e), "{e}");
    assert!(!reflink::is_unsupported(Errno::NOSPC));
}

#[test]
fn what_is_frozen_waits() {
    for kind in ["ext4", "xfs", "btrfs"] {
        let image = Image::new(kind, 320, &[]);
        let mounted = image.mount();
        assert!(!freeze::thaw(&mounted.root).unwrap(), "{kind}: it is not frozen");
        let frozen = freeze::freeze(mounted.root.try_clone().unwrap()).unwrap();
        let again = freeze::freeze(mounted.root.try_clone().unwrap()).unwrap_err();
        assert_eq!(again.errno(), Some(Errno::BUSY), "{kind}");
        let written = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                fs::write(mounted.path("late"), b"late").unwrap();
                written.store(true, Ordering::SeqCst);
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!written.load(Ordering::SeqCst), "{kind}");
            frozen.thaw().unwrap();
            writer.join().unwrap();
        });
        assert!(written.load(Ordering::SeqCst));

        drop(freeze::freeze(mounted.root.try_clone().unwrap()).unwrap());
        assert!(!freeze::thaw(&mounted.root).unwrap(), "{kind}: dropping thaws");
        // What a killed process left frozen: somebody else thaws it.
        let left = freeze::freeze(mounted.root.try_clone().unwrap()).unwrap();
        assert!(freeze::thaw(&mounted.root).unwrap(), "{kind}");
        fs::write(mounted.path("after"), b"after").unwrap();
        left.thaw().unwrap();
    }
}

#[test]
fn data_is_told_from_holes() {
    let image = Image::new("ext4", 64, &[]);
    let mounted = image.mount();
    let file = mounted.file("sparse");
    file.set_len(10 * MIB).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 2 * MIB).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[2; 4096], 5 * MIB).unwrap();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(run) = extents::data(&file, at).unwrap() {
        at = run.end;
        found.push(run);
    }
    assert_eq!(found, [2 * MIB..2 * MIB + 8192, 5 * MIB..5 * MIB + 4096]);
    let places = extents::places(&file, 0).unwrap();
    let runs: Vec<_> = places.iter().map(|e| e.logical..e.logical + e.length).collect();
    assert_eq!(runs, found);
    assert!(places[1].flags & Extent::LAST != 0 && places[0].flags & Extent::LAST == 0, "{places:?}");
    assert_eq!(extents::places(&file, 3 * MIB).unwrap(), places[1..]);
    file.set_len(0).unwrap();
    assert_eq!(extents::data(&file, 0).unwrap(), None);
    assert!(extents::places(&file, 0).unwrap().is_empty());
}

#[test]
fn more_extents_than_one_answer_holds_are_read_on() {
    let image = Image::new("ext4", 64, &[]);
    let mounted = image.mount();
    let file = mounted.file("holes");
    for n in 0..600 {
        std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], n * 8192).unwrap();
    }
    let (mut all, mut at) = (Vec::new(), 0);
    loop {
        let some = extents::places(&file, at).unwrap();
        let last = *some.last().unwrap();
        all.extend(some);
        at = last.logical + last.length;
        if last.flags & Extent::LAST != 0 {
            break;
        }
    }
    let logical: Vec<u64> = all.iter().map(|e| e.logical).collect();
    assert_eq!(logical, (0..600).map(|n| n * 8192).collect::<Vec<_>>());
}

#[test]
fn an_encrypted_directory_is_read_with_its_key_alone() {
    let image = Image::new("ext4", 32, &["-O", "encrypt"]);
    let (right, wrong) = ([1; 64], [2; 64]);
    let mounted = image.mount();
    let directory = mounted.directory("secret");
    assert_eq!(fscrypt::policy(&directory).unwrap(), None);
    let identifier = fscrypt::add_key(&mounted.root, &right).unwrap();
    assert_eq!(fscrypt::add_key(&mounted.root, &right).unwrap(), identifier, "the same key twice");
    fscrypt::set_policy(&directory, identifier).unwrap();
    fscrypt::set_policy(&directory, identifier).unwrap();
    assert_eq!(fscrypt::policy(&directory).unwrap(), Some(identifier));
    let needle = b"nobody is to find these words in the image";
    fs::write(mounted.path("secret/file"), needle).unwrap();
    fs::write(mounted.path("open"), b"these words are to be found in the image").unwrap();
    drop((directory, mounted));

    let mounted = image.mount();
    let other = fscrypt::add_key(&mounted.root, &wrong).unwrap();
    assert_ne!(other, identifier);
    assert_eq!(fscrypt::policy(File::open(mounted.path("secret")).unwrap()).unwrap(), Some(identifier));
    assert!(fs::read(mounted.path("secret/file")).is_err());
    fscrypt::add_key(&mounted.root, &right).unwrap();
    assert_eq!(fs::read(mounted.path("secret/file")).unwrap(), needle);
    drop(mounted);

    let raw = fs::read(image.path()).unwrap();
    let finds = |words: &[u8]| raw.windows(words.len()).any(|window| window == words);
    assert!(!finds(needle) && finds(b"these words are to be found"));
}

#[test]
fn a_file_system_without_encryption_says_so() {
    let image = Image::new("ext4", 32, &[]);
    let mounted = image.mount();
    let e = fscrypt::add_key(&mounted.root, &[1; 32]).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::OPNOTSUPP), "{e}");
    let e = fscrypt::add_key(&mounted.root, &[1; 16]).unwrap_err();
    assert_eq!(e.to_string(), "cannot add a key of 16 bytes (32 to 64): Invalid argument (os error 22)");
    let directory = mounted.directory("plain");
    assert!(fscrypt::set_policy(&directory, fscrypt::Identifier([0; 16])).is_err());
    let xfs = Image::new("xfs", 320, &[]);
    let e = fscrypt::add_key(&xfs.mount().root, &[1; 32]).unwrap_err();
    assert_eq!(e.errno(), Some(Errno::NOTTY), "{e}");
}
