//! What a directory tree takes of its filesystem.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, statat};

/// Bytes and inodes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl std::ops::AddAssign for Taken {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// Measures the tree at `root`; nothing if it is not there.
///
/// Its owner may be a container that changes it meanwhile, and on purpose: no symlink is followed, no other filesystem
/// entered, and what is nested so deep that its path is too long for the kernel is left out.
pub(crate) fn measure(root: &Path) -> Taken {
    let mut taken = Taken::default();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(top) = openat2(CWD, root, flags, Mode::empty(), ResolveFlags::empty()) else { return taken };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let mut linked = HashSet::new();
    let mut left = vec![PathBuf::from(".")];
    while let Some(path) = left.pop() {
        let Ok(directory) = openat2(&top, &path, flags, Mode::empty(), beneath) else { continue };
        for name in names(&directory) {
            let Ok(stat) = statat(&directory, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_directory && stat.st_nlink > 1 && !linked.insert(stat.st_ino) {
                continue;
            }
            taken += Taken { bytes: u64::try_from(stat.st_blocks).unwrap_or_default() * 512, inodes: 1 };
            if is_directory {
                left.push(path.join(name));
            }
        }
    }
    taken
}

fn names(directory: &OwnedFd) -> Vec<OsString> {
    let entries = Dir::read_from(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
    names.filter(|name| name != "." && name != "..").collect()
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
