//! From a tar to files below a directory.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_image::layer::tar::{Entry, Kind, Reader, Time};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    fstat, ftruncate, linkat, makedev, mkdirat, mknodat, openat, setxattr, symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pwrite};

use super::name;
use super::tree::{Tree, by_descriptor};
use crate::failure::{Context, Failure};

/// Whose fault it was.
#[derive(Debug)]
pub(super) enum Error {
    /// The archive cannot be read on.
    Read(Failure),
    /// Something cannot be made.
    Write(Failure),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Read(failure) | Error::Write(failure) => failure,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Write(failure)
    }
}

type Result<T, E = Error> = std::result::Result<T, E>;

const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW);

/// Makes what the archive has below the directory `base` of `tree`: files replace files, directories that are there
/// stay as they are and get more in them.
pub(super) fn unpack(tree: &Tree, base: &Path, input: impl BufRead) -> Result<()> {
    let top =
        tree.open(base, OFlags::PATH | OFlags::DIRECTORY).context(|| format!("open {}", base.display()))?;
    let mut unpacker = Unpacker { tree, base: base.to_owned(), top, made: BTreeMap::new() };
    let mut reader = Reader::new(input);
    let read =
        |e: oci_image::layer::tar::Error| Error::Read(Failure::new(format!("cannot read the archive: {e}")));
    while reader.next().map_err(read)? {
        let name = name::clean(&reader.entry().path)?;
        if !name.is_empty() {
            unpacker.entry(&mut reader, &name)?;
        }
    }
    reader.drain().map_err(read)?;
    unpacker.finish()
}

struct Unpacker<'a> {
    tree: &'a Tree,
    base: PathBuf,
    top: OwnedFd,
    /// Directories made, whose attributes come last: a read-only one could not be filled, and filling changes times.
    made: BTreeMap<Vec<u8>, (Identity, Entry)>,
}

/// Device and inode: what a name stood for when it was made.
type Identity = (u64, u64);

impl Unpacker<'_> {
    fn entry<R: BufRead>(&mut self, reader: &mut Reader<R>, name: &[u8]) -> Result<()> {
        let shown = || String::from_utf8_lossy(name).into_owned();
        let (parent, last) = name::split(name);
        let parent = self.parent(parent)?;
        let entry = reader.entry();
        if entry.kind == Kind::Directory {
            let entry = entry.clone();
            return self.directory(&parent, last, name, entry);
        }
        if matches!(entry.kind, Kind::Char | Kind::Block) && !self.tree.is_container() {
            // Whoever is root in the container could have made it, for everybody here to use.
            eprintln!("sextant: warning: {}: a device is not copied out of a container", shown());
            return Ok(());
        }
        let busy = match unlinkat(&parent, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => false,
            // Something is mounted on it, as on /etc/hosts: it cannot be replaced, but written to.
            Err(Errno::BUSY) if entry.kind == Kind::File => true,
            Err(Errno::ISDIR) => {
                return Err(Failure::new(format!(
                    "{} is a directory there, and a file in what is copied",
                    shown()
                ))
                .into());
            }
            Err(e) => return Err(Failure::new(format!("cannot replace {}: {e}", shown())).into()),
        };
        match entry.kind {
            Kind::File => self.file(reader, &parent, last, busy, name),
            Kind::HardLink => {
                let link = name::clean(&entry.link)?;
                let (folder, target) = name::split(&link);
                let folder = self.parent(folder)?;
                linkat(&folder, target, &parent, last, AtFlags::empty())
                    .context(|| format!("link {} to {}", shown(), String::from_utf8_lossy(&link)))?;
                Ok(())
            }
            _ => {
                special(&parent, last, entry).context(|| format!("make {}", shown()))?;
                let made = openat(&parent, last, LOOK | OFlags::CLOEXEC, Mode::empty());
                let made = made.context(|| format!("open {}", shown()))?;
                Ok(attributes(&made, entry).context(|| format!("set the attributes of {}", shown()))?)
            }
        }
    }

    /// The directory an entry goes into; made if the archive takes it for granted.
    fn parent(&self, name: &[u8]) -> Result<OwnedFd> {
        let shown = || String::from_utf8_lossy(name).into_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        match self.tree.open_entry((&self.base, &self.top), name, flags) {
            Err(Errno::NOENT) if !name.is_empty() => {
                let (above, last) = name::split(name);
                let above = self.parent(above)?;
                match mkdirat(&above, last, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => {
                        return Err(
                            Failure::new(format!("cannot make the directory {}: {e}", shown())).into()
                        );
                    }
                }
                let made = self.tree.open_entry((&self.base, &self.top), name, flags);
                Ok(made.context(|| format!("open the directory {}", shown()))?)
            }
            other => Ok(other.context(|| format!("open the directory {}", shown()))?),
        }
    }

    fn directory(&mut self, parent: &OwnedFd, last: &[u8], name: &[u8], entry: Entry) -> Result<()> {
        let shown = || String::from_utf8_lossy(name).into_owned();
        match mkdirat(parent, last, Mode::from_raw_mode(0o700)) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY;
                self.tree
                    .open_entry((&self.base, &self.top), name, flags)
                    .map_err(|_| Failure::new(format!("{} is there and is no directory", shown())))?;
                return Ok(());
            }
            Err(e) => return Err(Failure::new(format!("cannot make the directory {}: {e}", shown())).into()),
        }
        let made = openat(parent, last, LOOK | OFlags::CLOEXEC, Mode::empty());
        let stat = made.and_then(fstat).context(|| format!("look at {}", shown()))?;
        self.made.insert(name.to_vec(), ((stat.st_dev, stat.st_ino), entry));
        Ok(())
    }

    fn file<R: BufRead>(
        &self,
        reader: &mut Reader<R>,
        parent: &OwnedFd,
        last: &[u8],
        busy: bool,
        name: &[u8],
    ) -> Result<()> {
        let shown = || String::from_utf8_lossy(name).into_owned();
        let how = if busy { OFlags::TRUNC | OFlags::NONBLOCK } else { OFlags::CREATE | OFlags::EXCL };
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | how;
        let file = openat(parent, last, flags, Mode::from_raw_mode(0o600))
            .context(|| format!("write {}", shown()))?;
        data(reader, &file, &shown)?;
        // What something is mounted on keeps its owner and mode.
        if !busy {
            attributes(&file, reader.entry()).context(|| format!("set the attributes of {}", shown()))?;
        }
        Ok(())
    }

    /// Gives the directories their attributes, the deepest first.
    fn finish(self) -> Result<()> {
        for (name, (identity, entry)) in self.made.iter().rev() {
            let shown = || String::from_utf8_lossy(name).into_owned();
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let Ok(directory) = self.tree.open_entry((&self.base, &self.top), name, flags) else { continue };
            let stat = fstat(&directory).context(|| format!("look at {}", shown()))?;
            // Another one under this name is somebody else's.
            if (stat.st_dev, stat.st_ino) == *identity {
                attributes(&directory, entry).context(|| format!("set the attributes of {}", shown()))?;
            }
        }
        Ok(())
    }
}

