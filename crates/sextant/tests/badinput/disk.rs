//! A disk that is full for real: a small ext4 on a loop device, mounted in this thread's own mount namespace.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::Command;

use kernel::loopdev;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::image::{Image, files, noise};
use crate::place::Place;
use crate::registry::Registry;

/// A disk that is the instance's data directory. The device goes with the mount.
struct Disk {
    data: PathBuf,
}

impl Disk {
    fn new(place: &Place, megabytes: u64) -> Self {
        kernel::namespace::unshare(UnshareFlags::NEWNS).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let backing = place.site.path("disk");
        File::create(&backing).unwrap().set_len(megabytes << 20).unwrap();
        let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&backing).status();
        assert!(made.unwrap().success());
        let backing = File::options().read(true).write(true).open(&backing).unwrap();
        let tag = format!("sextant-badinput-{}-{:?}", std::process::id(), std::thread::current().id());
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (device, _open) = loopdev::attach(&backing, &tag, options).unwrap();
        let data = place.site.path("data");
        fs::create_dir_all(&data).unwrap();
        rustix::mount::mount(&device, &data, "ext4", MountFlags::empty(), None).unwrap();
        Self { data }
    }

    /// Fills it, further than it is filled already, so far that `left` bytes can still be written.
    fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(&self.data).unwrap();
        let there = stat.f_bavail * stat.f_frsize;
        let mut filler = File::options().create(true).append(true).open(self.data.join("filler")).unwrap();
        let mut zeros = io::repeat(0).take(there.saturating_sub(left));
        match io::copy(&mut zeros, &mut filler).and_then(|_| filler.flush()) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull && left == 0 => {}
            done => done.unwrap(),
        }
        filler.sync_all().unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.data.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A child of another test that is not its program yet may hold what was open here.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let unmounted = loop {
            match rustix::mount::unmount(&self.data, UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) if std::time::Instant::now() < until => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                other => break other,
            }
        };
        assert!(std::thread::panicking() || unmounted.is_ok(), "{unmounted:?}");
    }
}

const NO_SPACE: [&str; 2] = ["No space left on device", "free some"];

fn image() -> Image {
    Image::new(&[files(&[("etc/greeting", b"hello"), ("f", &noise(10 << 20, 8))])])
}

#[test]
fn a_pull_onto_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let place = Place::new();
    let disk = Disk::new(&place, 64);
    let registry = Registry::of(image());
    let name = registry.name("bad");
    place.goes_on(&registry);
    // No room at all; for a part of the download; for the download and a part of what it unpacks to.
    for left in [0, 4 << 20, 14 << 20] {
        disk.fill(left);
        place.ends(1, &["pull", "-q", "--plain-http", &name], &NO_SPACE);
        // It can be looked at and cleaned up while it is full.
        place.site.ok(&["images"]);
        place.site.ok(&["prune", "-f"]);
        disk.free();
        place.site.ok(&["pull", "-q", "--plain-http", &name]);
        place.is_whole(&name, "hello");
        place.site.ok(&["rmi", &name]);
        place.goes_on(&registry);
    }
    // What had come is not fetched again.
    disk.fill(4 << 20);
    place.ends(1, &["pull", "-q", "--plain-http", &name], &NO_SPACE);
    disk.free();
    assert_eq!(place.partials(), 1);
    place.site.ok(&["pull", "-q", "--plain-http", &name]);
    let last = registry.log().pop().unwrap();
    assert!(last.from.is_some_and(|from| from > 1 << 20), "{last:?}");
    place.is_whole(&name, "hello");
}

#[test]
fn a_full_disk_can_be_emptied() {
    let place = Place::new();
    // An image of this program is there packed, unpacked, and as what it was made of.
    let program = fs::metadata(env!("CARGO_BIN_EXE_sextant")).unwrap().len();
    let disk = Disk::new(&place, 100 + 4 * (program >> 20));
    let registry = Registry::of(image());
    let (good, bad) = (registry.name("good"), registry.name("bad"));
    place.site.ok(&["pull", "-q", "--plain-http", &good]);
    place.site.ok(&["pull", "-q", "--plain-http", &bad]);
    place.site.program("tool:v1");
    place.site.ended_container("over", "tool:v1", &[]);
    disk.fill(0);
    place.site.ok(&["rm", "over"]);
    // Again: removing the container made room.
    disk.fill(0);
    place.site.ok(&["rmi", &good]);
    place.site.ok(&["rmi", &bad]);
    place.site.ok(&["prune", "-af"]);
    place.nothing_is_left();
    place.goes_on(&registry);
}

#[test]
fn a_run_on_a_full_disk_says_so_and_leaves_nothing() {
    let place = Place::new();
    let disk = Disk::new(&place, 64);
    let registry = Registry::of(image());
    let name = registry.name("good");
    place.site.ok(&["pull", "-q", "--plain-http", &name]);
    let run = ["run", "--rm", "-q", "--network", "none", &name, "/nothing"];
    // The first container of an instance, and one when all directories are there already.
    for _ in 0..2 {
        disk.fill(0);
        let ended = place.site.run(&run);
        assert!(ended.code == 125 && ended.err.starts_with("sextant: cannot "), "{ended:?}");
        assert_eq!(ended.err.lines().count(), 1, "{ended:?}");
        assert!(NO_SPACE.iter().all(|word| ended.err.contains(word)), "{ended:?}");
        assert_eq!(place.site.ok(&["ps", "-aq"]), "");
        disk.free();
        place.is_whole(&name, "hello");
        let ended = place.site.run(&run);
        assert!(ended.code == 127 && ended.err.contains("/nothing"), "{ended:?}");
    }
    place.site.ok(&["rmi", &name]);
    place.goes_on(&registry);
}
