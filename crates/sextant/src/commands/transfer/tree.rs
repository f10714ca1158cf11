use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2, readlinkat};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};

/// As many links in one name as the kernel follows.
const HOPS: usize = 40;

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    Symlink,
    Other,
}

/// Files below a root: a container's, or this machine's.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    container: bool,
}

impl Tree {
    /// This machine's files; paths begin at `root`, the working directory.
    pub(super) fn here(root: OwnedFd) -> Self {
        Self { root, container: false }
    }

    /// A container's files; no path leads out of `root`.
    pub(super) fn container(root: OwnedFd) -> Self {
        Self { root, container: true }
    }

    /// Whether somebody else filled it, or may be changing it now.
    pub(super) fn is_container(&self) -> bool {
        self.container
    }

    /// Opens a path as its user means it: links are followed, in a container inside its root.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = match self.container {
            true => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            false => ResolveFlags::empty(),
        };
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        open(self.root.as_fd(), path, flags, resolve)
    }

    /// Opens what an entry of an archive names, below the directory `base` that is open as `top`.
    ///
    /// In a container the links that are there are followed, inside its root: its `/bin` may be one. Here no link is:
    /// it may have come out of the archive.
    pub(super) fn open_entry(
        &self,
        (base, top): (&Path, &OwnedFd),
        name: &[u8],
        flags: OFlags,
    ) -> rustix::io::Result<OwnedFd> {
        if self.container {
            return self.open(&base.join(OsStr::from_bytes(name)), flags);
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let name = if name.is_empty() { b"." } else { name };
        open(top.as_fd(), Path::new(OsStr::from_bytes(name)), flags, resolve)
    }

    /// What is at `path`: itself, or with `follow` what it leads to.
    pub(super) fn kind(&self, path: &Path, follow: bool) -> Result<Option<Kind>> {
        let flags = if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW };
        let file = match self.open(path, flags) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.context(|| format!("look at {}", path.display()))?,
        };
        let stat = fstat(&file).context(|| format!("look at {}", path.display()))?;
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        }))
    }

    /// The path with a link at its end followed, even to nothing: what is written there is written where it leads.
    pub(super) fn settle(&self, path: &Path) -> Result<PathBuf> {
        // A trailing slash or dot would follow the link unseen.
        let mut path: PathBuf = path.components().collect();
        for _ in 0..HOPS {
            let link = match self.open(&path, OFlags::PATH | OFlags::NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(path),
                other => other.context(|| format!("look at {}", path.display()))?,
            };
            let target = match readlinkat(&link, "", Vec::new()) {
                Ok(target) => target.into_bytes(),
                // It is no link.
                Err(_) => return Ok(path),
            };
            let parent = path.parent().unwrap_or(Path::new("."));
            path = parent.join(OsStr::from_bytes(&target));
        }
        Err(Failure::new(format!(
            "cannot look at {}: too many links, one leading to the next",
            path.display()
        )))
    }
}

fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    // A rename elsewhere in the tree can make the kernel give up (EAGAIN): it says to try again.
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A path to what is open, for the calls that take no descriptor opened as a path.
pub(super) fn by_descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}