fn special(parent: &OwnedFd, name: &[u8], entry: &Entry) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o600);
    let device = makedev(entry.device.0, entry.device.1);
    match entry.kind {
        Kind::Symlink => symlinkat(entry.link.as_slice(), parent, name),
        Kind::Char => mknodat(parent, name, FileType::CharacterDevice, mode, device),
        Kind::Block => mknodat(parent, name, FileType::BlockDevice, mode, device),
        Kind::Fifo => mknodat(parent, name, FileType::Fifo, mode, 0),
        Kind::File | Kind::HardLink | Kind::Directory => Err(Errno::INVAL),
    }
}

/// Writes the current entry's data, holes left as holes.
fn data<R: BufRead>(reader: &mut Reader<R>, file: &OwnedFd, shown: &dyn Fn() -> String) -> Result<()> {
    let (size, spans) = match &reader.entry().sparse {
        Some((size, spans)) => (*size, spans.iter().map(|s| (s.offset, s.length)).collect()),
        None => (reader.entry().size, vec![(0, reader.entry().size)]),
    };
    let write = |e: Errno| Error::Write(Failure::new(format!("cannot write {}: {e}", shown())));
    for (offset, length) in spans {
        let mut done = 0;
        while done < length {
            let bytes = reader
                .data()
                .map_err(|e| Error::Read(Failure::new(format!("cannot read the archive: {e}"))))?;
            let left = usize::try_from(length - done).unwrap_or(usize::MAX);
            let Some(part) = bytes.get(..left.min(bytes.len())).filter(|p| !p.is_empty()) else { break };
            let n = match pwrite(file, part, offset + done) {
                Err(Errno::INTR) => continue,
                other => other.map_err(write)?,
            };
            reader.consume(n);
            done += n as u64;
        }
    }
    // The end may be a hole.
    match ftruncate(file, size) {
        // A file of /proc has no length.
        Err(Errno::INVAL) | Ok(()) => Ok(()),
        Err(e) => Err(write(e)),
    }
}

/// Owner, mode, extended attributes and time, in the order in which none undoes another.
fn attributes(file: &OwnedFd, entry: &Entry) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    if entry.kind != Kind::Symlink {
        let path = by_descriptor(file);
        chmodat(CWD, path.as_str(), Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())?;
        for (name, value) in &entry.xattrs {
            // An archive may hold what speaks to a filesystem, or what this one has no room for.
            let wanted = name.starts_with(b"user.")
                || name.starts_with(b"system.posix_acl_")
                || name == b"security.capability";
            if !wanted {
                continue;
            }
            match setxattr(path.as_str(), name.as_slice(), value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(Errno::PERM) if !matches!(entry.kind, Kind::File | Kind::Directory) => {}
                Err(e) => return Err(e),
            }
        }
    }
    utimensat(file.as_fd(), "", &both(entry.mtime), AtFlags::EMPTY_PATH)
}

fn both(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
