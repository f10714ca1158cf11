//! Trees of files that a workload may have filled, and may change meanwhile: copied by descriptors, so that what it puts in
//! the place of something else leads nowhere. Links are not followed, mounts not entered.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use grpc::{Code, Failure};
use kernel::tree::{Entry, walk};
use kernel::{extents, reflink};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, StatxFlags, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, copy_file_range, fchmod, fchown, fgetxattr, flistxattr, fstat, futimens,
    lgetxattr, linkat, llistxattr, lsetxattr, mkdirat, mknodat, openat, readlinkat, statx, symlinkat,
    utimensat,
};
use rustix::io::Errno;

use crate::plugin::text::c_path;

/// Files of several names whose first copy is remembered. What is beyond is copied once a name.
const LINKED: usize = 1 << 18;
/// The longest value of an extended attribute, and the longest list of their names.
const ATTRIBUTES: usize = 1 << 16;

/// What a step of a copy came to: a path as people know it, and why not.
type Step<T> = Result<T, (PathBuf, Errno)>;

/// Copies the tree at `from` to `to`, which is not there: data (shared where the file system can), holes, owners, modes,
/// times, extended attributes and hard links. What goes while it is copied is not in the copy. Everything is on the disk when
/// this returns.
pub(crate) fn tree(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new().mode(0o700).create(to).map_err(|e| failed("make", to, &e))?;
    fill(from, to)
}

/// The same into a directory that is there, and empty.
pub(crate) fn fill(from: &Path, to: &Path) -> Result<(), Failure> {
    let (source, copy) = (root(from)?, root(to)?);
    let mut copying =
        Copying { copy: &copy, first: HashMap::new(), directories: Vec::new(), room: vec![0; ATTRIBUTES] };
    let stat = fstat(&source).map_err(|e| failed("look at", from, &e.into()))?;
    copying.directories.push((PathBuf::from("."), stat, own_attributes(&source, &mut copying.room)));
    let whole = walk(&source, ResolveFlags::NO_XDEV, |entry| copying.entry(entry));
    let whole = whole.and_then(|whole| copying.finish().map(|()| whole));
    match whole {
        Ok(true) => rustix::fs::syncfs(&copy).map_err(|e| failed("sync", to, &e.into())),
        Ok(false) | Err((_, Errno::NAMETOOLONG)) => {
            let message =
                format!("cannot copy all of {}: some of it is nested too deep, or too wide", from.display());
            Err(Failure::precondition(message))
        }
        Err((path, errno)) => Err(failed("copy", &from.join(path), &errno.into())),
    }
}

fn root(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).map_err(|e| failed("open", path, &e.into()))
}

/// Where the pool is full, others may be not.
fn failed(act: &str, path: &Path, cause: &io::Error) -> Failure {
    let message = format!("cannot {act} {}: {cause}", path.display());
    let is_full = matches!(Errno::from_io_error(cause), Some(Errno::NOSPC | Errno::DQUOT));
    Failure::new(if is_full { Code::ResourceExhausted } else { Code::Internal }, message)
}

/// Names and values of extended attributes.
type Attributes = Vec<(CString, Vec<u8>)>;

/// An inode and when it was made, as far as its file system says: a number is given again soon after its file has gone.
type Inode = (u64, i64, u32);

struct Copying<'a> {
    copy: &'a OwnedFd,
    /// Where files of several names are in the copy.
    first: HashMap<Inode, PathBuf>,
    /// What directories are to be when all is in them.
    directories: Vec<(PathBuf, Stat, Attributes)>,
    room: Vec<u8>,
}

