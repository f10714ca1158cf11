//! Directory trees that somebody else may have filled, and may change while they are looked at, on purpose: walked, measured and
//! removed, without following a link and without memory or descriptors that depend on what is in them.

mod remove;

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat};
use rustix::io::Errno;

pub use remove::remove;

/// The longest path that the kernel takes.
const PATH: usize = 4095;
/// Files of several names that are remembered. What is beyond is counted once a name: too much, but not too little.
const LINKED: usize = 1 << 18;

/// What a walk may hold, however the tree is made.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Subdirectories that wait before the rest of their directory is read.
    batch: usize,
    /// Directories that are read in part, each with a descriptor.
    open: usize,
    /// Directories that wait in all; what is beyond is left out.
    waiting: usize,
}

/// With names of the greatest length this is 20 MB.
const BOUNDS: Bounds = Bounds { batch: 64, open: 128, waiting: 1 << 16 };

/// Something that a walk has come to.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The directory that it is in.
    pub directory: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// What it is.
    pub stat: &'a Stat,
    within: &'a Place,
}

impl Entry<'_> {
    /// The path of the directory that it is in, from the top.
    pub fn within(&self) -> PathBuf {
        self.within.path()
    }

    /// What kind of file it is.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// A directory on the way down: its name, and where it is.
#[derive(Debug)]
struct Place {
    within: Option<Rc<Self>>,
    name: CString,
    /// Bytes of the whole path.
    length: usize,
}

impl Place {
    /// The path from the top.
    fn path(&self) -> PathBuf {
        let mut names = vec![self];
        let mut at = self;
        while let Some(above) = &at.within {
            names.push(above);
            at = above;
        }
        names.iter().rev().map(|place| OsStr::from_bytes(place.name.to_bytes())).collect()
    }
}

/// What comes next on a walk.
#[derive(Debug)]
enum Next {
    Enter(Rc<Place>),
    /// The rest of a directory.
    GoOn(Rc<Place>, Dir),
}

/// Calls `visit` with everything below the directory `top`, a directory before what is in it. Returns whether that was all.
///
/// No symlink is followed, wherever one is put meanwhile. Other filesystems are entered, unless `reach` is `NO_XDEV`. What
/// is nested so deep that its path is too long for the kernel is left out, and so is what makes more directories wait than
/// memory is spent on: of a tree that is more than a hundred deep and everywhere wide.
pub fn walk<E>(
    top: &OwnedFd,
    reach: ResolveFlags,
    visit: impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    walk_within(BOUNDS, top, reach, visit)
}

