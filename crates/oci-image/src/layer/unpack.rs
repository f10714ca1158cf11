use std::{io::BufRead, os::fd::OwnedFd};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, XattrFlags, lsetxattr, mkdirat, mknodat, openat, unlinkat},
    io::Errno,
};

use super::{
    LimitExceeded, Limits,
    directories::{Directories, look, remove_tree},
    error::{At, Error, Result},
    name::{self, Meaning},
    tar::{self, Kind, Reader},
    times::{self, Deferred},
    write::{self, Creator},
};

/// What unpacking a layer came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries in the tar.
    pub entries: u64,
    /// Bytes of file data written.
    pub bytes: u64,
    /// Directories the tar took for granted: made with mode 0755, root's, because lower layers have the real ones.
    pub implied: Vec<Vec<u8>>,
    /// Whether the tar has an entry for the layer's root.
    pub root: bool,
    /// Extended attributes that the filesystem here cannot hold, or that would speak to overlayfs.
    pub dropped_xattrs: u64,
}

/// Unpacks the tar of a layer below `root`, an empty directory, as a lower layer for overlayfs.
///
/// Ownership, modes with set-id bits, times to the nanosecond, extended attributes, devices and holes are kept. Later
/// entries replace earlier ones of the same name. Nothing is made durable: the caller syncs the filesystem once.
///
/// # Errors
/// The first thing that cannot be made as the tar says; what is below `root` is then of no use.
pub fn unpack<R: BufRead>(reader: &mut Reader<R>, root: OwnedFd, limits: &Limits) -> Result<Unpacked> {
    let links = root.try_clone().map_err(tar::Error::Io)?;
    let mut unpacker = Unpacker {
        creator: Creator::new(&root)?,
        directories: Directories::new(root, true),
        links: Directories::new(links, false),
        deferred: Deferred::default(),
        clean: Vec::new(),
        link: Vec::new(),
        unpacked: Unpacked::default(),
    };
    while reader.next()? {
        unpacker.unpacked.entries += 1;
        if unpacker.unpacked.entries > limits.entries {
            return Err(LimitExceeded::Entries(limits.entries).into());
        }
        unpacker.entry(reader)?;
    }
    reader.drain()?;
    unpacker.deferred.apply(&mut unpacker.directories)?;
    unpacker.unpacked.implied = std::mem::take(&mut unpacker.directories.made).into_iter().collect();
    Ok(unpacker.unpacked)
}

struct Unpacker {
    creator: Creator,
    directories: Directories,
    /// The same tree again, for the targets of hard links, so that they do not disturb the other's place.
    links: Directories,
    deferred: Deferred,
    clean: Vec<u8>,
    link: Vec<u8>,
    unpacked: Unpacked,
}

impl Unpacker {
    fn entry<R: BufRead>(&mut self, reader: &mut Reader<R>) -> Result<()> {
        let mut clean = std::mem::take(&mut self.clean);
        let result =
            name::clean_into(&reader.entry().path, &mut clean).and_then(|()| self.place(reader, &clean));
        self.clean = clean;
        result
    }

    fn place<R: BufRead>(&mut self, reader: &mut Reader<R>, clean: &[u8]) -> Result<()> {
        let meaning = name::meaning(clean)?;
        if meaning == Meaning::Bookkeeping {
            return Ok(());
        }
        if clean.is_empty() {
            return self.root(reader);
        }
        let (parent, last) = name::split(clean);
        self.directories.enter(parent).at("open the parent of", clean)?;
        match meaning {
            Meaning::Opaque => self.opaque(b".", clean),
            Meaning::Whiteout(hidden) => self.whiteout(hidden, clean),
            _ if reader.entry().kind == Kind::Directory => self.directory(reader, last, clean),
            _ => self.other(reader, last, clean),
        }
    }

    /// The layer's own root: attributes only.
    fn root<R: BufRead>(&mut self, reader: &Reader<R>) -> Result<()> {
        let entry = reader.entry();
        if entry.kind != Kind::Directory {
            return Err(Error::name(&entry.path, "the layer's root is a directory and nothing else"));
        }
        let root = self.directories.root();
        self.unpacked.root = true;
        self.unpacked.dropped_xattrs +=
            self.creator.attributes(root, b".", entry, true).at("set up", b"/")?;
        self.deferred.push(Vec::new(), entry.mtime, setgid(entry.mode))
    }

