//! A path within a volume, for a container: found without a link that leads out, and held by a mount that no link can move.

use std::ffi::CString;
use std::fs::{DirBuilder, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

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
        Err(rustix::io::Errno::NOENT) => make_inner(root, inner),
        found => found,
    }
}

/// What is not there is made, open to whom the volume is: whoever a container runs as.
fn make_inner(root: &OwnedFd, inner: &str) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(root)?.st_mode & 0o2777);
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    let mut dir = kernel::path::open_c(root, c".", directory)?;
    let mut path = PathBuf::new();
    for part in Path::new(inner).components() {
        path.push(part);
        let here = CString::new(path.as_os_str().as_bytes()).map_err(|_| rustix::io::Errno::INVAL)?;
        dir = match kernel::path::open_c(root, &here, directory) {
            Err(rustix::io::Errno::NOENT) => {
                rustix::fs::mkdirat(&dir, part.as_os_str(), mode)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let new = rustix::fs::openat(&dir, part.as_os_str(), flags, Mode::empty())?;
                // mkdir heeds the umask.
                rustix::fs::fchmod(&new, mode)?;
                new
            }
            found => found?,
        };
    }
    Ok(dir)
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn what_is_made_is_as_open_as_the_volume_and_stays_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::set_permissions(&volume, Permissions::from_mode(0o2777)).unwrap();
        let root = open(&volume, OFlags::PATH, Mode::empty()).unwrap();
        find(&root, "a/b").unwrap();
        for made in ["a", "a/b"] {
            let mode = fs::metadata(volume.join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o2777, "{made}");
        }
        // What is there is found as it is.
        fs::set_permissions(volume.join("a"), Permissions::from_mode(0o700)).unwrap();
        find(&root, "a/c").unwrap();
        assert_eq!(fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o700);
        // Links mean what they do to the pod.
        symlink("/x", volume.join("dangling")).unwrap();
        find(&root, "dangling").unwrap_err();
        symlink(dir.path(), volume.join("out")).unwrap();
        find(&root, "out/y").unwrap_err();
        symlink("/a", volume.join("in")).unwrap();
        find(&root, "in/z").unwrap();
        assert!(volume.join("a/z").is_dir());
        let names = fs::read_dir(dir.path()).unwrap().map(|one| one.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["volume"], "nothing is beside it");
    }
}
