//! Quota groups of subvolumes: those of level 0, of which each subvolume has its own.
//!
//! Requests change them; sysfs tells what they count now, which the quota tree does only when a transaction is committed.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::ioctl::{NoArg, Opcode, Setter, Updater, ioctl, opcode};

use super::BTRFS;
use crate::{Act, Error, Result};

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct Control {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct Create {
    create: u64,
    group: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct Limit {
    group: u64,
    flags: u64,
    referenced: u64,
    exclusive: u64,
    reserved: [u64; 2],
}

/// `struct btrfs_ioctl_quota_rescan_args`.
#[repr(C)]
struct Rescan {
    flags: u64,
    progress: u64,
    reserved: [u64; 6],
}

const QUOTA_CTL: Opcode = opcode::read_write::<Control>(BTRFS, 40);
const QGROUP_CREATE: Opcode = opcode::write::<Create>(BTRFS, 42);
/// The kernel's own direction, though it only reads.
const QGROUP_LIMIT: Opcode = opcode::read::<Limit>(BTRFS, 43);
const QUOTA_RESCAN: Opcode = opcode::write::<Rescan>(BTRFS, 44);
const QUOTA_RESCAN_WAIT: Opcode = opcode::none(BTRFS, 46);

const ENABLE: u64 = 1;
const MAX_REFERENCED: u64 = 1;

/// How a file system counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quotas {
    /// Not at all.
    Off,
    /// By who made a block alone: what a snapshot shares counts nowhere.
    Simple,
    /// By who has a block.
    Full {
        /// What it has counted is not true until all is counted again.
        inconsistent: bool,
    },
}

/// What a quota group counts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// What is on the disk, shared with others or not.
    pub referenced: u64,
    /// What nobody else has.
    pub exclusive: u64,
    /// What was written and is not counted yet.
    pub reserved: u64,
    /// How much it may have, where that is limited.
    pub limit: Option<u64>,
}

/// Has the btrfs that `directory` is on count in full. What is there already is counted at once, in the background.
///
/// # Errors
/// `EPERM`; `EROFS`.
pub fn enable(directory: impl AsFd) -> Result<()> {
    let mut control = Control { command: ENABLE, status: 0 };
    // SAFETY: the request's own structure; live for the call.
    unsafe { ioctl(directory, Updater::<QUOTA_CTL, Control>::new(&mut control)) }
        .act("enable", || "the quotas of a btrfs file system")
}

/// Begins to count all anew. One that runs already is as good.
///
/// # Errors
/// `ENOTCONN` where quotas are off.
pub fn rescan(directory: impl AsFd) -> Result<()> {
    let begin = Rescan { flags: 0, progress: 0, reserved: [0; 6] };
    // SAFETY: the request's own structure, which the kernel only reads.
    match unsafe { ioctl(directory, Setter::<QUOTA_RESCAN, Rescan>::new(begin)) } {
        Err(Errno::INPROGRESS) => Ok(()),
        other => other.act("count", || "what subvolumes have"),
    }
}

/// Waits until a counting that runs has ended.
///
/// # Errors
/// `EINTR`.
pub fn wait_for_rescan(directory: impl AsFd) -> Result<()> {
    // SAFETY: the request has no argument.
    unsafe { ioctl(directory, NoArg::<QUOTA_RESCAN_WAIT>::new()) }
        .act("wait for", || "what subvolumes have to be counted")
}

/// Limits what the subvolume `id` may have to `bytes`, of data and of its own metadata. Less than it has is no error:
/// nothing more can be written then. `u64::MAX` takes the limit away.
///
/// # Errors
/// `ENOTCONN` where quotas are off; `ENOENT` where there is no such group.
pub fn limit(directory: impl AsFd, id: u64, bytes: u64) -> Result<()> {
    let object = || format!("the subvolume {id} to {bytes} bytes");
    let wanted =
        Limit { group: id, flags: MAX_REFERENCED, referenced: bytes, exclusive: 0, reserved: [0; 2] };
    // SAFETY: the request's own structure, which the kernel only reads.
    let rc = unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), QGROUP_LIMIT as _, &raw const wanted) };
    let done = if rc < 0 { Err(crate::process::last_errno()) } else { Ok(()) };
    done.act("limit", object)
}

