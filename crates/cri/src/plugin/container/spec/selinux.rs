//! SELinux: the label of a container's processes and that of its files.
//!
//! Containers of a pod have one level, two categories that are the pod's by its id; what another pod has it cannot reach.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, XattrFlags, openat2};
use rustix::io::Errno;

use crate::contract::Error;
use crate::contract::v1::SeLinuxOption;
use kernel::tree;

const ATTRIBUTE: &str = "security.selinux";

/// The labels of processes and of files; empty where there is no SELinux.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) process: String,
    pub(super) files: String,
}

/// Whether this machine has SELinux.
pub(super) fn is_enabled() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The labels of a container in the pod `pod`: what it asks for, else what the pod asked for, else the usual.
pub(super) fn labels(pod: &str, asked: Option<&SeLinuxOption>, of_pod: Option<&SeLinuxOption>) -> Labels {
    let none = SeLinuxOption::default();
    let (asked, of_pod) = (asked.unwrap_or(&none), of_pod.unwrap_or(&none));
    let one = |asked: &str, of_pod: &str, usual: &str| {
        [asked, of_pod, usual].into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_owned()
    };
    let user = one(&asked.user, &of_pod.user, "system_u");
    let role = one(&asked.role, &of_pod.role, "system_r");
    let kind = one(&asked.r#type, &of_pod.r#type, "container_t");
    let level = one(&asked.level, &of_pod.level, &level(pod));
    Labels {
        process: format!("{user}:{role}:{kind}:{level}"),
        files: format!("{user}:object_r:container_file_t:{level}"),
    }
}

/// Sensitivity 0 with two of the 1024 categories, by the pod's id.
fn level(pod: &str) -> String {
    let number =
        |digits: Option<&str>| digits.and_then(|d| u32::from_str_radix(d, 16).ok()).unwrap_or_default();
    let first = number(pod.get(..4)) % 1024;
    // Never the same twice.
    let second = (first + 1 + number(pod.get(4..8)) % 1023) % 1024;
    format!("s0:c{},c{}", first.min(second), first.max(second))
}

/// Directories that the host itself lives on: given another label, it would not boot.
const KEPT: [&str; 16] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin",
    "/sys", "/tmp", "/usr", "/var",
];

/// Gives `path` and all below it the label, where the filesystem has labels. Links are not followed.
pub(super) fn relabel(path: &Path, label: &str, field: &str) -> Result<(), Error> {
    if KEPT.iter().any(|kept| path == Path::new(kept)) {
        let rule = "is the host's own, which another label would break: leave selinux_relabel out";
        return Err(Error::invalid(field, format!("{} {rule}", path.display())));
    }
    let value = label.as_bytes();
    relabel_by(path, |at| rustix::fs::lsetxattr(at, ATTRIBUTE, value, XattrFlags::empty())).map_err(|e| {
        let what = format!("cannot give {} the label {label}: {e}", path.display());
        Error { field: Some(field.to_owned()), ..Error::internal(what) }
    })
}

/// Calls `set` with the way to `path` and to all below it, which goes through descriptors: who writes to the tree
/// meanwhile cannot lead it elsewhere.
fn relabel_by(path: &Path, set: impl Fn(&Path) -> rustix::io::Result<()>) -> Result<(), String> {
    let set = |at: &Path| match set(at) {
        // It is gone, or on a filesystem without labels.
        Ok(()) | Err(Errno::NOENT | Errno::OPNOTSUPP | Errno::ROFS) => Ok(()),
        Err(e) => Err(e.to_string()),
    };
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err("it has no name".into());
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open =
        |at: BorrowedFd<'_>, path: &Path| openat2(at, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let parent = open(CWD, parent).map_err(|e| e.to_string())?;
    set(&way(parent.as_fd()).join(name))?;
    let top = match open(parent.as_fd(), Path::new(name)) {
        // It is a file, or gone.
        Err(Errno::NOTDIR | Errno::NOENT) => return Ok(()),
        top => top.map_err(|e| e.to_string())?,
    };
    let whole = tree::walk(&top, ResolveFlags::empty(), |entry| {
        let name = Path::new(OsStr::from_bytes(entry.name.to_bytes()));
        set(&way(entry.directory).join(name)).map_err(|e| format!("{}: {e}", name.display()))
    })?;
    match whole {
        true => Ok(()),
        false => Err("some directories below it are too deep, or cannot be read".into()),
    }
}

