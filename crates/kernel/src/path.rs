//! Paths inside a root that somebody else filled: resolved by the kernel so that no link leads out.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::{Act, Result};

/// How every path inside a foreign root is resolved: links stay within it, `/proc`'s magic links are refused.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens `path` inside `root`. Close-on-exec is added.
///
/// Allocates nothing when it succeeds.
pub fn open_in(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    open_raw(root, path, flags, mode).act("open", || format!("{} inside the root", path.display()))
}

fn open_raw(root: impl AsFd, path: &Path, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    // A rename elsewhere in the tree can make the kernel give up (EAGAIN): it says to try again.
    loop {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, mode, INSIDE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens a C-string path inside `root`, for the code between clone and exec that must not allocate.
pub fn open_c(root: impl AsFd, path: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    loop {
        match openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), INSIDE) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Makes `path` and all its parents as directories inside `root` (mode 0755) and opens the last one as a path.
///
/// Links on the way are followed inside the root; one that points at nothing is an error.
pub fn make_dirs_c(root: impl AsFd, path: &CStr) -> rustix::io::Result<OwnedFd> {
    match open_c(root.as_fd(), path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut dir = open_c(root.as_fd(), c".", OFlags::PATH | OFlags::DIRECTORY)?;
    let bytes = path.to_bytes();
    let mut from = 0;
    while from < bytes.len() {
        let to = bytes[from..].iter().position(|&b| b == b'/').map_or(bytes.len(), |n| from + n);
        let name = &bytes[from..to];
        from = to + 1;
        if name.is_empty() || name == b"." {
            continue;
        }
        // The path up to here, so that `..` and links in it are resolved inside the root and not one by one.
        let mut prefix = [0_u8; libc::PATH_MAX as usize];
        prefix.get_mut(..to).ok_or(Errno::NAMETOOLONG)?.copy_from_slice(&bytes[..to]);
        let prefix = CStr::from_bytes_until_nul(&prefix).map_err(|_| Errno::NAMETOOLONG)?;
        dir = match open_c(root.as_fd(), prefix, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                open_c(root.as_fd(), prefix, OFlags::PATH | OFlags::DIRECTORY)?
            }
            other => other?,
        };
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (std::path::PathBuf, OwnedFd) {
        let dir = std::env::temp_dir().join(format!(
            "sextant-path-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&dir).unwrap();
        let fd = std::fs::File::open(&dir).unwrap().into();
        (dir, fd)
    }

    #[test]
    fn links_stay_inside() {
        let (dir, fd) = root();
        symlink("/etc", dir.join("escape")).unwrap();
        symlink("../../../../etc", dir.join("dots")).unwrap();
        make_dirs_c(&fd, c"/a/b//c").unwrap();
        assert!(dir.join("a/b/c").is_dir());
        // The links name /etc *inside* the root, which is not there.
        assert_eq!(make_dirs_c(&fd, c"/escape/sub").unwrap_err(), Errno::NOENT);
        assert!(open_in(&fd, Path::new("dots/passwd"), OFlags::RDONLY, Mode::empty()).is_err());
        std::fs::create_dir(dir.join("etc")).unwrap();
        make_dirs_c(&fd, c"/escape/sub").unwrap();
        assert!(dir.join("etc/sub").is_dir());
        assert!(!Path::new("/etc/sub").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
