//! Folders that are made empty, and paths of the node.

use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use client::quantity;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use rustix::fs::{Mode, OFlags, open};

use super::remove::mounts;

/// A filesystem in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// In bytes; half of the machine's memory without.
    pub(super) size: Option<i64>,
    /// The rights of its root, in octal digits.
    pub(super) mode: &'static CStr,
    /// The group of its root.
    pub(super) group: Option<i64>,
}

/// `emptyDir`: what is in it stays.
pub(super) fn empty(path: &Path, asked: &EmptyDirVolumeSource, group: Option<i64>) -> Result<(), String> {
    let memory = match asked.medium.as_deref().unwrap_or_default() {
        "" => None,
        "Memory" => {
            let size = asked.size_limit.as_ref().and_then(quantity::bytes).filter(|size| *size > 0);
            Some(Memory { size, mode: if group.is_some() { c"2777" } else { c"0777" }, group })
        }
        other => return Err(format!("emptyDir.medium: {other:?} is not supported: give \"\" or \"Memory\"")),
    };
    if memory.is_some() {
        // A new file system has its rights from the start.
        return directory(path, memory);
    }
    // What the pod has made of its rights stays.
    if path.exists() {
        return Ok(());
    }
    let failed = |error: std::io::Error| format!("cannot make {}: {error}", path.display());
    // It has its name once it is right. Names of volumes have no dots.
    let fresh = path.with_extension("new");
    directory(&fresh, None)?;
    fs::set_permissions(&fresh, Permissions::from_mode(0o777)).map_err(failed)?;
    if let Some(group) = group {
        super::share(&fresh, group, 0o2777).map_err(failed)?;
    }
    fs::rename(&fresh, path).map_err(failed)
}

/// Makes a directory, and mounts a filesystem in memory on it, unless there is one.
pub(super) fn directory(path: &Path, memory: Option<Memory>) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("cannot make {}: {why}", path.display());
    DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| failed(&e))?;
    match memory {
        Some(memory) if !is_mounted(path).map_err(|e| failed(&e))? => {
            mount(path, memory).map_err(|e| failed(&e))
        }
        _ => Ok(()),
    }
}

/// Whether something is mounted on a directory.
fn is_mounted(path: &Path) -> std::io::Result<bool> {
    Ok(mounts(path)?.iter().any(|point| point == path))
}

fn mount(path: &Path, memory: Memory) -> rustix::io::Result<()> {
    let target = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let size = memory.size.and_then(|size| CString::new(size.to_string()).ok());
    let size: Option<(&CStr, Option<&CStr>)> = size.as_deref().map(|size| (c"size", Some(size)));
    let group = memory.group.and_then(|group| CString::new(group.to_string()).ok());
    let group: Option<(&CStr, Option<&CStr>)> = group.as_deref().map(|group| (c"gid", Some(group)));
    let options = size.into_iter().chain(group).chain([(c"mode", Some(memory.mode))]);
    let nodev = u64::from(rustix::mount::MountAttrFlags::MOUNT_ATTR_NODEV.bits())
        | u64::from(rustix::mount::MountAttrFlags::MOUNT_ATTR_NOSUID.bits());
    let filesystem = kernel::mount::filesystem(c"tmpfs", Some(c"tmpfs"), options, nodev)?;
    kernel::mount::attach(filesystem, target)
}

/// `hostPath`: what the type says is there, or is made.
pub(super) fn host(path: &str, kind: &str) -> Result<(), String> {
    if kind.is_empty() {
        return Ok(());
    }
    let there = fs::metadata(path);
    let failed = |what: &str| Err(format!("hostPath type check failed: {path} is not {what}"));
    let is = |of: fn(&fs::FileType) -> bool| there.as_ref().is_ok_and(|meta| of(&meta.file_type()));
    match kind {
        "DirectoryOrCreate" if there.is_err() => {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(|error| format!("cannot make the directory {path}: {error}"))
        }
        "FileOrCreate" if there.is_err() => {
            let made = File::options().append(true).create(true).open(path);
            made.map(drop).map_err(|error| format!("cannot make the file {path}: {error}"))
        }
        "Directory" | "DirectoryOrCreate" if !is(fs::FileType::is_dir) => failed("a directory"),
        "File" | "FileOrCreate" if !is(fs::FileType::is_file) => failed("a file"),
        "Socket" if !is(|kind| kind.is_socket()) => failed("a socket file"),
        "CharDevice" if !is(|kind| kind.is_char_device()) => failed("a character device"),
        "BlockDevice" if !is(|kind| kind.is_block_device()) => failed("a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_open_to_the_pod_and_then_as_the_pod_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("volumes").join("v");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let group = i64::from(rustix::process::getegid().as_raw());
        let asked = EmptyDirVolumeSource::default();
        // What a killed agent leaves.
        fs::create_dir_all(at.with_extension("new")).unwrap();
        empty(&at, &asked, None).unwrap();
        assert_eq!((mode(&at), at.with_extension("new").exists()), (0o777, false));
        fs::set_permissions(&at, Permissions::from_mode(0o700)).unwrap();
        fs::write(at.join("file"), "x").unwrap();
        empty(&at, &asked, None).unwrap();
        assert_eq!((mode(&at), at.join("file").exists()), (0o700, true), "the pod's own");
        let shared = dir.path().join("shared");
        empty(&shared, &asked, Some(group)).unwrap();
        assert_eq!(mode(&shared), 0o2777);
        let other = EmptyDirVolumeSource { medium: Some("Floppy".into()), ..asked };
        assert!(empty(&at, &other, None).unwrap_err().contains("\"Floppy\""));
    }

    #[test]
    fn paths_of_the_node_are_what_their_type_says() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        assert_eq!(host(&at("a"), ""), Ok(()));
        assert_eq!(
            host(&at("a"), "Directory"),
            Err(format!("hostPath type check failed: {} is not a directory", at("a")))
        );
        assert_eq!(host(&at("d/e"), "DirectoryOrCreate"), Ok(()));
        assert_eq!(host(&at("d/e"), "Directory"), Ok(()));
        assert_eq!(host(&at("f"), "FileOrCreate"), Ok(()));
        assert_eq!(host(&at("f"), "File"), Ok(()));
        assert!(host(&at("f"), "DirectoryOrCreate").is_err());
        assert_eq!(host("/dev/null", "CharDevice"), Ok(()));
        assert!(host("/dev/null", "BlockDevice").is_err());
        assert!(host(&at("f"), "Socket").is_err());
    }
}