fn walk_within<E>(
    bounds: Bounds,
    top: &OwnedFd,
    reach: ResolveFlags,
    mut visit: impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<bool, E> {
    let first = Rc::new(Place { within: None, name: c".".to_owned(), length: 1 });
    let mut walk = Walk { bounds, waiting: vec![Next::Enter(first)], open: 0, whole: true };
    while let Some(next) = walk.waiting.pop() {
        match next {
            Next::Enter(place) => {
                if let Some(dir) = walk.enter(top, reach, &place) {
                    walk.read(place, dir, &mut visit)?;
                }
            }
            Next::GoOn(place, dir) => {
                walk.open -= 1;
                walk.read(place, dir, &mut visit)?;
            }
        }
    }
    Ok(walk.whole)
}

struct Walk {
    bounds: Bounds,
    /// The last comes next.
    waiting: Vec<Next>,
    /// How many of them are directories that are read in part.
    open: usize,
    /// Nothing was left out yet.
    whole: bool,
}

impl Walk {
    fn enter(&mut self, top: &OwnedFd, reach: ResolveFlags, place: &Place) -> Option<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | reach;
        let opened = openat2(top, place.path(), flags, Mode::empty(), beneath).and_then(Dir::new);
        // Otherwise it is gone, something else by now, or on another filesystem.
        self.whole &= !opened
            .as_ref()
            .is_err_and(|e| !matches!(*e, Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::XDEV));
        opened.ok()
    }

    /// Reads on in a directory, until it ends or as many wait as may.
    fn read<E>(
        &mut self,
        place: Rc<Place>,
        mut dir: Dir,
        visit: &mut impl FnMut(&Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.waiting.len();
        while let Some(entry) = dir.read() {
            let (Ok(entry), Ok(directory)) = (entry, dir.fd()) else {
                self.whole = false;
                return Ok(());
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // One that cannot be looked at is gone.
            let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            visit(&Entry { directory, name, stat: &stat, within: &place })?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                continue;
            }
            let length = place.length + 1 + name.to_bytes().len();
            if length > PATH || self.waiting.len() >= self.bounds.waiting {
                self.whole = false;
                continue;
            }
            let within = Some(Rc::clone(&place));
            self.waiting.push(Next::Enter(Rc::new(Place { within, name: name.to_owned(), length })));
            if self.waiting.len() - before >= self.bounds.batch && self.open < self.bounds.open {
                self.open += 1;
                self.waiting.insert(before, Next::GoOn(place, dir));
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Bytes and inodes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// As many as are allocated.
    pub bytes: u64,
    /// Files of several names are counted once.
    pub inodes: u64,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// Measures what is below `root` on its filesystem, as [`walk`] finds it; nothing if it is not there.
pub fn measure(root: &Path) -> Taken {
    let mut taken = Taken::default();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(top) = openat2(CWD, root, flags, Mode::empty(), ResolveFlags::empty()) else { return taken };
    let Ok(device) = fstat(&top).map(|stat| stat.st_dev) else { return taken };
    let mut linked = HashSet::new();
    let visit = |entry: &Entry<'_>| {
        let stat = entry.stat;
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let has_names = !is_directory && stat.st_nlink > 1;
        let is_counted = has_names && linked.contains(&stat.st_ino);
        if stat.st_dev == device && !is_counted {
            taken += Taken { bytes: u64::try_from(stat.st_blocks).unwrap_or_default() * 512, inodes: 1 };
            if has_names && linked.len() < LINKED {
                linked.insert(stat.st_ino);
            }
        }
        Ok::<_, std::convert::Infallible>(())
    };
    let Ok(_) = walk(&top, ResolveFlags::NO_XDEV, visit);
    taken
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_are_counted_once_and_links_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(outside.join("much")).unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), vec![1; 100_000]).unwrap();
        fs::hard_link(root.join("a/b/file"), root.join("again")).unwrap();
        symlink(&outside, root.join("out")).unwrap();
        let taken = measure(&root);
        // a, b, the file, the link.
        assert_eq!(taken.inodes, 4);
        assert!((100_000..200_000).contains(&taken.bytes), "{taken:?}");
        assert_eq!(measure(&root.join("out")), Taken::default());
        assert_eq!(measure(&root.join("nothing")), Taken::default());
    }

    #[test]
    fn a_directory_that_becomes_a_link_meanwhile_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("outside"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir_all(outside.join("precious")).unwrap();
        let top = OwnedFd::from(fs::File::open(&root).unwrap());
        let mut seen = Vec::new();
        let whole = walk(&top, ResolveFlags::empty(), |entry| {
            seen.push(entry.name.to_owned());
            if entry.name == c"a" {
                fs::rename(root.join("a"), dir.path().join("away")).unwrap();
                symlink(&outside, root.join("a")).unwrap();
            }
            Ok::<_, ()>(())
        });
        assert_eq!((seen, whole), (vec![c"a".to_owned()], Ok(true)));
    }

    /// How many things are seen below `dir`, and whether that is all.
    fn seen(bounds: Bounds, dir: &Path) -> (usize, bool) {
        let top = OwnedFd::from(fs::File::open(dir).unwrap());
        let mut seen = std::collections::BTreeSet::new();
        let whole = walk_within(bounds, &top, ResolveFlags::empty(), |entry| {
            assert!(seen.insert(entry.stat.st_ino), "{:?} is seen twice", entry.name);
            Ok::<_, ()>(())
        });
        (seen.len(), whole.unwrap())
    }

    #[test]
    fn wide_trees_are_walked_in_parts() {
        let dir = tempfile::tempdir().unwrap();
        for outer in 0..10 {
            for inner in 0..10 {
                fs::create_dir_all(dir.path().join(format!("{outer}/{inner}/below"))).unwrap();
            }
        }
        let all = 10 + 100 + 100;
        assert_eq!(seen(BOUNDS, dir.path()), (all, true));
        assert_eq!(seen(Bounds { batch: 3, open: 3, waiting: 12 }, dir.path()), (all, true));
        assert_eq!(seen(Bounds { batch: 1, open: 3, waiting: 6 }, dir.path()), (all, true));
        // What may not wait is seen, and not looked into.
        let (few, whole) = seen(Bounds { batch: 3, open: 0, waiting: 5 }, dir.path());
        assert!((10..all).contains(&few) && !whole, "{few}");
    }

    #[test]
    fn a_deep_tree_ends_it_neither_by_stack_nor_by_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let mut at = rustix::fs::open(dir.path(), OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::from_raw_mode(0o755)).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        let taken = measure(dir.path());
        assert!((1500..3000).contains(&taken.inodes), "{taken:?}");
    }
}
