//! Profiles of seccomp and AppArmor: which one a pod or a container asks for, in the new notation or the old one.

use super::Error;
use super::text::{self, Verdict, absolute, known, present, shown};
use crate::contract::v1::SecurityProfile;
use crate::contract::v1::security_profile::ProfileType;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile<'a> {
    /// Nobody said anything.
    Unsaid,
    Unconfined,
    /// The runtime's.
    Default,
    /// One of the node's: a file of seccomp's, by its path, or a profile of AppArmor's, by its name.
    Localhost(&'a str),
}

/// A profile, and the field of the security context that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    pub(crate) profile: Profile<'a>,
    pub(crate) field: &'static str,
}

/// How the fields are called, and what one of the node's is named by.
struct Notation {
    kind: &'static str,
    reference: &'static str,
    old: &'static str,
    rule: fn(&str, &str) -> Verdict,
}

const SECCOMP: Notation = Notation {
    kind: "seccomp.profile_type",
    reference: "seccomp.localhost_ref",
    old: "seccomp_profile_path",
    rule: absolute,
};

const APPARMOR: Notation = Notation {
    kind: "apparmor.profile_type",
    reference: "apparmor.localhost_ref",
    old: "apparmor_profile",
    rule: |field, name| present(field, name).and_then(|()| text::line(field, name)),
};

/// The filter of system calls. The old notation counts where there is no new one.
pub(crate) fn seccomp<'a>(new: Option<&'a SecurityProfile>, old: &'a str) -> Result<Asked<'a>, Error> {
    SECCOMP.read(new, old)
}

/// The profile of AppArmor. The old notation counts where there is no new one.
pub(crate) fn apparmor<'a>(new: Option<&'a SecurityProfile>, old: &'a str) -> Result<Asked<'a>, Error> {
    APPARMOR.read(new, old)
}

impl Notation {
    fn read<'a>(&self, new: Option<&'a SecurityProfile>, old: &'a str) -> Result<Asked<'a>, Error> {
        let old = self.read_old(old)?;
        new.map_or(Ok(old), |new| self.read_new(new))
    }

    fn read_new<'a>(&self, new: &'a SecurityProfile) -> Result<Asked<'a>, Error> {
        let reference = new.localhost_ref.as_str();
        let kind = known::<ProfileType>(self.kind, new.profile_type)?;
        let profile = match kind {
            ProfileType::Localhost => {
                // The prefix of the old notation is let pass, as other runtimes do.
                return self.localhost(self.reference, reference.strip_prefix(PREFIX).unwrap_or(reference));
            }
            ProfileType::RuntimeDefault => Profile::Default,
            ProfileType::Unconfined => Profile::Unconfined,
        };
        if !reference.is_empty() {
            let rule = format!("{} is set though profile_type is {}", shown(reference), kind.as_str_name());
            let hint = "leave it out or set that to Localhost";
            return Err(Error::invalid(self.reference, format!("{rule}; {hint}")));
        }
        Ok(Asked { profile, field: self.kind })
    }

    fn read_old<'a>(&self, old: &'a str) -> Result<Asked<'a>, Error> {
        let profile = match (old, old.strip_prefix(PREFIX)) {
            (_, Some(name)) => return self.localhost(self.old, name),
            ("", _) => Profile::Unsaid,
            ("unconfined", _) => Profile::Unconfined,
            ("runtime/default" | "docker/default", _) => Profile::Default,
            _ => {
                let rule = "is no profile; write runtime/default, unconfined or localhost/ and what it is";
                return Err(Error::invalid(self.old, format!("{} {rule}", shown(old))));
            }
        };
        Ok(Asked { profile, field: self.old })
    }

    fn localhost<'a>(&self, field: &'static str, name: &'a str) -> Result<Asked<'a>, Error> {
        (self.rule)(field, name)?;
        Ok(Asked { profile: Profile::Localhost(name), field })
    }
}

const PREFIX: &str = "localhost/";

#[cfg(test)]
mod tests {
    use super::*;

    fn new(kind: ProfileType, reference: &str) -> SecurityProfile {
        SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() }
    }

    #[test]
    fn the_old_notation_counts_where_there_is_no_new_one() {
        let profile =
            |new: Option<&SecurityProfile>, old| seccomp(new, old).map(|asked| asked.field).unwrap();
        assert_eq!(profile(None, "runtime/default"), "seccomp_profile_path");
        assert_eq!(
            profile(Some(&new(ProfileType::Unconfined, "")), "runtime/default"),
            "seccomp.profile_type"
        );
        for (old, profile) in [
            ("", Profile::Unsaid),
            ("unconfined", Profile::Unconfined),
            ("runtime/default", Profile::Default),
            ("docker/default", Profile::Default),
            ("localhost//p", Profile::Localhost("/p")),
        ] {
            assert_eq!(seccomp(None, old).unwrap(), Asked { profile, field: "seccomp_profile_path" });
        }
        assert_eq!(apparmor(None, "localhost/mine").unwrap().profile, Profile::Localhost("mine"));
    }

    #[test]
    fn a_name_goes_with_localhost_and_localhost_with_a_name() {
        use ProfileType::{Localhost, RuntimeDefault, Unconfined};
        for reference in ["mine", "localhost/mine"] {
            let asked = new(Localhost, reference);
            assert_eq!(apparmor(Some(&asked), "").unwrap().profile, Profile::Localhost("mine"));
        }
        for (kind, reference) in
            [(Localhost, ""), (Localhost, "localhost/"), (RuntimeDefault, "mine"), (Unconfined, "mine")]
        {
            let error = apparmor(Some(&new(kind, reference)), "").unwrap_err();
            assert_eq!(error.field.as_deref(), Some("apparmor.localhost_ref"), "{kind:?} {reference:?}");
        }
        let relative = seccomp(Some(&new(Localhost, "p.json")), "").unwrap_err();
        assert_eq!(relative.field.as_deref(), Some("seccomp.localhost_ref"));
        for wrong in ["mine", "localhost/"] {
            let error = apparmor(None, wrong).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("apparmor_profile"), "{wrong:?}");
        }
        let unknown = SecurityProfile { profile_type: 7, ..SecurityProfile::default() };
        assert_eq!(apparmor(Some(&unknown), "").unwrap_err().field.as_deref(), Some("apparmor.profile_type"));
    }
}
