//! The system call filter that a container asks for.

use std::fs;
use std::io::Read;

use kernel::arch::Arch;
use kernel::capability::CapSet;
use oci_runtime::contract::Seccomp;
use oci_runtime::seccomp::{Circumstances, default_profile, read_profile};

use crate::contract::Error;
use crate::contract::profile::{self, Asked, Profile};
use crate::contract::v1::LinuxContainerSecurityContext;

/// A profile longer than this is none.
const LONGEST: u64 = 4 << 20;

const FIELD: &str = "config.linux.security_context";

/// The filter, if there is one. Without a profile there is none: so the kubelet means it.
pub(super) fn seccomp(
    security: &LinuxContainerSecurityContext,
    capabilities: CapSet,
) -> Result<Option<Seccomp>, Error> {
    #[expect(deprecated, reason = "older kubelets send the old notation alone")]
    let asked = profile::seccomp(security.seccomp.as_ref(), &security.seccomp_profile_path);
    let Asked { profile, field } = asked.map_err(|e| e.within(FIELD))?;
    if security.privileged {
        return Ok(None);
    }
    match profile {
        Profile::Unsaid | Profile::Unconfined => Ok(None),
        Profile::Default => Ok(Some(default_profile(capabilities, Arch::NATIVE))),
        Profile::Localhost(path) => {
            let invalid = |what: String| Error::invalid(format!("{FIELD}.{field}"), what);
            let mut text = Vec::new();
            fs::File::open(path)
                .and_then(|file| file.take(LONGEST + 1).read_to_end(&mut text))
                .map_err(|e| invalid(format!("cannot read the profile {path}: {e}")))?;
            if text.len() as u64 > LONGEST {
                return Err(invalid(format!("{path} is longer than {LONGEST} bytes: that is no profile")));
            }
            let here = Circumstances::here(capabilities);
            let profile = read_profile(&text, &here);
            profile.map(Some).map_err(|error| invalid(format!("cannot use the profile {path}: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::SecurityProfile;
    use crate::contract::v1::security_profile::ProfileType;

    fn with(kind: ProfileType, reference: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            seccomp: Some(SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() }),
            ..LinuxContainerSecurityContext::default()
        }
    }

    fn of(security: &LinuxContainerSecurityContext) -> Result<Option<Seccomp>, Error> {
        seccomp(security, oci_runtime::default_spec::CAPABILITIES)
    }

    #[test]
    fn none_default_and_unconfined() {
        assert_eq!(of(&LinuxContainerSecurityContext::default()).unwrap(), None);
        assert!(of(&with(ProfileType::RuntimeDefault, "")).unwrap().is_some());
        assert_eq!(of(&with(ProfileType::Unconfined, "")).unwrap(), None);
    }

    #[test]
    fn a_file_is_read_for_whoever_is_not_privileged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        fs::write(
            &path,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]}"#,
        )
        .unwrap();
        let path = path.to_str().unwrap();
        let mut security = with(ProfileType::Localhost, path);
        assert_eq!(of(&security).unwrap().unwrap().syscalls[0].names, ["chmod"]);
        assert_eq!(
            of(&with(ProfileType::Localhost, &format!("localhost/{path}"))).unwrap(),
            of(&security).unwrap()
        );
        security.privileged = true;
        assert_eq!(of(&security).unwrap(), None);
        let error = of(&with(ProfileType::Localhost, "/there/is/none")).unwrap_err();
        assert_eq!(error.field.unwrap(), format!("{FIELD}.seccomp.localhost_ref"));
        fs::write(path, "{").unwrap();
        assert!(
            of(&with(ProfileType::Localhost, path))
                .unwrap_err()
                .to_string()
                .contains("cannot use the profile")
        );
    }
}
