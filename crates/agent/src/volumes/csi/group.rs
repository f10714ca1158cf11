//! A volume's files become the pod's group's.
//!
//! Another pod may be at the same volume, and move things about: everything is found by descriptors, and no link is followed.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, chmodat, chownat, fstat, openat, statat};

/// What a group may do with files and folders.
const FILES: u32 = 0o660;
/// Beyond that: what is made in a folder is the group's, too.
const FOLDERS: u32 = 0o2110;

/// Gives all that is below a path to a group, with the right to read and write. If `is_lazy`, only where the topmost folder is not so.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn share(path: &Path, group: i64, is_lazy: bool) -> Result<(), String> {
    let failed = |why: rustix::io::Errno| format!("cannot give {} to group {group}: {why}", path.display());
    let gid = u32::try_from(group).map_err(|_| format!("fsGroup {group} is none"))?;
    let root = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let stat = fstat(&root).map_err(failed)?;
    let wanted = FILES | FOLDERS;
    if is_lazy && stat.st_gid == gid && stat.st_mode & wanted == wanted {
        return Ok(());
    }
    // The topmost folder last: it says that all is done.
    if FileType::from_raw_mode(stat.st_mode).is_dir() {
        below(&root, gid).map_err(failed)?;
    }
    one(&root, gid).map_err(failed)
}

/// Folders in folders that are gone through, with two descriptors each.
const DEPTH: usize = 200;

fn below(root: &OwnedFd, gid: u32) -> rustix::io::Result<()> {
    let mut open = vec![entries(root)?];
    while let Some((folder, dir)) = open.last_mut() {
        let Some(entry) = dir.next() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name: CString = entry.file_name().to_owned();
        if matches!(name.as_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(folder.as_fd(), &name, flags, Mode::empty()) {
            // It has gone meanwhile.
            Err(rustix::io::Errno::NOENT) => continue,
            found => found?,
        };
        one(&found, gid)?;
        if FileType::from_raw_mode(fstat(&found)?.st_mode).is_dir() {
            // Descriptors are the whole agent's.
            if open.len() >= DEPTH {
                return Err(rustix::io::Errno::NAMETOOLONG);
            }
            open.push(entries(&found)?);
        }
    }
    Ok(())
}

/// A folder to look through, and the same to find things in.
fn entries(of: &OwnedFd) -> rustix::io::Result<(OwnedFd, Dir)> {
    let folder = openat(of, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let dir = Dir::read_from(&folder)?;
    Ok((folder, dir))
}

fn one(found: &OwnedFd, gid: u32) -> rustix::io::Result<()> {
    let before = fstat(found)?;
    let kind = FileType::from_raw_mode(before.st_mode);
    if before.st_gid != gid {
        chownat(found, "", None, Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)?;
    }
    if kind.is_symlink() {
        return Ok(());
    }
    let add = if kind.is_dir() { FILES | FOLDERS } else { FILES };
    // A change of owner takes set-user-id from files.
    let now = statat(found, "", AtFlags::EMPTY_PATH)?.st_mode & 0o7777;
    if now & add == add {
        return Ok(());
    }
    // A descriptor that is a path alone has no mode to change but by its name.
    let name = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
    chmodat(CWD, name, Mode::from_raw_mode(now | add), AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn all_below_is_the_groups_and_nothing_that_a_link_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, other) = (dir.path().join("volume"), dir.path().join("other"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::write(volume.join("a/b/file"), "x").unwrap();
        fs::write(&other, "x").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        symlink(&other, volume.join("a/link")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        fs::set_permissions(volume.join("a/b/file"), Permissions::from_mode(0o600)).unwrap();
        let root = rustix::process::geteuid().is_root();
        let group = if root { 4711 } else { i64::from(rustix::process::getegid().as_raw()) };
        share(&volume, group, false).unwrap();
        for name in ["", "a", "a/b", "a/b/file"] {
            assert_eq!(i64::from(fs::metadata(volume.join(name)).unwrap().gid()), group, "{name}");
        }
        assert_eq!(mode(&volume.join("a/b/file")), 0o660);
        assert_eq!(mode(&volume.join("a/b")) & 0o2770, 0o2770);
        assert_eq!(mode(&other), 0o600);
        // What is so at the top is left alone, where that is asked for.
        fs::set_permissions(volume.join("a/b/file"), Permissions::from_mode(0o600)).unwrap();
        share(&volume, group, true).unwrap();
        assert_eq!(mode(&volume.join("a/b/file")), 0o600);
        share(&volume, group, false).unwrap();
        assert_eq!(mode(&volume.join("a/b/file")), 0o660);
    }
}
