//! A path within a volume, for a container: found without a link that leads out, and held by a mount that no link can move.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use kernel::path::Dangling;
use rustix::fs::{FileType, Mode, OFlags, open};

/// Mounts what `inner` means inside `volume` at `at`; it is made as a directory where there is nothing.
pub(super) fn bind(volume: &Path, inner: &str, at: &Path) -> Result<(), String> {
    let failed = |act: &str, what: &Path, why: &dyn std::fmt::Display| {
        format!("cannot {act} {}: {why}", what.display())
    };
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(|e| failed("open", volume, &e))?;
    let found = find(&root, inner).map_err(|e| failed("find", Path::new(inner), &e))?;
    let stat = rustix::fs::fstat(&found).map_err(|e| failed("read", Path::new(inner), &e))?;
    let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    // One of a container before this one.
    kernel::mount::detach(at).map_err(|e| e.to_string())?;
    make(at, is_directory).map_err(|e| failed("make", at, &e))?;
    let tree = kernel::mount::clone_tree(found.as_fd(), c"", true)
        .map_err(|e| failed("clone", Path::new(inner), &e))?;
    let target = open(at, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let target = target.map_err(|e| failed("open", at, &e))?;
    kernel::mount::attach(tree, target).map_err(|e| failed("mount at", at, &e))
}

fn find(root: &OwnedFd, inner: &str) -> rustix::io::Result<OwnedFd> {
    let path = CString::new(Path::new(inner).as_os_str().as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?;
    match kernel::path::open_c(root, &path, OFlags::PATH) {
        Err(rustix::io::Errno::NOENT) => kernel::path::make_dirs_c(root, &path, Dangling::Refused),
        found => found,
    }
}

/// An empty directory or file, to mount on.
fn make(at: &Path, is_directory: bool) -> std::io::Result<()> {
    let is_right = |meta: std::fs::Metadata| meta.is_dir() == is_directory;
    if at.symlink_metadata().is_ok_and(is_right) {
        return Ok(());
    }
    if let Some(parent) = at.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(parent)?;
    }
    match is_directory {
        true => {
            drop(std::fs::remove_file(at));
            DirBuilder::new().mode(0o750).create(at)
        }
        false => {
            drop(std::fs::remove_dir(at));
            File::create_new(at).map(drop)
        }
    }
}
