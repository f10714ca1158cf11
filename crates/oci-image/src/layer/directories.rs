//! Finding the directory an entry goes into, without ever following a link out of the layer.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, readlinkat, statat, unlinkat},
    io::Errno,
};

const OPEN: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// As many links in one name as the kernel follows.
const HOPS: usize = 40;

/// The directories from the layer's root to where the last entry went, each held open: a layer lists its files by
/// directory, so the next entry mostly finds its own here.
///
/// `path` never contains a link: it is the real place inside the layer, whatever name led there.
pub(super) struct Directories {
    root: OwnedFd,
    path: Vec<u8>,
    /// For each open directory below the root, where its name ends in `path`.
    open: Vec<(usize, OwnedFd)>,
    /// Whether missing directories are made, and which were.
    make: bool,
    pub(super) made: BTreeSet<Vec<u8>>,
}

impl Directories {
    /// Directories below `root`; with `make`, missing ones are made on the way.
    pub(super) fn new(root: OwnedFd, make: bool) -> Self {
        Self { root, path: Vec::new(), open: Vec::new(), make, made: BTreeSet::new() }
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The innermost open directory and its real path.
    pub(super) fn current(&self) -> (BorrowedFd<'_>, &[u8]) {
        match self.open.last() {
            Some((end, fd)) => (fd.as_fd(), self.path.get(..*end).unwrap_or_default()),
            None => (self.root.as_fd(), b""),
        }
    }

    /// Lets go of everything below the root: something on the way may have been replaced.
    pub(super) fn forget(&mut self) {
        self.open.clear();
        self.path.clear();
    }

    /// Goes to `clean`, a name without `..`. Links on the way are resolved inside the layer.
    pub(super) fn enter(&mut self, clean: &[u8]) -> Result<(), Errno> {
        let kept = self.keep_common(clean);
        let rest = clean.get(kept..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        self.walk(rest)
    }

    /// Drops what `clean` does not share with the current path; how much of `clean` is left standing.
    fn keep_common(&mut self, clean: &[u8]) -> usize {
        while let Some((end, _)) = self.open.last() {
            let shared =
                self.path.get(..*end) == clean.get(..*end) && matches!(clean.get(*end), None | Some(b'/'));
            if shared {
                return *end;
            }
            self.pop();
        }
        0
    }

    fn pop(&mut self) {
        self.open.pop();
        let end = self.open.last().map_or(0, |(end, _)| *end);
        self.path.truncate(end);
    }

    fn walk(&mut self, rest: &[u8]) -> Result<(), Errno> {
        // Only a link needs the pending components as a list of their own.
        for (i, component) in components(rest) {
            match self.step(component) {
                Ok(()) => {}
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let tail = rest.get(i..).unwrap_or_default();
                    return self.walk_links(tail);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The slow way: some component is a link (or a file, which is an error).
    fn walk_links(&mut self, rest: &[u8]) -> Result<(), Errno> {
        let mut pending: Vec<Vec<u8>> = components(rest).map(|(_, c)| c.to_vec()).collect();
        pending.reverse();
        let mut hops = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                self.pop();
                continue;
            }
            match self.step(&component) {
                Ok(()) => continue,
                Err(Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(e),
            }
            let target = match readlinkat(self.current().0, component.as_slice(), Vec::new()) {
                Ok(target) => target.into_bytes(),
                Err(Errno::INVAL) => return Err(Errno::NOTDIR),
                Err(e) => return Err(e),
            };
            hops += 1;
            if hops > HOPS || pending.len() > 4096 {
                return Err(Errno::LOOP);
            }
            if target.starts_with(b"/") {
                self.forget();
            }
            let mut more: Vec<Vec<u8>> = components(&target).map(|(_, c)| c.to_vec()).collect();
            more.reverse();
            pending.append(&mut more);
        }
        Ok(())
    }

    /// One component down, which must be a directory and no link.
    fn step(&mut self, component: &[u8]) -> Result<(), Errno> {
        let here = self.current().0;
        let fd = match openat(here, component, OPEN, Mode::empty()) {
            Err(Errno::NOENT) if self.make => {
                mkdirat(here, component, Mode::from_raw_mode(0o755))?;
                let fd = openat(here, component, OPEN, Mode::empty())?;
                let path = self.joined(component);
                self.made.insert(path);
                fd
            }
            other => other?,
        };
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(component);
        self.open.push((self.path.len(), fd));
        Ok(())
    }

    /// The real path of `name` in the current directory.
    pub(super) fn joined(&self, name: &[u8]) -> Vec<u8> {
        match self.current().1 {
            b"" => name.to_vec(),
            parent => [parent, b"/", name].concat(),
        }
    }
}

/// The components of a path with where each begins; `.` and empty ones are passed over.
fn components(path: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    path.split(|&b| b == b'/')
        .map(move |c| {
            let from = at;
            at += c.len() + 1;
            (from, c)
        })
        .filter(|(_, c)| !matches!(*c, b"" | b"."))
}

/// Removes `name` in `parent` with everything below; links are removed, never followed. Not there counts as done.
///
/// # Errors
/// The first errno; what could be removed is.
pub fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(parent, name, flags, Mode::empty())?;
    let mut first = Ok(());
    let mut subdirectories = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let removed = match entry.file_type() {
            FileType::Directory => Err(Errno::ISDIR),
            _ => unlinkat(&directory, name, AtFlags::empty()),
        };
        match removed {
            Err(Errno::ISDIR | Errno::PERM) => subdirectories.push(name.to_vec()),
            Err(e) if first.is_ok() && e != Errno::NOENT => first = Err(e),
            _ => {}
        }
    }
    for name in subdirectories {
        let removed = remove_tree(directory.as_fd(), &name);
        first = first.and(removed);
    }
    first?;
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// What is at `name`, itself and not what it links to.
pub(super) fn look(parent: BorrowedFd<'_>, name: &[u8]) -> Result<rustix::fs::Stat, Errno> {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
}
