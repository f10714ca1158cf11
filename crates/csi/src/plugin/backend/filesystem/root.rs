//! The root of a volume's mounted file system, which is known by a path.
//!
//! A path proves nothing: where somebody has unmounted the volume, what is below it answers, and that may be the host's own file
//! system. Freezing that would stop the machine, and a btrfs would become as small as the volume.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use grpc::Failure;
use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::kind::Kind;
use crate::plugin::pool::record::Volume;

/// What statfs(2) calls the file systems.
const EXT4_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;
const BTRFS_MAGIC: u64 = 0x9123_683e;

/// Opens the root of a volume that is mounted at `path` from one of its devices, whose numbers `is_its` knows.
///
/// # Errors
/// `FailedPrecondition` where something else is there.
pub(in crate::plugin::backend) fn open(
    path: &Path,
    volume: &Volume,
    kind: Kind,
    is_its: impl Fn(u64) -> bool,
) -> Result<OwnedFd, Failure> {
    let failed = |e: Errno| Failure::internal(format!("cannot look at {}: {e}", path.display()));
    let missing = |what: &str| {
        let hint = "somebody has unmounted it: unpublish and unstage the volume, and use it anew";
        Failure::precondition(format!("volume {} is not at {}: {what}; {hint}", volume.id, path.display()))
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing("there is no such directory")),
        other => other.map_err(failed)?,
    };
    let told = rustix::fs::statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS).map_err(failed)?;
    if !told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
        return Err(missing("nothing is mounted there"));
    }
    let magic = match kind {
        Kind::Block => return Err(missing("it has no file system")),
        Kind::Ext4 => EXT4_MAGIC,
        Kind::Xfs => XFS_MAGIC,
        Kind::Btrfs => BTRFS_MAGIC,
    };
    // Its type has another size, and may have a sign, on other machines.
    if rustix::fs::fstatfs(&root).map_err(failed)?.f_type as u64 & 0xffff_ffff != magic {
        return Err(missing("another kind of file system is mounted there"));
    }
    let device = match kind {
        Kind::Btrfs => number(&kernel::grow::btrfs_device(root.as_fd())?),
        _ => Some(rustix::fs::makedev(told.stx_dev_major, told.stx_dev_minor)),
    };
    match device.filter(|&device| is_its(device)) {
        Some(_) => Ok(root),
        None => Err(missing("what is mounted there is on another device")),
    }
}

/// The number of the device at a path.
pub(in crate::plugin::backend) fn number(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|there| there.rdev())
}
