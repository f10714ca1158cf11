//! Comparing two unpacked layers: what a layer's tar unpacks to now, and what was unpacked earlier.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::CString,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, Stat, lgetxattr, llistxattr, openat, readlinkat},
    io::{Errno, read},
};

use super::{directories::look, error::printable, write::by_descriptor};

const CHUNK: usize = 64 << 10;
/// The most that the kernel lets one extended attribute be, and the list of their names.
const XATTR_LIMIT: usize = 64 << 10;

/// How an unpacked layer differs from what its tar says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first of them, in the order of names.
    pub first: Option<String>,
    /// How many names are concerned.
    pub count: u64,
}

/// What the tar says nothing about, so that it is not compared.
pub(crate) struct Untold<'a> {
    /// Directories that it takes for granted: their attributes are those of lower layers.
    pub(crate) implied: &'a BTreeSet<Vec<u8>>,
    /// Whether it has no entry for the layer's root.
    pub(crate) root: bool,
}

/// Compares the tree below `found` with that below `expected`: names, kinds, contents, links, owners, modes, times of
/// last change, extended attributes. Neither is left, whatever it holds. What cannot be read differs.
pub(crate) fn compare(
    expected: BorrowedFd<'_>,
    found: BorrowedFd<'_>,
    untold: &Untold<'_>,
) -> Result<Differences, Errno> {
    let mut comparison = Comparison { untold, inodes: HashMap::new(), differences: Differences::default() };
    let sides = Sides { expected, found };
    if let Err(reason) = comparison.root(sides) {
        comparison.note(b"", reason);
    }
    comparison.directory(sides, b"")?;
    Ok(comparison.differences)
}

/// A directory of both trees.
#[derive(Clone, Copy)]
struct Sides<'a> {
    expected: BorrowedFd<'a>,
    found: BorrowedFd<'a>,
}

struct Comparison<'a> {
    untold: &'a Untold<'a>,
    /// Files with several names: which of the one tree is which of the other.
    inodes: HashMap<(u64, u64), (u64, u64)>,
    differences: Differences,
}

/// What is wrong with one name.
type Verdict = Result<(), String>;

impl Comparison<'_> {
    fn note(&mut self, path: &[u8], reason: String) {
        self.differences.count += 1;
        self.differences.first.get_or_insert_with(|| format!("/{} {reason}", printable(path)));
    }

    fn root(&self, sides: Sides<'_>) -> Verdict {
        let (expected, found) = (stat(sides.expected, b".")?, stat(sides.found, b".")?);
        attributes(sides, b".", &expected, &found, !self.untold.root)
    }

    /// Everything in a directory of both.
    fn directory(&mut self, sides: Sides<'_>, path: &[u8]) -> Result<(), Errno> {
        let expected = names(sides.expected)?;
        let found = match names(sides.found) {
            Ok(found) => found,
            Err(e) => {
                self.note(path, format!("cannot be listed: {e}"));
                return Ok(());
            }
        };
        for name in expected.union(&found) {
            let inner = join(path, name);
            match (expected.contains(name), found.contains(name)) {
                (true, false) => self.note(&inner, "is missing".into()),
                (false, true) => self.note(&inner, "is there, and the layer has no such thing".into()),
                _ => self.both(sides, name, &inner)?,
            }
        }
        Ok(())
    }

    fn both(&mut self, sides: Sides<'_>, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        let (expected, found) = match (stat(sides.expected, name), stat(sides.found, name)) {
            (Ok(expected), Ok(found)) => (expected, found),
            (Err(reason), _) | (_, Err(reason)) => {
                self.note(path, reason);
                return Ok(());
            }
        };
        let kinds = same("its kind", kind_name(&expected), kind_name(&found));
        let alike = kinds.is_ok();
        if let Err(reason) = kinds.and_then(|()| self.entry(sides, name, path, [&expected, &found])) {
            self.note(path, reason);
        }
        match FileType::from_raw_mode(expected.st_mode) {
            FileType::Directory if alike => self.descend(sides, name, path),
            _ => Ok(()),
        }
    }

    fn descend(&mut self, sides: Sides<'_>, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        let expected = open(sides.expected, name, OFlags::DIRECTORY)?;
        match open(sides.found, name, OFlags::DIRECTORY) {
            Ok(found) => self.directory(Sides { expected: expected.as_fd(), found: found.as_fd() }, path),
            Err(e) => {
                self.note(path, format!("cannot be opened: {e}"));
                Ok(())
            }
        }
    }

    /// One thing that both have.
    fn entry(&mut self, sides: Sides<'_>, name: &[u8], path: &[u8], stats: [&Stat; 2]) -> Verdict {
        let [expected, found] = stats;
        match FileType::from_raw_mode(expected.st_mode) {
            FileType::Directory if self.untold.implied.contains(path) => return Ok(()),
            FileType::RegularFile => {
                same("its size", expected.st_size, found.st_size)?;
                self.links(expected, found)?;
                contents(sides, name, u64::try_from(expected.st_size).unwrap_or_default())?;
            }
            FileType::Symlink if target(sides.expected, name)? != target(sides.found, name)? => {
                return Err("differs: it leads elsewhere".into());
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                same("its device", expected.st_rdev, found.st_rdev)?;
            }
            _ => {}
        }
        // A whiteout has nothing of its own.
        if is_whiteout(expected) { Ok(()) } else { attributes(sides, name, expected, found, true) }
    }

    /// Names of one file are names of one file on the other side.
    fn links(&mut self, expected: &Stat, found: &Stat) -> Verdict {
        same("its number of names", expected.st_nlink, found.st_nlink)?;
        if expected.st_nlink < 2 {
            return Ok(());
        }
        let inode = |s: &Stat| (s.st_dev, s.st_ino);
        let known = *self.inodes.entry(inode(expected)).or_insert_with(|| inode(found));
        match known == inode(found) {
            true => Ok(()),
            false => Err("is a file of its own, and a hard link in the layer".into()),
        }
    }
}

