//! Removing a directory tree that a container may have filled: deep, wide, full of links, perhaps with a mount in it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::{Act as _, Error};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Below this depth a directory is moved up into the top of the tree first, so that neither the stack nor the
/// number of open files depends on what is in it.
const DEPTH: usize = 32;

/// Removes `path` and all in it. Never follows a link, never enters a mount; goes on past what it cannot remove and
/// returns the first such error.
pub fn remove(path: &Path) -> crate::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new("remove", path.display().to_string(), Errno::INVAL));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => parent,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(e) => return Err(e).act("open", || parent.display().to_string()),
    };
    let name = crate::process::cstring(std::os::unix::ffi::OsStrExt::as_bytes(name))?;
    let top = match enter(parent.as_fd(), &name) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            return unlink(parent.as_fd(), &name, AtFlags::empty())
                .act("remove", || path.display().to_string());
        }
        Err(e) => return Err(e).act("open", || path.display().to_string()),
    };
    let mut removal = Removal { top: top.as_fd(), shown: path, moved: 0, first: None };
    loop {
        let before = removal.moved;
        removal.empty(top.as_fd(), 0);
        if removal.first.is_some() || removal.moved == before {
            break;
        }
    }
    if let Some(error) = removal.first {
        return Err(error);
    }
    unlink(parent.as_fd(), &name, AtFlags::REMOVEDIR).act("remove", || path.display().to_string())
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    shown: &'a Path,
    moved: u64,
    first: Option<Error>,
}

impl Removal<'_> {
    fn empty(&mut self, dir: BorrowedFd<'_>, depth: usize) {
        match list(dir) {
            Ok(entries) => {
                for (name, kind) in entries {
                    if let Err(e) = self.remove(dir, &name, kind, depth) {
                        self.note(&name, e);
                    }
                }
            }
            Err(e) => self.note(c".", e),
        }
    }

    fn remove(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> rustix::io::Result<()> {
        if !matches!(kind, FileType::Directory | FileType::Unknown) {
            return unlink(dir, name, AtFlags::empty());
        }
        // An empty directory needs no visit.
        match unlink(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(Errno::NOTDIR) => return unlink(dir, name, AtFlags::empty()),
            other => return other,
        }
        if depth >= DEPTH {
            return self.move_up(dir, name);
        }
        let below = enter(dir, name)?;
        self.empty(below.as_fd(), depth + 1);
        match unlink(dir, name, AtFlags::REMOVEDIR) {
            // Why it is not empty has been noted already, or something was moved up and it will be.
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.first.is_some() => Ok(()),
            other => other,
        }
    }

    /// Renames a deep directory into the top of the tree, under a name that nothing there has.
    fn move_up(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<()> {
        use rustix::fs::{RenameFlags, renameat_with};
        let mut number = self.moved;
        loop {
            let target = format!(".sextant-removing-{number}");
            match renameat_with(dir, name, self.top, target.as_str(), RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => number += 1,
                Err(e) => return Err(e),
                Ok(()) => {
                    self.moved = number + 1;
                    return Ok(());
                }
            }
        }
    }

    fn note(&mut self, name: &CStr, e: Errno) {
        let shown = self.shown.display();
        self.first.get_or_insert_with(|| {
            let why =
                if matches!(e, Errno::XDEV | Errno::BUSY) { " (something is mounted there)" } else { "" };
            Error::new("remove", format!("{}{why} in {shown}", name.to_string_lossy()), e)
        });
    }
}

/// Opens the directory `name` of `dir` itself: no link, no other mount.
fn enter(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    loop {
        match rustix::fs::openat2(dir, name, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn list(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(CString, FileType)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            entries.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(entries)
}

fn unlink(dir: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