    fn directory<R: BufRead>(&mut self, reader: &Reader<R>, last: &[u8], clean: &[u8]) -> Result<()> {
        let entry = reader.entry();
        let plain = Mode::from_raw_mode(entry.mode & 0o777);
        let mut existed = false;
        let made = mkdirat(self.directories.current().0, last, plain);
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                existed = look(self.directories.current().0, last)
                    .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory);
                if !existed {
                    // What it replaces hid the lower layers' directory: this one must go on hiding it.
                    self.clear(last, clean)?;
                    mkdirat(self.directories.current().0, last, plain).at("create", clean)?;
                    self.opaque(last, clean)?;
                }
            }
            Err(e) => return Err(e).at("create", clean),
        }
        let (parent, _) = self.directories.current();
        self.unpacked.dropped_xattrs +=
            self.creator.attributes(parent, last, entry, existed).at("set the attributes of", clean)?;
        let path = self.directories.joined(last);
        if existed {
            self.directories.made.remove(&path);
        }
        self.deferred.push(path, entry.mtime, setgid(entry.mode))
    }

    /// A file, link, device or pipe.
    fn other<R: BufRead>(&mut self, reader: &mut Reader<R>, last: &[u8], clean: &[u8]) -> Result<()> {
        match self.make(reader, last, clean) {
            Err(Error::Write { source, .. })
                if source.raw_os_error() == Some(Errno::EXIST.raw_os_error()) => {}
            done => return done,
        }
        if reader.entry().kind == Kind::HardLink && self.is_own_target(last)? {
            return Ok(());
        }
        self.clear(last, clean)?;
        let (parent, _) = name::split(clean);
        self.directories.enter(parent).at("open the parent of", clean)?;
        self.make(reader, last, clean)
    }

    fn make<R: BufRead>(&mut self, reader: &mut Reader<R>, last: &[u8], clean: &[u8]) -> Result<()> {
        let kind = reader.entry().kind;
        let (parent, _) = self.directories.current();
        match kind {
            Kind::File => {
                let file = self.creator.create(parent, last, reader.entry()).at("create", clean)?;
                self.unpacked.bytes += write::data(reader, &file, clean)?;
                self.unpacked.dropped_xattrs +=
                    self.creator.finish(&file, reader.entry()).at("set the attributes of", clean)?;
                Ok(())
            }
            Kind::HardLink => self.hard_link(&reader.entry().link, last, clean),
            Kind::Symlink if reader.entry().link.is_empty() => {
                Err(Error::name(clean, "it is a link to nothing"))
            }
            _ => {
                let entry = reader.entry();
                self.creator.special(parent, last, entry).at("create", clean)?;
                self.unpacked.dropped_xattrs +=
                    self.creator.attributes(parent, last, entry, false).at("set the attributes of", clean)?;
                write::times(parent, last, entry.mtime).at("set the times of", clean)
            }
        }
    }

    fn hard_link(&mut self, link: &[u8], last: &[u8], clean: &[u8]) -> Result<()> {
        self.target(link)?;
        let (_, target) = name::split(&self.link);
        let (from, to) = (self.links.current().0, self.directories.current().0);
        rustix::fs::linkat(from, target, to, last, AtFlags::empty()).map_err(|e| match e {
            Errno::NOENT => {
                Error::name(clean, "it is a hard link to something that this layer does not have")
            }
            Errno::PERM => Error::name(clean, "it is a hard link to a directory"),
            e => Error::write("link", clean, e),
        })
    }

    /// Goes to the directory of a hard link's target.
    fn target(&mut self, raw: &[u8]) -> Result<()> {
        name::clean_into(raw, &mut self.link)?;
        if self.link.is_empty() {
            return Err(Error::name(raw, "it is a hard link to the layer's root"));
        }
        let (parent, _) = name::split(&self.link);
        self.links.enter(parent).map_err(|e| match e {
            Errno::NOENT => Error::name(&self.link, "a hard link names it, and this layer does not have it"),
            e => Error::write("open the parent of", &self.link, e),
        })
    }

    /// Whether a hard link's name is its target already: to clear it away first would lose the file.
    fn is_own_target(&self, last: &[u8]) -> Result<bool> {
        let (_, target) = name::split(&self.link);
        let own = look(self.directories.current().0, last).at("look at", last)?;
        Ok(look(self.links.current().0, target)
            .is_ok_and(|s| (s.st_dev, s.st_ino) == (own.st_dev, own.st_ino)))
    }

    fn whiteout(&mut self, hidden: &[u8], clean: &[u8]) -> Result<()> {
        let (parent, _) = self.directories.current();
        match mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {
                // It hides what lower layers have, not what this one has (image-spec, "Whiteouts"): a file here hides
                // that anyway, a directory must be told to.
                let kind = look(parent, hidden).at("look at", clean)?.st_mode;
                match FileType::from_raw_mode(kind) {
                    FileType::Directory => self.opaque(hidden, clean),
                    _ => Ok(()),
                }
            }
            done => done.at("create", clean),
        }
    }

    fn opaque(&self, directory: &[u8], clean: &[u8]) -> Result<()> {
        let (parent, _) = self.directories.current();
        let path = write::by_descriptor(parent, directory);
        lsetxattr(path.as_slice(), c"trusted.overlay.opaque", b"y", XattrFlags::empty())
            .at("make opaque", clean)
    }

    /// Removes what an earlier entry put where this one goes.
    fn clear(&mut self, last: &[u8], clean: &[u8]) -> Result<()> {
        let (parent, _) = self.directories.current();
        match unlinkat(parent, last, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => {
                remove_tree(parent, last).at("replace", clean)?;
                let gone = self.directories.joined(last);
                self.deferred.forget(&gone);
                self.directories.made.remove(&gone);
                let below: Vec<_> = self.directories.made.range(times::below(&gone)).cloned().collect();
                for path in below {
                    self.directories.made.remove(&path);
                }
            }
            Err(e) => return Err(e).at("replace", clean),
        }
        // Neither may go on holding a directory that is no more. The place itself is found again by its real path.
        self.links.forget();
        let here = self.directories.current().1.to_vec();
        self.directories.forget();
        self.directories.enter(&here).at("open the parent of", clean)
    }
}

/// The mode that must wait because entries made below would inherit from it.
fn setgid(mode: u32) -> Option<u32> {
    (mode & 0o2000 != 0).then_some(mode)
}

/// Opens the directory `path` to unpack into.
pub(crate) fn open_root(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
