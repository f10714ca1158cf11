//! Trees of files: copied, counted, removed, never following a link and never crossing a mount.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use grpc::Failure;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, SeekFrom, Timespec, Timestamps, Uid, chmodat, chownat,
    copy_file_range, ioctl_ficlone, mknodat, seek, utimensat,
};
use rustix::io::Errno;

/// Copies the tree at `from` to `to`, which is not there: data (shared where the file system can), holes, owners, modes, times,
/// extended attributes and hard links.
pub(crate) fn tree(from: &Path, to: &Path) -> Result<(), Failure> {
    let device = fs::symlink_metadata(from).map_err(|e| failed("look at", from, &e))?.dev();
    entry(from, to, device, &mut HashMap::new())
}

fn failed(act: &str, path: &Path, cause: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot {act} {}: {cause}", path.display()))
}

/// Inodes of several names, and the first copy of each.
type Seen = HashMap<u64, PathBuf>;

fn entry(from: &Path, to: &Path, device: u64, seen: &mut Seen) -> Result<(), Failure> {
    let say = |e: &dyn std::fmt::Display| failed("copy", from, e);
    let metadata = fs::symlink_metadata(from).map_err(|e| say(&e))?;
    let kind = metadata.file_type();
    if !kind.is_dir() && metadata.nlink() > 1 {
        if let Some(first) = seen.get(&metadata.ino()) {
            return fs::hard_link(first, to).map_err(|e| say(&e));
        }
        seen.insert(metadata.ino(), to.to_owned());
    }
    if kind.is_symlink() {
        let target = fs::read_link(from).map_err(|e| say(&e))?;
        std::os::unix::fs::symlink(target, to).map_err(|e| say(&e))?;
    } else if kind.is_dir() {
        fs::create_dir(to).map_err(|e| say(&e))?;
        // What is mounted in it is somebody else's.
        if metadata.dev() == device {
            for child in fs::read_dir(from).map_err(|e| say(&e))? {
                let name = child.map_err(|e| say(&e))?.file_name();
                entry(&from.join(&name), &to.join(&name), device, seen)?;
            }
        }
    } else if kind.is_file() {
        file(from, to, metadata.len()).map_err(|e| say(&e))?;
    } else {
        let mode = Mode::from_raw_mode(metadata.mode());
        let kind = if kind.is_fifo() {
            FileType::Fifo
        } else if kind.is_char_device() {
            FileType::CharacterDevice
        } else if kind.is_block_device() {
            FileType::BlockDevice
        } else {
            FileType::Socket
        };
        mknodat(CWD, to, kind, mode, metadata.rdev()).map_err(|e| say(&e))?;
    }
    attributes(from, to, &metadata).map_err(|e| say(&e))
}

fn file(from: &Path, to: &Path, length: u64) -> io::Result<()> {
    let source = File::open(from)?;
    let copy = File::options().write(true).create_new(true).open(to)?;
    contents(&source, &copy, length)
}

/// Gives `copy`, which is empty, the contents of `source`: shared blocks where the file system has them, else data without holes.
pub(crate) fn contents(source: &File, copy: &File, length: u64) -> io::Result<()> {
    match ioctl_ficlone(copy, source) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOTTY) => {}
        Err(e) => return Err(e.into()),
    }
    copy.set_len(length)?;
    let mut at = 0;
    while at < length {
        let start = match seek(source, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(e) => return Err(e.into()),
        };
        let end = seek(source, SeekFrom::Hole(start))?.min(length);
        let (mut read, mut written) = (start, start);
        while read < end {
            let left = usize::try_from(end - read).unwrap_or(usize::MAX);
            if copy_file_range(source, Some(&mut read), copy, Some(&mut written), left)? == 0 {
                // It became shorter.
                return Ok(());
            }
        }
        at = end;
    }
    Ok(())
}