/// Owner, mode, extended attributes and, if the tar has it, the time.
fn attributes(sides: Sides<'_>, name: &[u8], expected: &Stat, found: &Stat, time: bool) -> Verdict {
    let owner = |s: &Stat| format!("{}:{}", s.st_uid, s.st_gid);
    let mode = |s: &Stat| format!("{:04o}", s.st_mode & 0o7777);
    let changed = |s: &Stat| format!("{}.{:09}", s.st_mtime, s.st_mtime_nsec);
    same("its owner", owner(expected), owner(found))?;
    same("its mode", mode(expected), mode(found))?;
    if time {
        same("its time", changed(expected), changed(found))?;
    }
    let (expected, found) = (xattrs(sides.expected, name)?, xattrs(sides.found, name)?);
    let different = expected.keys().chain(found.keys()).find(|n| expected.get(*n) != found.get(*n));
    match different {
        None => Ok(()),
        Some(n) => Err(format!("differs in its extended attribute {}", printable(n.to_bytes()))),
    }
}

fn same<T: PartialEq + std::fmt::Display>(what: &str, expected: T, found: T) -> Verdict {
    match expected == found {
        true => Ok(()),
        false => Err(format!("differs: {what} is {found}, and {expected} in the layer")),
    }
}

fn kind_name(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::CharacterDevice if is_whiteout(stat) => "a whiteout",
        FileType::CharacterDevice => "a character device",
        FileType::BlockDevice => "a block device",
        _ => "something else",
    }
}

/// As overlayfs has it: what lower layers have under its name is hidden.
fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn stat(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, String> {
    look(parent, name).map_err(unreadable)
}

fn unreadable(error: Errno) -> String {
    format!("cannot be read: {error}")
}

fn open(parent: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let safe = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, safe | flags, Mode::empty())
}

fn names(directory: BorrowedFd<'_>) -> Result<BTreeSet<Vec<u8>>, Errno> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

fn target(parent: BorrowedFd<'_>, name: &[u8]) -> Result<CString, String> {
    readlinkat(parent, name, Vec::new()).map_err(unreadable)
}

/// Reads two files of one size side by side.
fn contents(sides: Sides<'_>, name: &[u8], size: u64) -> Verdict {
    let expected = open(sides.expected, name, OFlags::NONBLOCK).map_err(unreadable)?;
    let found = open(sides.found, name, OFlags::NONBLOCK).map_err(unreadable)?;
    let chunk = usize::try_from(size).map_or(CHUNK, |size| size.min(CHUNK));
    let (mut left, mut right) = (vec![0; chunk], vec![0; chunk]);
    let mut offset = 0;
    while offset < size {
        let (n, m) = (fill(&expected, &mut left)?, fill(&found, &mut right)?);
        let (left, right) = (left.get(..n).unwrap_or_default(), right.get(..m).unwrap_or_default());
        if left != right {
            let at = offset + left.iter().zip(right).take_while(|(a, b)| a == b).count() as u64;
            return Err(format!("differs: its content is another from byte {at} on"));
        }
        if n == 0 {
            return Err(format!("differs: it ends at byte {offset}"));
        }
        offset += n as u64;
    }
    Ok(())
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &OwnedFd, buffer: &mut [u8]) -> Result<usize, String> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match read(file, rest) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(unreadable(e)),
        }
    }
    Ok(filled)
}

fn xattrs(parent: BorrowedFd<'_>, name: &[u8]) -> Result<BTreeMap<CString, Vec<u8>>, String> {
    let path = by_descriptor(parent, name);
    let mut found = BTreeMap::new();
    // Most things have none or few.
    let mut list = vec![0; 1 << 10];
    let length = match llistxattr(path.as_slice(), list.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        Err(Errno::RANGE) => {
            list = vec![0; XATTR_LIMIT];
            llistxattr(path.as_slice(), list.as_mut_slice()).map_err(unreadable)?
        }
        other => other.map_err(unreadable)?,
    };
    for name in list.get(..length).unwrap_or_default().split(|&b| b == 0).filter(|n| !n.is_empty()) {
        // The machine's policy gives everything a label of its own.
        if name == b"security.selinux" {
            continue;
        }
        let Ok(name) = CString::new(name) else { continue };
        let mut value = vec![0; XATTR_LIMIT];
        let length = lgetxattr(path.as_slice(), &name, value.as_mut_slice()).map_err(unreadable)?;
        value.truncate(length);
        found.insert(name, value);
    }
    Ok(found)
}
