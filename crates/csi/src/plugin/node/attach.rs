//! Mounts at paths: attached, told apart from what is no mount, detached.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use grpc::{Code, Failure};
use kernel::mount::{self, Attributes};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use crate::plugin::text::c_path;

/// Whether something is mounted at a path, as this process sees it.
///
/// # Errors
/// It cannot be told: a file system that has broken down answers nothing, and is mounted all the same.
pub(super) fn is_mount(path: &Path) -> Result<bool, Failure> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    match statx(CWD, path, flags, StatxFlags::TYPE) {
        Ok(told) => Ok(told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(e) => Err(failed("look at", path, &e)),
    }
}

/// Whether what a mount goes on is there: a directory, or a file for a block device.
///
/// # Errors
/// Something else is.
pub(super) fn is_there(path: &Path, block: bool) -> Result<bool, Failure> {
    let there = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other.map_err(|e| failed("look at", path, &e))?.file_type(),
    };
    // A symbolic link would lead the volume elsewhere.
    if if block { there.is_file() } else { there.is_dir() } {
        return Ok(true);
    }
    let wanted = if block { "file" } else { "directory" };
    Err(Failure::precondition(format!("{} is there and is no {wanted}: remove it", path.display())))
}

/// Makes what a mount goes on, where it is not there.
pub(super) fn make(path: &Path, block: bool) -> Result<(), Failure> {
    let made = if block {
        fs::File::options().write(true).create_new(true).open(path).map(drop)
    } else {
        fs::DirBuilder::new().mode(0o750).create(path)
    };
    match made {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("make", path, &e)),
        _ => Ok(()),
    }
}

fn failed(act: &str, path: &Path, cause: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot {act} {}: {cause}", path.display()))
}

/// Removes what [`make`] made. What is in a directory stays, and is told.
pub(super) fn unmake(path: &Path) -> Result<(), Failure> {
    let removed = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(there) if there.is_dir() => fs::remove_dir(path),
        _ => fs::remove_file(path),
    };
    removed.map_err(|e| failed("remove", path, &e))
}

/// Attaches a mount at a path, with its attributes.
pub(super) fn attach(mount: &OwnedFd, path: &Path, attributes: Attributes) -> Result<(), Failure> {
    let say = |e: &dyn std::fmt::Display| failed("mount on", path, e);
    if !attributes.is_empty() {
        mount::set_attributes(mount, attributes, false, None).map_err(|e| say(&e))?;
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(CWD, path, flags, Mode::empty()).map_err(|e| say(&e))?;
    mount::attach(mount, &target).map_err(|e| say(&e))
}

/// A copy of what is mounted at a path, attached nowhere.
pub(super) fn copy(path: &Path) -> Result<OwnedFd, Failure> {
    mount::clone_tree(CWD.as_fd(), &c_path(path)?, false)
        .map_err(|e| failed("mount again what is on", path, &e))
}

/// Unmounts what is at a path. Nothing there is unmounted. The kernel is not asked before: of a file system that has broken down
/// it says nothing.
pub(super) fn detach(path: &Path) -> Result<(), Failure> {
    match unmount(path, UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT | Errno::NOTDIR) => Ok(()),
        Err(Errno::BUSY) => {
            let message =
                format!("{} is in use: end the processes that have files open there", path.display());
            Err(Failure::new(Code::FailedPrecondition, message))
        }
        Err(e) => Err(failed("unmount", path, &e)),
    }
}