fn attributes(from: &Path, to: &Path, metadata: &Metadata) -> io::Result<()> {
    let is_link = metadata.file_type().is_symlink();
    chownat(
        CWD,
        to,
        Some(Uid::from_raw(metadata.uid())),
        Some(Gid::from_raw(metadata.gid())),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    let mut names = Vec::new();
    for name in extended_names(from, &mut names)? {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(from, name, &mut value[..])?;
        rustix::fs::lsetxattr(to, name, &value[..length], rustix::fs::XattrFlags::empty())?;
    }
    if !is_link {
        // After the owner, whose change takes set-user-id bits away.
        chmodat(CWD, to, Mode::from_raw_mode(metadata.mode() & 0o7777), AtFlags::empty())?;
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn extended_names<'a>(path: &Path, names: &'a mut Vec<u8>) -> io::Result<Vec<&'a str>> {
    names.resize(65_536, 0);
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(e) => return Err(e.into()),
    };
    let list = names[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(list.filter_map(|name| std::str::from_utf8(name).ok()).collect())
}

/// The sum of what `of` makes of each entry of a tree.
pub(crate) fn walk(root: &Path, of: &mut dyn FnMut(&Metadata) -> u64) -> Result<u64, Failure> {
    let say = |path: &Path, e: &io::Error| failed("look at", path, e);
    let metadata = match fs::symlink_metadata(root) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(|e| say(root, &e))?,
    };
    let device = metadata.dev();
    let mut sum = of(&metadata);
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            // Whoever uses it may have removed it meanwhile.
            Err(e) if e.kind() == io::ErrorKind::NotFound && directory != root => continue,
            other => other.map_err(|e| say(&directory, &e))?,
        };
        for entry in entries {
            let path = entry.map_err(|e| say(&directory, &e))?.path();
            let metadata = match fs::symlink_metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|e| say(&path, &e))?,
            };
            if metadata.dev() != device {
                continue;
            }
            sum += of(&metadata);
            if metadata.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(sum)
}

/// Removes a tree; one that is not there is removed.
pub(crate) fn remove(place: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", place, &e)),
        _ => Ok(()),
    }
}

/// Makes a tree durable.
pub(crate) fn sync(place: &Path) -> Result<(), Failure> {
    let mut waiting = vec![place.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).map_err(|e| failed("look at", &path, &e))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&path).map_err(|e| failed("look at", &path, &e))? {
                waiting.push(entry.map_err(|e| failed("look at", &path, &e))?.path());
            }
        }
        if metadata.is_dir() || metadata.is_file() {
            File::open(&path).and_then(|file| file.sync_all()).map_err(|e| failed("sync", &path, &e))?;
        }
    }
    Ok(())
}

/// Makes the names in directories durable.
pub(crate) fn sync_names(directories: &[&Path]) -> Result<(), Failure> {
    directories.iter().try_for_each(|directory| {
        File::open(directory).and_then(|file| file.sync_all()).map_err(|e| failed("sync", directory, &e))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_copy_is_as_the_original() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("d")).unwrap();
        fs::write(from.join("d/a"), "data").unwrap();
        fs::set_permissions(from.join("d/a"), fs::Permissions::from_mode(0o4750)).unwrap();
        fs::hard_link(from.join("d/a"), from.join("b")).unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("l")).unwrap();
        let sparse = File::create(from.join("s")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
        rustix::fs::lsetxattr(from.join("b"), "user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
        mknodat(CWD, from.join("p"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        tree(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("b")).unwrap(), "data");
        let (a, b) = (fs::metadata(to.join("d/a")).unwrap(), fs::metadata(to.join("b")).unwrap());
        assert_eq!((a.ino(), a.mode() & 0o7777), (b.ino(), 0o4750));
        assert_eq!(a.mtime_nsec(), fs::metadata(from.join("b")).unwrap().mtime_nsec());
        assert_eq!(fs::read_link(to.join("l")).unwrap(), Path::new("nowhere"));
        let sparse = fs::metadata(to.join("s")).unwrap();
        assert!(sparse.len() == 64 << 20 && sparse.blocks() * 512 < 1 << 20, "{sparse:?}");
        assert!(fs::read(to.join("s")).unwrap().ends_with(b"end"));
        let mut value = [0; 8];
        assert_eq!(rustix::fs::lgetxattr(to.join("d/a"), "user.x", &mut value[..]).unwrap(), 1);
        assert!(fs::symlink_metadata(to.join("p")).unwrap().file_type().is_fifo());
        let blocks = walk(&to, &mut |metadata| metadata.blocks() * 512).unwrap();
        assert!((4096..1 << 20).contains(&blocks), "{blocks}");
        sync(&to).unwrap();
        remove(&to).unwrap();
        remove(&to).unwrap();
        assert!(!to.exists() && from.join("b").exists());
    }
}
