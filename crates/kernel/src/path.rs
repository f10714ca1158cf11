//! Paths inside a root that somebody else filled: resolved by the kernel so that no link leads out.

mod making;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::{Act, Result};
pub use making::{Dangling, make_dirs_c, make_file_c};

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
    open_how(root.as_fd(), path, flags, INSIDE)
}

/// Opens a C-string path inside `root` that no symbolic link is part of: what it names cannot be moved by whoever may
/// write to a directory on the way but not rename one.
pub fn open_plain_c(root: impl AsFd, path: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    open_how(root.as_fd(), path, flags, INSIDE.union(ResolveFlags::NO_SYMLINKS))
}

/// Opens a C-string path below `dir` that crosses neither a symbolic link nor a mount point.
pub fn open_below_c(dir: impl AsFd, path: &CStr, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let below = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_XDEV);
    open_how(dir.as_fd(), path, flags, below)
}

fn open_how(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    loop {
        match openat2(dir, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Opens a regular file inside `root` for reading, whatever else its name may be made to mean: a device or a pipe of a
/// foreign root is not even opened.
pub fn open_regular(root: impl AsFd, path: &Path) -> Result<std::fs::File> {
    let say = || format!("{} inside the root", path.display());
    let place = open_in(root, path, OFlags::PATH, Mode::empty())?;
    let stat = rustix::fs::fstat(&place).act("read", say)?;
    if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(crate::Error::new("open", format!("{}: it is no file", say()), Errno::INVAL));
    }
    std::fs::File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).act("open", say)
}

/// Whether the working directory is below this process's root; if not, the way up from it leads to somebody else's
/// (CVE-2024-21626). Allocates nothing.
pub fn cwd_is_inside() -> rustix::io::Result<bool> {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: a buffer of the length given. The system call itself, since the C library's function goes on by other
    // means (and allocates) where the kernel says "(unreachable)".
    let rc = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    if rc < 0 { Err(crate::process::last_errno()) } else { Ok(path[0] == b'/') }
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
        make_dirs_c(&fd, c"/a/b//c", Dangling::Refused).unwrap();
        assert!(dir.join("a/b/c").is_dir());
        // The links name /etc *inside* the root, which is not there.
        assert_eq!(make_dirs_c(&fd, c"/escape/sub", Dangling::Refused).unwrap_err(), Errno::NOENT);
        assert!(open_in(&fd, Path::new("dots/passwd"), OFlags::RDONLY, Mode::empty()).is_err());
        std::fs::create_dir(dir.join("etc")).unwrap();
        make_dirs_c(&fd, c"/escape/sub", Dangling::Refused).unwrap();
        assert!(dir.join("etc/sub").is_dir());
        assert!(!Path::new("/etc/sub").exists());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn links_and_mount_points_are_crossed_only_where_they_may_be() {
        let (dir, fd) = root();
        std::fs::create_dir_all(dir.join("real/sub")).unwrap();
        symlink("real", dir.join("link")).unwrap();
        open_plain_c(&fd, c"/real/sub", OFlags::PATH).unwrap();
        assert_eq!(open_plain_c(&fd, c"link/sub", OFlags::PATH).unwrap_err(), Errno::LOOP);
        open_below_c(&fd, c"real/sub", OFlags::PATH).unwrap();
        for (path, errno) in [
            (c"link", Errno::LOOP),
            (c"../x", Errno::XDEV),
            (c"real/../../x", Errno::XDEV),
            (c"/real", Errno::XDEV),
        ] {
            assert_eq!(open_below_c(&fd, path, OFlags::PATH).unwrap_err(), errno, "{path:?}");
        }
        let slash = std::fs::File::open("/").unwrap();
        assert_eq!(open_below_c(&slash, c"proc/self", OFlags::PATH).unwrap_err(), Errno::XDEV);
        assert!(cwd_is_inside().unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        use rustix::fs::{CWD, FileType, mknodat};
        let (dir, fd) = root();
        std::fs::write(dir.join("file"), "text").unwrap();
        symlink("/file", dir.join("link")).unwrap();
        mknodat(CWD, dir.join("pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        mknodat(CWD, dir.join("device"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 3))
            .unwrap();
        for name in ["file", "link"] {
            assert_eq!(std::io::read_to_string(open_regular(&fd, Path::new(name)).unwrap()).unwrap(), "text");
        }
        for name in ["pipe", "device", "."] {
            let error = open_regular(&fd, Path::new(name)).unwrap_err().to_string();
            assert!(error.contains("it is no file"), "{error}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
