//! The system call filter that a container asks for.

use std::fs;
use std::io::Read;

use kernel::arch::Arch;
use kernel::capability::CapSet;
use oci_runtime::contract::Seccomp;
use oci_runtime::seccomp::{Circumstances, default_profile, read_profile};

use crate::contract::Error;
use crate::contract::v1::LinuxContainerSecurityContext;
use crate::contract::v1::security_profile::ProfileType;

/// A profile longer than this is none.
const LONGEST: u64 = 4 << 20;

const FIELD: &str = "config.linux.security_context";

/// Which profile, and the field that says so.
#[derive(Debug, PartialEq, Eq)]
enum Choice<'a> {
    Unconfined,
    Default,
    File { path: &'a str, field: String },
}

/// The filter, if there is one. Without a profile there is none: so the kubelet means it.
pub(super) fn seccomp(
    security: &LinuxContainerSecurityContext,
    capabilities: CapSet,
) -> Result<Option<Seccomp>, Error> {
    let choice = choose(security)?;
    if security.privileged {
        return Ok(None);
    }
    match choice {
        Choice::Unconfined => Ok(None),
        Choice::Default => Ok(Some(default_profile(capabilities, Arch::NATIVE))),
        Choice::File { path, field } => {
            let invalid = |what: String| Error::invalid(field.clone(), what);
            if !path.starts_with('/') {
                return Err(invalid(format!("{path:?} is relative: give the profile's path from /")));
            }
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

#[expect(deprecated, reason = "older kubelets send the old form alone")]
fn choose(security: &LinuxContainerSecurityContext) -> Result<Choice<'_>, Error> {
    let Some(profile) = &security.seccomp else {
        let old = security.seccomp_profile_path.as_str();
        let field = || format!("{FIELD}.seccomp_profile_path");
        return match old {
            "" | "unconfined" => Ok(Choice::Unconfined),
            "runtime/default" | "docker/default" => Ok(Choice::Default),
            _ => match old.strip_prefix("localhost/") {
                Some(path) => Ok(Choice::File { path, field: field() }),
                None => {
                    let hint = "give runtime/default, unconfined or localhost/PATH";
                    Err(Error::invalid(field(), format!("{old:?} is no profile: {hint}")))
                }
            },
        };
    };
    let reference = profile.localhost_ref.as_str();
    let field = format!("{FIELD}.seccomp.localhost_ref");
    let kind = ProfileType::try_from(profile.profile_type).map_err(|_| {
        let field = format!("{FIELD}.seccomp.profile_type");
        Error::invalid(field, format!("{} is no type of profile", profile.profile_type))
    })?;
    match kind {
        ProfileType::Localhost if reference.is_empty() => {
            Err(Error::invalid(field, "is empty: Localhost needs a profile's path"))
        }
        ProfileType::Localhost => {
            let path = reference.strip_prefix("localhost/").unwrap_or(reference);
            Ok(Choice::File { path, field })
        }
        _ if !reference.is_empty() => {
            let shown = kind.as_str_name();
            Err(Error::invalid(
                field,
                format!("{reference:?} goes with Localhost alone, and this is {shown}"),
            ))
        }
        ProfileType::RuntimeDefault => Ok(Choice::Default),
        ProfileType::Unconfined => Ok(Choice::Unconfined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::SecurityProfile;

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
        let error = of(&with(ProfileType::Unconfined, "/x")).unwrap_err();
        assert_eq!(error.field.unwrap(), format!("{FIELD}.seccomp.localhost_ref"));
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
        for wrong in ["", "p.json", "/there/is/none"] {
            let error = of(&with(ProfileType::Localhost, wrong)).unwrap_err();
            assert_eq!(error.field.unwrap(), format!("{FIELD}.seccomp.localhost_ref"), "{wrong:?}");
        }
        fs::write(path, "{").unwrap();
        assert!(
            of(&with(ProfileType::Localhost, path))
                .unwrap_err()
                .to_string()
                .contains("cannot use the profile")
        );
    }

    #[test]
    #[expect(deprecated, reason = "the old form")]
    fn the_old_form_counts_where_there_is_no_new_one() {
        let old = |path: &str| LinuxContainerSecurityContext {
            seccomp_profile_path: path.into(),
            ..LinuxContainerSecurityContext::default()
        };
        assert_eq!(choose(&old("runtime/default")).unwrap(), Choice::Default);
        assert_eq!(choose(&old("unconfined")).unwrap(), Choice::Unconfined);
        assert!(matches!(choose(&old("localhost//p")).unwrap(), Choice::File { path: "/p", .. }));
        assert_eq!(choose(&old("x")).unwrap_err().field.unwrap(), format!("{FIELD}.seccomp_profile_path"));
        let both = LinuxContainerSecurityContext {
            seccomp_profile_path: "x".into(),
            ..with(ProfileType::Unconfined, "")
        };
        assert_eq!(choose(&both).unwrap(), Choice::Unconfined);
    }
}