impl Copying<'_> {
    fn entry(&mut self, entry: &Entry<'_>) -> Step<()> {
        let within = entry.within();
        let path = within.join(name_of(entry.name));
        let mut copied = self.copied(entry, &within, &path);
        if copied == Err(Errno::EXIST) {
            // A directory that changes while it is read may tell a name again: what has it now is the younger one.
            copied = self.forget(&path).and_then(|()| self.copied(entry, &within, &path));
        }
        copied.or_else(|errno| match errno {
            // Gone, or something else by now.
            Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NOTDIR => Ok(()),
            errno => Err((path, errno)),
        })
    }

    /// Takes something out of the copy, with what is below it.
    fn forget(&mut self, path: &Path) -> Result<(), Errno> {
        let (Some(within), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
        let parent = below(self.copy, within, OFlags::PATH | OFlags::DIRECTORY)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
        kernel::tree::remove(&place).map_err(|e| e.errno().unwrap_or(Errno::IO))?;
        self.first.retain(|_, first| !first.starts_with(path));
        self.directories.retain(|(directory, ..)| !directory.starts_with(path));
        Ok(())
    }

    fn copied(&mut self, entry: &Entry<'_>, within: &Path, path: &Path) -> Result<(), Errno> {
        let parent = below(self.copy, within, OFlags::PATH | OFlags::DIRECTORY)?;
        let Entry { directory, name, stat, .. } = *entry;
        let kind = entry.kind();
        if kind == FileType::Directory || stat.st_nlink < 2 {
            return self.made(entry, &parent, path).map(drop);
        }
        let inode = inode(directory, name)?;
        match self.first.get(&inode) {
            Some(first) if first == path => Ok(()),
            Some(first) => linkat(self.copy, first, &parent, name, AtFlags::empty()),
            None => {
                let is_it = self.made(entry, &parent, path)? == stat.st_ino;
                if is_it && self.first.len() < LINKED {
                    self.first.insert(inode, path.to_owned());
                }
                Ok(())
            }
        }
    }

    /// Makes the copy of one entry. Returns the number of the inode that it was made from.
    fn made(&mut self, entry: &Entry<'_>, parent: &OwnedFd, path: &Path) -> Result<u64, Errno> {
        let Entry { directory, name, stat, .. } = *entry;
        match entry.kind() {
            FileType::Directory => {
                let source = openat(
                    directory,
                    name,
                    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                // What is mounted there is somebody else's; the walk does not enter it either.
                mkdirat(parent, name, Mode::RWXU)?;
                let attributes = own_attributes(&source, &mut self.room);
                self.directories.push((path.to_owned(), *stat, attributes));
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let source = File::from(openat(directory, name, flags, Mode::empty())?);
                let stat = fstat(&source)?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(Errno::NOENT);
                }
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = File::from(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
                match contents(&source, &copy, u64::try_from(stat.st_size).unwrap_or(0)) {
                    // It has become shorter meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                    copied => copied.map_err(errno)?,
                }
                let attributes = own_attributes(&source, &mut self.room);
                give(&copy, &stat, &attributes)?;
                return Ok(stat.st_ino);
            }
            FileType::Symlink => {
                // Not a link any more: EINVAL.
                let target = readlinkat(directory, name, Vec::new()).map_err(|_| Errno::NOENT)?;
                symlinkat(&target, parent, name)?;
                self.outside(entry, parent)?;
            }
            kind => {
                mknodat(parent, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
                self.outside(entry, parent)?;
                // After the owner, whose change takes set-user-id bits away.
                chmodat(parent, name, Mode::from_raw_mode(stat.st_mode & 0o7777), AtFlags::empty())?;
            }
        }
        Ok(stat.st_ino)
    }

    /// Owner, times and attributes of what is not opened.
    fn outside(&mut self, entry: &Entry<'_>, parent: &OwnedFd) -> Result<(), Errno> {
        let stat = entry.stat;
        chownat(
            parent,
            entry.name,
            Some(Uid::from_raw(stat.st_uid)),
            Some(Gid::from_raw(stat.st_gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        )?;
        let way = |directory: std::os::fd::BorrowedFd<'_>| {
            PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name_of(entry.name))
        };
        for (name, value) in attributes(&way(entry.directory), &mut self.room) {
            lsetxattr(way(parent.as_fd()), &name, &value, XattrFlags::empty())?;
        }
        utimensat(parent, entry.name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Gives directories what they had, the innermost first: what comes into one changes its time.
    fn finish(&mut self) -> Step<()> {
        for (path, stat, attributes) in std::mem::take(&mut self.directories).into_iter().rev() {
            below(self.copy, &path, OFlags::RDONLY | OFlags::DIRECTORY)
                .and_then(|directory| give(&directory, &stat, &attributes))
                .map_err(|errno| (path, errno))?;
        }
        Ok(())
    }
}

fn inode(directory: std::os::fd::BorrowedFd<'_>, name: &CStr) -> Result<Inode, Errno> {
    let wanted = StatxFlags::INO | StatxFlags::BTIME;
    let found = statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted)?;
    Ok((found.stx_ino, found.stx_btime.tv_sec, found.stx_btime.tv_nsec))
}

fn name_of(name: &CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes())
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Opens a directory of the copy, which nobody else writes to.
fn below(copy: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = c_path(path).map_err(|_| Errno::INVAL)?;
    kernel::path::open_below_c(copy, &path, flags)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

/// Gives something open an owner, attributes, a mode and times, in this order: each may change what comes before.
fn give(file: impl AsFd, stat: &Stat, attributes: &Attributes) -> Result<(), Errno> {
    fchown(&file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())?;
    }
    fchmod(&file, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    futimens(&file, &times(stat))
}

/// The extended attributes of something open. What goes meanwhile is not there.
fn own_attributes(file: impl AsFd, room: &mut [u8]) -> Attributes {
    let names = names(room, |room| flistxattr(&file, room));
    names
        .into_iter()
        .filter_map(|name| value(name, room, |name, room| fgetxattr(&file, name, room)))
        .collect()
}

/// The same of what a path leads to, which may be a link.
fn attributes(path: &Path, room: &mut [u8]) -> Attributes {
    let names = names(room, |room| llistxattr(path, room));
    names.into_iter().filter_map(|name| value(name, room, |name, room| lgetxattr(path, name, room))).collect()
}

fn names(room: &mut [u8], list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>) -> Vec<CString> {
    let length = list(room).unwrap_or(0);
    let all = room.get(..length).unwrap_or_default().split(|&byte| byte == 0);
    all.filter(|name| !name.is_empty()).filter_map(|name| CString::new(name).ok()).collect()
}

fn value(
    name: CString,
    room: &mut [u8],
    get: impl FnOnce(&CStr, &mut [u8]) -> rustix::io::Result<usize>,
) -> Option<(CString, Vec<u8>)> {
    let length = get(&name, room).ok()?;
    let has = room.get(..length)?.to_vec();
    Some((name, has))
}

/// Gives `copy`, which is empty, the contents of `source`: shared blocks where the file system can, else data without holes.
///
/// # Errors
/// The disk's; `UnexpectedEof` where `source` has become shorter than `length`.
pub(crate) fn contents(source: &File, copy: &File, length: u64) -> io::Result<()> {
    match reflink::clone_file(copy, source) {
        Ok(()) => return Ok(()),
        Err(errno) if reflink::is_unsupported(errno) || errno == Errno::INVAL => {}
        Err(errno) => return Err(errno.into()),
    }
    copy.set_len(length)?;
    let mut at = 0;
    while at < length
        && let Some(data) = extents::data(source, at).map_err(io::Error::other)?
    {
        let (mut read, mut written, end) = (data.start, data.start, data.end.min(length));
        while read < end {
            let left = usize::try_from(end - read).unwrap_or(usize::MAX);
            if copy_file_range(source, Some(&mut read), copy, Some(&mut written), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        at = data.end;
    }
    Ok(())
}

/// How many bytes a tree has on its file system, as far as it can be told of one that changes.
pub(crate) fn allocated(root: &Path) -> u64 {
    kernel::tree::measure(root).bytes
}

/// Removes a tree; one that is not there is removed.
pub(crate) fn remove(place: &Path) -> Result<(), Failure> {
    Ok(kernel::tree::remove(place)?)
}

/// Makes durable what is in a place itself: its files, and the names of its directories.
pub(crate) fn sync(place: &Path) -> Result<(), Failure> {
    let entries = std::fs::read_dir(place).map_err(|e| failed("list", place, &e))?;
    for entry in entries {
        let path = entry.map_err(|e| failed("list", place, &e))?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(|e| failed("sync", &path, &e))?;
    }
    sync_names(&[place])
}

/// Makes the names in directories durable.
pub(crate) fn sync_names(directories: &[&Path]) -> Result<(), Failure> {
    directories.iter().try_for_each(|directory| {
        File::open(directory).and_then(|file| file.sync_all()).map_err(|e| failed("sync", directory, &e))
    })
}

#[cfg(test)]
mod tests;
