//! SELinux: the label of a container's processes and that of its files.
//!
//! Containers of a pod have one level, two categories that are the pod's by its id; what another pod has it cannot reach.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::contract::Error;
use crate::contract::v1::SeLinuxOption;

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
pub(super) fn labels(
    pod: &str,
    asked: Option<&SeLinuxOption>,
    of_pod: Option<&SeLinuxOption>,
) -> Result<Labels, Error> {
    let field = "config.linux.security_context.selinux_options";
    let none = SeLinuxOption::default();
    let (asked, of_pod) = (asked.unwrap_or(&none), of_pod.unwrap_or(&none));
    for (name, value) in
        [("user", &asked.user), ("role", &asked.role), ("type", &asked.r#type), ("level", &asked.level)]
    {
        // Only a level has colons.
        if value.contains(['\0', ' ', '\n']) || (name != "level" && value.contains(':')) {
            let hint = "write it as ls -Z shows it";
            return Err(Error::invalid(format!("{field}.{name}"), format!("{value:?} is none: {hint}")));
        }
    }
    let one = |asked: &str, of_pod: &str, usual: &str| {
        [asked, of_pod, usual].into_iter().find(|value| !value.is_empty()).unwrap_or_default().to_owned()
    };
    let user = one(&asked.user, &of_pod.user, "system_u");
    let role = one(&asked.role, &of_pod.role, "system_r");
    let kind = one(&asked.r#type, &of_pod.r#type, "container_t");
    let level = one(&asked.level, &of_pod.level, &level(pod));
    Ok(Labels {
        process: format!("{user}:{role}:{kind}:{level}"),
        files: format!("{user}:object_r:container_file_t:{level}"),
    })
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
    let mut left = vec![path.to_path_buf()];
    while let Some(path) = left.pop() {
        let value = OsStr::new(label).as_bytes();
        match rustix::fs::lsetxattr(&path, "security.selinux", value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::OPNOTSUPP | Errno::ROFS) => return Ok(()),
            Err(e) => {
                let what = format!("cannot give {} the label {label}: {e}", path.display());
                return Err(Error { field: Some(field.to_owned()), ..Error::internal(what) });
            }
        }
        if fs::symlink_metadata(&path).is_ok_and(|stat| stat.is_dir()) {
            left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "0001000245";

    fn option(kind: &str, level: &str) -> SeLinuxOption {
        SeLinuxOption { r#type: kind.into(), level: level.into(), ..SeLinuxOption::default() }
    }

    #[test]
    fn the_container_then_the_pod_then_the_usual() {
        let usual = labels(POD, None, None).unwrap();
        assert_eq!(usual.process, "system_u:system_r:container_t:s0:c1,c4");
        assert_eq!(usual.files, "system_u:object_r:container_file_t:s0:c1,c4");
        let pods = option("pod_t", "s0:c7,c8");
        let of = |asked: Option<&SeLinuxOption>| labels(POD, asked, Some(&pods)).unwrap().process;
        assert_eq!(of(None), "system_u:system_r:pod_t:s0:c7,c8");
        assert_eq!(of(Some(&option("mine_t", ""))), "system_u:system_r:mine_t:s0:c7,c8");
        let error = labels(POD, Some(&option("a:b", "")), None).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("config.linux.security_context.selinux_options.type"));
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
}
