//! An ext4 of the bench's own, as Debian makes it, in a sparse file.
//!
//! The machine's own would do if nobody else used it. What anybody removed in the last 40 s makes creating files dear
//! where ext4 has no journal (it looks at each inode that became free lately), and removing millions of files takes
//! longer than the bench; this goes at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::program::quiet;

/// What a round of all sides and compressions stores, with room to spare.
const ROUND: u64 = 8 << 30;

/// Mounted until it is dropped.
pub(super) struct Disk {
    file: PathBuf,
    device: PathBuf,
    place: tempfile::TempDir,
}

impl Disk {
    /// Makes it in `cache`, large enough for so many rounds, and mounts it.
    pub(super) fn new(cache: &Path, rounds: u32) -> Result<Self> {
        let mut disk = Self {
            file: cache.join(format!("disk-{}.img", std::process::id())),
            device: PathBuf::new(),
            place: tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/tmp")?,
        };
        File::create(&disk.file)?.set_len(ROUND * (u64::from(rounds) + 1))?;
        // Through the host's page cache all would be copied once more, by kernel threads that want the same cores, and
        // only whoever syncs would wait for it.
        let mut losetup = Command::new("/usr/sbin/losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]).arg(&disk.file);
        disk.device = PathBuf::from(quiet(&mut losetup)?.trim());
        let mut mkfs = Command::new("/usr/sbin/mkfs.ext4");
        // Nothing is left to be done while others are measured.
        mkfs.args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]);
        quiet(mkfs.arg(&disk.device))?;
        quiet(Command::new("mount").arg(&disk.device).arg(disk.place()))?;
        Ok(disk)
    }

    pub(super) fn place(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // `Yard` took away what is mounted below. What is not written yet need not be.
        if let Err(e) = quiet(Command::new("umount").arg(self.place())) {
            eprintln!("warning: {e}");
        }
        if !self.device.as_os_str().is_empty()
            && let Err(e) = quiet(Command::new("/usr/sbin/losetup").arg("-d").arg(&self.device))
        {
            eprintln!("warning: {e}");
        }
        let _ = fs::remove_file(&self.file);
    }
}
