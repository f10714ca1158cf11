//! Copies a directory, with nothing but system calls and the stack.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RawDir, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

/// How deep directories may lie: each takes a few kilobytes of the stack.
const DEPTH: usize = 256;

const NO_FOLLOW: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// Copies what is in the directory `from` into the directory `to`, and its owner, permissions and times too. Nothing is
/// followed, and no mount below is entered.
///
/// Allocates nothing. Each directory below another takes kilobytes of the stack, down to 256 of them.
///
/// # Errors
/// The kernel's; `ENAMETOOLONG` for directories that are deeper.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let from = rustix::fs::openat(from, c".", OFlags::RDONLY | OFlags::DIRECTORY | NO_FOLLOW, Mode::empty())?;
    let to = rustix::fs::openat(to, c".", OFlags::RDONLY | OFlags::DIRECTORY | NO_FOLLOW, Mode::empty())?;
    let stat = rustix::fs::fstat(&from)?;
    directory(&from, &to, &stat, DEPTH)
}

fn directory(from: &OwnedFd, to: &OwnedFd, stat: &Stat, depth: usize) -> rustix::io::Result<()> {
    if depth == 0 {
        return Err(Errno::NAMETOOLONG);
    }
    let mut buffer = [MaybeUninit::uninit(); 2048];
    let mut entries = RawDir::new(from.as_fd(), &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        one(from, to, name, stat.st_dev, depth)?;
    }
    extended_attributes(from, to)?;
    finish(to, c".", AtFlags::empty(), stat)
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &CStr, device: u64, depth: usize) -> rustix::io::Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    // Until its owner is the right one.
    let private = Mode::from_raw_mode(0o700);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, private)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | NO_FOLLOW;
            let below = rustix::fs::openat(to, name, flags, Mode::empty())?;
            let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
            if stat.st_dev != device {
                return finish(&below, c".", AtFlags::empty(), &stat);
            }
            directory(&source, &below, &stat, depth - 1)
        }
        FileType::RegularFile => {
            let source = rustix::fs::openat(from, name, OFlags::RDONLY | NO_FOLLOW, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_FOLLOW;
            let file = rustix::fs::openat(to, name, flags, private)?;
            while rustix::fs::sendfile(&file, &source, None, 1 << 30)? > 0 {}
            extended_attributes(&source, &file)?;
            finish(to, name, AtFlags::empty(), &stat)
        }
        FileType::Symlink => {
            // The last byte stays zero: as bytes alone a long path would be copied to the heap.
            let mut buffer = [0_u8; libc::PATH_MAX as usize];
            let room = buffer.len() - 1;
            rustix::fs::readlinkat_raw(from, name, &mut buffer[..room])?;
            let path = CStr::from_bytes_until_nul(&buffer).map_err(|_| Errno::NAMETOOLONG)?;
            rustix::fs::symlinkat(path, to, name)?;
            finish(to, name, AtFlags::SYMLINK_NOFOLLOW, &stat)
        }
        kind => {
            rustix::fs::mknodat(to, name, kind, private, stat.st_rdev)?;
            finish(to, name, AtFlags::empty(), &stat)
        }
    }
}

/// Owner, permissions and times, in the order in which one does not undo another.
fn finish(dir: &OwnedFd, name: &CStr, flags: AtFlags, stat: &Stat) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    match rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags) {
        // An owner that the user namespace does not have cannot be given away to; the copy is the container's.
        Err(Errno::INVAL | Errno::OVERFLOW | Errno::PERM) => {}
        other => other?,
    }
    if !flags.contains(AtFlags::SYMLINK_NOFOLLOW) {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
    }
    let time = |tv_sec: i64, nanoseconds: u64| Timespec { tv_sec, tv_nsec: nanoseconds as _ };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    rustix::fs::utimensat(dir, name, &times, flags)
}

/// Those that the tmpfs and the rights of the container take: labels and capabilities among them.
fn extended_attributes(from: &OwnedFd, to: &OwnedFd) -> rustix::io::Result<()> {
    let mut names = [0_u8; 2048];
    let length = match rustix::fs::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut rest = names.get(..length).unwrap_or_default();
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = rest.get(name.count_bytes() + 1..).unwrap_or_default();
        let mut value = [0_u8; 4096];
        let length = rustix::fs::fgetxattr(from, name, &mut value)?;
        let value = value.get(..length).unwrap_or_default();
        match rustix::fs::fsetxattr(to, name, value, XattrFlags::empty()) {
            Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => {}
            other => other?,
        }
    }
    Ok(())
}