/// Removes the group of the subvolume `id`, which is gone. One that is not there is no error.
///
/// # Errors
/// `EBUSY` while the subvolume is there.
pub fn forget(directory: impl AsFd, id: u64) -> Result<()> {
    let remove = Create { create: 0, group: id };
    // SAFETY: the request's own structure, which the kernel only reads.
    match unsafe { ioctl(directory, Setter::<QGROUP_CREATE, Create>::new(remove)) } {
        Err(Errno::NOENT) => Ok(()),
        other => other.act("remove", || format!("the quota group of the subvolume {id}")),
    }
}

fn folder(uuid: &str) -> PathBuf {
    Path::new("/sys/fs/btrfs").join(uuid).join("qgroups")
}

/// A file of sysfs; none where it is not there.
fn told(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        // What goes while it is read.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::NODEV) => Ok(None),
        Err(e) => Err(Error::new("read", path.display().to_string(), e)),
    }
}

/// How the mounted btrfs of this UUID counts.
///
/// # Errors
/// sysfs cannot be read.
pub fn quotas(uuid: &str) -> Result<Quotas> {
    counting(&folder(uuid))
}

/// The same of its folder for groups, which is there while it counts. Kernels before 6.1 say nothing in it but what groups
/// have, and those before 6.7 know one way only.
fn counting(folder: &Path) -> Result<Quotas> {
    if !folder.is_dir() || told(&folder.join("enabled"))?.is_some_and(|enabled| enabled != "1") {
        return Ok(Quotas::Off);
    }
    if told(&folder.join("mode"))?.is_some_and(|mode| mode == "squota") {
        return Ok(Quotas::Simple);
    }
    let inconsistent = told(&folder.join("inconsistent"))?.is_some_and(|answer| answer == "1");
    Ok(Quotas::Full { inconsistent })
}

/// Has the mounted btrfs go on counting when a large tree is removed, until it is unmounted: by default it gives up from
/// three levels on. Kernels before 6.1 never give up.
///
/// # Errors
/// sysfs cannot be written.
pub fn keep_counting(uuid: &str) -> Result<()> {
    /// More levels than a tree has.
    const LEVELS: &str = "8";
    let path = folder(uuid).join("drop_subtree_threshold");
    match fs::write(&path, LEVELS) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.act("write", || path.display().to_string()),
    }
}

/// What the subvolume `id` of the mounted btrfs of this UUID has; none where nobody counts it.
///
/// # Errors
/// sysfs cannot be read.
pub fn group(uuid: &str, id: u64) -> Result<Option<Group>> {
    let folder = folder(uuid).join(format!("0_{id}"));
    let number = |name: &str| {
        let path = folder.join(name);
        let invalid = || Error::new("read", path.display().to_string(), Errno::INVAL);
        told(&path)?.map(|text| text.parse::<u64>().map_err(|_| invalid())).transpose()
    };
    let all = ["referenced", "exclusive", "rsv_data", "max_referenced"].map(number);
    let [Some(referenced), Some(exclusive), Some(reserved), Some(limit)] =
        all.into_iter().collect::<Result<Vec<_>>>()?[..]
    else {
        return Ok(None);
    };
    // Flags that are not set leave a limit that is none.
    let flags = told(&folder.join("limit_flags"))?;
    let flags = flags.as_deref().and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    let is_limited = flags.is_some_and(|flags| flags & MAX_REFERENCED != 0);
    Ok(Some(Group { referenced, exclusive, reserved, limit: is_limited.then_some(limit) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_told_by_any_kernel() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(counting(&folder.path().join("none")).unwrap(), Quotas::Off);
        for (file, text, wanted) in [
            ("0_5", "", Quotas::Full { inconsistent: false }),
            ("inconsistent", "1\n", Quotas::Full { inconsistent: true }),
            ("mode", "squota\n", Quotas::Simple),
            ("enabled", "0\n", Quotas::Off),
        ] {
            fs::write(folder.path().join(file), text).unwrap();
            assert_eq!(counting(folder.path()).unwrap(), wanted, "{file}");
        }
    }
}
