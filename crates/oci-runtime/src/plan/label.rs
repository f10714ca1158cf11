//! What the security modules of the kernel are told: an AppArmor profile, SELinux labels.

use std::ffi::CString;
use std::fs;
use std::path::Path;

use kernel::process::cstring;

use crate::contract::Process;
use crate::{Error, Result};

/// What is written to the attributes of the process before it executes its program.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    pub(crate) apparmor: Option<Vec<u8>>,
    pub(crate) selinux: Option<Vec<u8>>,
}

/// Before a profile's name: it holds from the next exec on.
const ON_EXEC: &str = "exec ";

impl Labels {
    /// The AppArmor profile's name, for a message.
    pub(crate) fn profile(&self) -> String {
        let text = String::from_utf8_lossy(self.apparmor.as_deref().unwrap_or_default()).into_owned();
        text.strip_prefix(ON_EXEC).unwrap_or(&text).to_owned()
    }
}

/// Which modules work on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Modules {
    pub(crate) apparmor: bool,
    pub(crate) selinux: bool,
}

impl Modules {
    /// What the kernel says; `sys` is where sysfs is.
    pub(crate) fn of(sys: &Path) -> Self {
        let apparmor = fs::read(sys.join("module/apparmor/parameters/enabled"));
        Self {
            apparmor: apparmor.is_ok_and(|text| text.starts_with(b"Y")),
            selinux: sys.join("fs/selinux/enforce").exists(),
        }
    }
}

/// Plans the labels of `process`. One that nobody would enforce is an error: a container without the protection that
/// was asked for does not start.
pub(super) fn plan(process: &Process, modules: impl FnOnce() -> Modules) -> Result<Labels> {
    let (profile, label) = (&process.apparmor_profile, &process.selinux_label);
    if profile.is_empty() && label.is_empty() {
        return Ok(Labels::default());
    }
    let modules = modules();
    let refuse = |field: &str, value: &str, hint| {
        Err(Error::Unsupported { field: field.into(), value: value.into(), hint })
    };
    if !profile.is_empty() && !modules.apparmor {
        let hint = "AppArmor is not enabled on this machine; boot with it or leave the profile out";
        return refuse("process.apparmorProfile", profile, hint);
    }
    if !label.is_empty() && !modules.selinux {
        let hint = "SELinux is not enabled on this machine; boot with it or leave the label out";
        return refuse("process.selinuxLabel", label, hint);
    }
    Ok(Labels {
        apparmor: (!profile.is_empty()).then(|| format!("{ON_EXEC}{profile}").into_bytes()),
        selinux: (!label.is_empty()).then(|| label.clone().into_bytes()),
    })
}

/// The label of the container's filesystems, for the mount option `context`; without SELinux there is nothing to
/// label, which is a warning.
pub(super) fn of_mounts(
    label: &str,
    modules: impl FnOnce() -> Modules,
    warnings: &mut Vec<String>,
) -> Result<Option<CString>> {
    if label.is_empty() {
        return Ok(None);
    }
    if !modules().selinux {
        warnings.push(format!(
            "linux.mountLabel {label:?} has no effect: SELinux is not enabled on this machine"
        ));
        return Ok(None);
    }
    Ok(Some(cstring(label.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(apparmor: &str, selinux: &str) -> Process {
        Process { apparmor_profile: apparmor.into(), selinux_label: selinux.into(), ..Process::default() }
    }

    const NONE: Modules = Modules { apparmor: false, selinux: false };
    const BOTH: Modules = Modules { apparmor: true, selinux: true };

    #[test]
    fn labels_are_what_the_modules_read() {
        let labels = plan(&process("prof", "u:r:t:s0"), || BOTH).unwrap();
        assert_eq!(labels.apparmor.as_deref(), Some(&b"exec prof"[..]));
        assert_eq!(labels.profile(), "prof");
        assert_eq!(labels.selinux.as_deref(), Some(&b"u:r:t:s0"[..]));
    }

    #[test]
    fn a_label_nobody_enforces_is_an_error() {
        let error = plan(&process("prof", ""), || NONE).unwrap_err().to_string();
        assert!(error.starts_with("cannot set process.apparmorProfile: \"prof\""), "{error}");
        let error = plan(&process("", "u:r:t:s0"), || NONE).unwrap_err().to_string();
        assert!(error.starts_with("cannot set process.selinuxLabel: \"u:r:t:s0\""), "{error}");
        assert!(plan(&process("", ""), || unreachable!()).unwrap().apparmor.is_none());
    }

    #[test]
    fn a_mount_label_without_selinux_is_a_warning() {
        let mut warnings = Vec::new();
        assert_eq!(of_mounts("u:object_r:t:s0", || NONE, &mut warnings).unwrap(), None);
        assert!(warnings.len() == 1 && warnings[0].contains("linux.mountLabel"), "{warnings:?}");
        let label = of_mounts("u:object_r:t:s0", || BOTH, &mut warnings).unwrap();
        assert_eq!((label.as_deref(), warnings.len()), (Some(c"u:object_r:t:s0"), 1));
    }

    #[test]
    fn modules_are_found_where_the_kernel_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Modules::of(dir.path()).apparmor && !Modules::of(dir.path()).selinux);
        let parameters = dir.path().join("module/apparmor/parameters");
        fs::create_dir_all(&parameters).unwrap();
        fs::write(parameters.join("enabled"), "N\n").unwrap();
        assert!(!Modules::of(dir.path()).apparmor);
        fs::write(parameters.join("enabled"), "Y\n").unwrap();
        fs::create_dir_all(dir.path().join("fs/selinux")).unwrap();
        fs::write(dir.path().join("fs/selinux/enforce"), "1").unwrap();
        assert!(Modules::of(dir.path()).apparmor && Modules::of(dir.path()).selinux);
    }
}
