//! A btrfs of a test's own.

use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kernel::{loopdev, mount};
use rustix::mount::{UnmountFlags, unmount};

/// Mounted until it is dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Makes one of so many bytes in `folder`.
    pub(crate) fn new(folder: &Path, bytes: u64) -> Disk {
        let (image, place) = (folder.join("disk.img"), folder.join("disk"));
        File::create_new(&image).unwrap().set_len(bytes).unwrap();
        let made = Command::new("mkfs.btrfs").arg("-q").arg(&image).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let backing = File::options().read(true).write(true).open(&image).unwrap();
        let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
        let (device, _held) = loopdev::attach(&backing, "sextant-test-btrfs", options).unwrap();
        let source = CString::new(device.as_os_str().as_bytes()).unwrap();
        let made = mount::filesystem(c"btrfs", Some(&source), [], 0).unwrap();
        std::fs::create_dir(&place).unwrap();
        mount::attach(made, File::open(&place).unwrap()).unwrap();
        Disk(place)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
