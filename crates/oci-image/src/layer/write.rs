//! Making one thing, with as few calls as its attributes need: most files take open, write, utimensat and close.

use std::{
    io::{self, BufRead, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr,
        fstat, ftruncate, futimens, lsetxattr, makedev, mknodat, openat, symlinkat, utimensat,
    },
    io::{Errno, pwrite, write},
};

use super::{
    error::{At, Result},
    tar::{Entry, Kind, Reader, Time},
    times::both,
};

/// Makes things as this process, and knows what they get without asking: its own user and group, and its umask.
pub(super) struct Creator {
    owner: (u32, u32),
    umask: u32,
}

impl Creator {
    /// A creator for things below `root`, whose own mode and owner are brought into a known state: a set-group-id bit
    /// inherited from the store would be inherited on by everything below.
    pub(super) fn new(root: &OwnedFd) -> Result<Self> {
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let stat = fstat(root).at("look at", b"/")?;
        if stat.st_mode & 0o7777 != 0o755 {
            fchmod(root, Mode::from_raw_mode(0o755)).at("set the mode of", b"/")?;
        }
        if (stat.st_uid, stat.st_gid) != (0, 0) && owner.0 == 0 {
            fchown(root, Some(Uid::ROOT), Some(Gid::ROOT)).at("set the owner of", b"/")?;
        }
        Ok(Self { owner, umask: umask() })
    }

    /// Makes an empty file, open for writing.
    pub(super) fn create(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(parent, name, flags, Mode::from_raw_mode(entry.mode & 0o777))
    }

    /// Puts a file's attributes on after its data is written; how many extended attributes were dropped.
    pub(super) fn finish(&self, file: &OwnedFd, entry: &Entry) -> Result<u64, Errno> {
        if self.owner != (entry.uid, entry.gid) {
            fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        }
        if self.mode_differs(entry.mode) {
            fchmod(file, Mode::from_raw_mode(entry.mode))?;
        }
        let mut dropped = 0;
        for (name, value) in &entry.xattrs {
            dropped += set(name, entry, || fsetxattr(file, name.as_slice(), value, XattrFlags::empty()))?;
        }
        futimens(file, &both(entry.mtime))?;
        Ok(dropped)
    }

    /// Makes a symbolic link, a device or a pipe.
    pub(super) fn special(&self, parent: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let device = makedev(entry.device.0, entry.device.1);
        match entry.kind {
            Kind::Symlink => symlinkat(entry.link.as_slice(), parent, name),
            Kind::Char => mknodat(parent, name, FileType::CharacterDevice, mode, device),
            Kind::Block => mknodat(parent, name, FileType::BlockDevice, mode, device),
            Kind::Fifo => mknodat(parent, name, FileType::Fifo, mode, 0),
            Kind::File | Kind::HardLink | Kind::Directory => Err(Errno::INVAL),
        }
    }

    /// Puts owner, mode and extended attributes on anything that is no file; `known` says it was not made just now, so
    /// what it has must be replaced. How many extended attributes were dropped.
    pub(super) fn attributes(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        known: bool,
    ) -> Result<u64, Errno> {
        if known || self.owner != (entry.uid, entry.gid) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if entry.kind != Kind::Symlink && (known || self.mode_differs(entry.mode)) {
            // A directory's set-group-id bit comes last (`times`). Nothing here is a link: it was just made, or looked at.
            let now = if entry.kind == Kind::Directory { entry.mode & !0o2000 } else { entry.mode };
            chmodat(parent, name, Mode::from_raw_mode(now), AtFlags::empty())?;
        }
        let mut dropped = 0;
        for (attribute, value) in &entry.xattrs {
            let path = by_descriptor(parent, name);
            let put = || lsetxattr(path.as_slice(), attribute.as_slice(), value, XattrFlags::empty());
            dropped += set(attribute, entry, put)?;
        }
        Ok(dropped)
    }

    fn mode_differs(&self, mode: u32) -> bool {
        mode & (0o7000 | self.umask) != 0
    }
}

/// Sets one extended attribute; 1 if it was dropped instead.
///
/// overlayfs's own attributes could send it elsewhere (`redirect`, `metacopy`): a layer speaks to it in whiteouts alone.
/// What the filesystem has no room for at all is passed over, as every other runtime does.
fn set(name: &[u8], entry: &Entry, put: impl FnOnce() -> Result<(), Errno>) -> Result<u64, Errno> {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return Ok(1);
    }
    match put() {
        Ok(()) => Ok(0),
        Err(Errno::OPNOTSUPP) => Ok(1),
        // Only files and directories take attributes of users.
        Err(Errno::PERM)
            if name.starts_with(b"user.") && !matches!(entry.kind, Kind::File | Kind::Directory) =>
        {
            Ok(1)
        }
        Err(e) => Err(e),
    }
}

/// Writes the current entry's data to `file`, in place from what the reader has buffered; how many bytes.
pub(super) fn data<R: BufRead>(reader: &mut Reader<R>, file: &OwnedFd, path: &[u8]) -> Result<u64> {
    if reader.entry().sparse.is_some() {
        return sparse(reader, file, path);
    }
    let mut total = 0;
    loop {
        let bytes = reader.data()?;
        if bytes.is_empty() {
            return Ok(total);
        }
        let n = retry(|| write(file, bytes)).at("write", path)?;
        reader.consume(n);
        total += n as u64;
    }
}

fn sparse<R: BufRead>(reader: &mut Reader<R>, file: &OwnedFd, path: &[u8]) -> Result<u64> {
    let Some((size, spans)) = reader.entry().sparse.clone() else { return Ok(0) };
    let mut total = 0;
    for span in spans {
        let mut done = 0;
        while done < span.length {
            let bytes = reader.data()?;
            let left = usize::try_from(span.length - done).unwrap_or(usize::MAX);
            let Some(part) = bytes.get(..left.min(bytes.len())).filter(|p| !p.is_empty()) else { break };
            let n = retry(|| pwrite(file, part, span.offset + done)).at("write", path)?;
            reader.consume(n);
            done += n as u64;
        }
        total += done;
    }
    ftruncate(file, size).at("write", path)?;
    Ok(total)
}

fn retry(mut act: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match act() {
            Err(Errno::INTR) => {}
            Ok(0) => return Err(Errno::NOSPC),
            other => return other,
        }
    }
}

/// Sets both times of a thing, itself and not what it links to.
pub(super) fn times(parent: BorrowedFd<'_>, name: &[u8], time: Time) -> Result<(), Errno> {
    utimensat(parent, name, &both(time), AtFlags::SYMLINK_NOFOLLOW)
}

/// A path to `name` in an open directory, for the calls that take no directory descriptor.
pub(super) fn by_descriptor(parent: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(32 + name.len());
    // Writing to a vector does not fail.
    let _: io::Result<()> = write!(path, "/proc/self/fd/{}/", parent.as_fd().as_raw_fd());
    path.extend_from_slice(name);
    path
}

/// This process's umask, read without changing it; the strictest guess when it cannot be read.
fn umask() -> u32 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|s| {
            let line = s.lines().find_map(|l| l.strip_prefix("Umask:"))?;
            u32::from_str_radix(line.trim(), 8).ok()
        })
        .unwrap_or(0o777)
}
