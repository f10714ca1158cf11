//! A file system of the bench's own, as Debian makes it, in a sparse file.
//!
//! The machine's own would do if nobody else used it. What anybody removed in the last 40 s makes creating files dear
//! where ext4 has no journal (it looks at each inode that became free lately), and removing millions of files takes
//! longer than the bench; this goes at once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::program::quiet;

/// What is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Ext4,
    /// Files can share blocks.
    Xfs,
    /// Subvolumes, too.
    Btrfs,
}

/// Mounted until it is dropped.
pub(crate) struct Disk {
    file: PathBuf,
    device: PathBuf,
    place: tempfile::TempDir,
}

impl Disk {
    /// Makes one of so many bytes in `cache`, and mounts it.
    pub(crate) fn new(cache: &Path, kind: Kind, bytes: u64) -> Result<Self> {
        let place = tempfile::Builder::new().prefix("sextant-bench-").tempdir_in("/tmp")?;
        // There may be several.
        let name = place.path().file_name().unwrap_or_default().to_string_lossy();
        let mut disk = Self { file: cache.join(format!("{name}.img")), device: PathBuf::new(), place };
        File::create(&disk.file)?.set_len(bytes)?;
        // Through the host's page cache all would be copied once more, by kernel threads that want the same cores, and
        // only whoever syncs would wait for it.
        let mut losetup = Command::new("/usr/sbin/losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]).arg(&disk.file);
        disk.device = PathBuf::from(quiet(&mut losetup)?.trim());
        let (program, args): (_, &[_]) = match kind {
            // Nothing is left to be done while others are measured.
            Kind::Ext4 => {
                ("mkfs.ext4", &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"])
            }
            Kind::Xfs => ("mkfs.xfs", &["-q", "-K", "-m", "reflink=1"]),
            Kind::Btrfs => ("mkfs.btrfs", &["-q", "-K"]),
        };
        let mut mkfs = Command::new(Path::new("/usr/sbin").join(program));
        mkfs.args(args);
        quiet(mkfs.arg(&disk.device))?;
        quiet(Command::new("mount").arg(&disk.device).arg(disk.place()))?;
        Ok(disk)
    }

    pub(crate) fn place(&self) -> &Path {
        self.place.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever a failure has left mounted below goes along: else nothing would go. What is not written yet need not be.
        detach_below(self.place());
        if !self.device.as_os_str().is_empty()
            && let Err(e) = quiet(Command::new("/usr/sbin/losetup").arg("-d").arg(&self.device))
        {
            eprintln!("warning: {e}");
        }
        let _ = fs::remove_file(&self.file);
    }
}

/// Takes away what is mounted at `dir` and below; what is in use goes with its last user.
pub(crate) fn detach_below(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    for place in places.filter(|place| place.starts_with(dir)).collect::<Vec<_>>().iter().rev() {
        let _ = rustix::mount::unmount(place, rustix::mount::UnmountFlags::DETACH);
    }
}