/// The path that leads to what a descriptor is of, whatever it is called by now.
fn way(descriptor: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", descriptor.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::fs;

    use rustix::fs::lstat;

    use super::*;

    const POD: &str = "0001000245";

    fn option(kind: &str, level: &str) -> SeLinuxOption {
        SeLinuxOption { r#type: kind.into(), level: level.into(), ..SeLinuxOption::default() }
    }

    #[test]
    fn the_container_then_the_pod_then_the_usual() {
        let usual = labels(POD, None, None);
        assert_eq!(usual.process, "system_u:system_r:container_t:s0:c1,c4");
        assert_eq!(usual.files, "system_u:object_r:container_file_t:s0:c1,c4");
        let pods = option("pod_t", "s0:c7,c8");
        let of = |asked: Option<&SeLinuxOption>| labels(POD, asked, Some(&pods)).process;
        assert_eq!(of(None), "system_u:system_r:pod_t:s0:c7,c8");
        assert_eq!(of(Some(&option("mine_t", ""))), "system_u:system_r:mine_t:s0:c7,c8");
    }

    #[test]
    fn levels_have_two_categories_in_order() {
        for id in ["00000000", "ffffffff", "03ff0000", "0000ffff", "12", ""] {
            let level = level(id);
            let (a, b) = level.strip_prefix("s0:c").unwrap().split_once(",c").unwrap();
            let (a, b): (u32, u32) = (a.parse().unwrap(), b.parse().unwrap());
            assert!(a < b && b < 1024, "{level}");
        }
    }

    #[test]
    fn the_hosts_own_directories_keep_their_labels() {
        let error = relabel(Path::new("/usr"), "x", "config.mounts[0].selinux_relabel").unwrap_err();
        assert_eq!(error.field.as_deref(), Some("config.mounts[0].selinux_relabel"));
    }

    /// The inodes that would be given a label.
    fn relabelled(path: &Path) -> (BTreeSet<u64>, Result<(), String>) {
        let set = RefCell::new(BTreeSet::new());
        let result = relabel_by(path, |at| {
            set.borrow_mut().insert(lstat(at)?.st_ino);
            Ok(())
        });
        (set.into_inner(), result)
    }

    #[test]
    fn all_below_gets_the_label_and_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (volume, outside) = (dir.join("volume"), dir.join("outside"));
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::write(volume.join("a/b/file"), "").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("precious"), "").unwrap();
        let link = volume.join("link");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        let inodes = |paths: &[&Path]| paths.iter().map(|path| lstat(*path).unwrap().st_ino).collect();
        let all = inodes(&[&volume, &volume.join("a"), &volume.join("a/b"), &volume.join("a/b/file"), &link]);
        assert_eq!(relabelled(&volume), (all, Ok(())));
        // A single file is a mount's source, too.
        let file = volume.join("a/b/file");
        assert_eq!(relabelled(&file), (inodes(&[&file]), Ok(())));
        // One that has become a link since its path was found.
        let (set, result) = relabelled(&link);
        assert_eq!(set, inodes(&[&link]));
        result.unwrap_err();
    }

    #[test]
    fn a_filesystem_without_labels_does_not_end_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        for name in ["a", "b", "c"] {
            fs::create_dir(dir.join(name)).unwrap();
            fs::write(dir.join(name).join("file"), "").unwrap();
        }
        for refusal in [Errno::OPNOTSUPP, Errno::ROFS] {
            let set = RefCell::new(Vec::new());
            relabel_by(&dir, |at| {
                let at = at.parent().unwrap().canonicalize().unwrap().join(at.file_name().unwrap());
                let known = !at.ends_with("b") && at != dir;
                set.borrow_mut().push(at);
                if known { Ok(()) } else { Err(refusal) }
            })
            .unwrap();
            assert_eq!(set.into_inner().len(), 7);
        }
        let error = relabel_by(&dir, |at| if at.ends_with("file") { Err(Errno::PERM) } else { Ok(()) });
        assert!(error.unwrap_err().starts_with("file: "));
    }
}
