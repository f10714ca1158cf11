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
        Disk::on(folder, &[bytes])
    }

    /// Makes one in `folder`, on devices of so many bytes each: all that is on it is on two of several.
    pub(crate) fn on(folder: &Path, devices: &[u64]) -> Disk {
        let place = folder.join("disk");
        let attach = |(number, &bytes): (usize, &u64)| {
            let image = folder.join(format!("disk{number}.img"));
            let backing = File::options().read(true).write(true).create_new(true).open(image).unwrap();
            backing.set_len(bytes).unwrap();
            let options = loopdev::Options { autoclear: true, ..loopdev::Options::default() };
            loopdev::attach(&backing, "sextant-test-btrfs", options).unwrap()
        };
        let attached: Vec<_> = devices.iter().enumerate().map(attach).collect();
        let paths = attached.iter().map(|(path, _held)| path);
        let kinds: &[&str] = if devices.len() > 1 { &["-d", "raid1", "-m", "raid1"] } else { &[] };
        // It tells the kernel which devices belong together, too.
        let made = Command::new("mkfs.btrfs").arg("-q").args(kinds).args(paths).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let source = CString::new(attached[0].0.as_os_str().as_bytes()).unwrap();
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
