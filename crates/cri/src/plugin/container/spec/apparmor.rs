//! The AppArmor profile that a container asks for, and the one that it has without asking.
//!
//! The kernel takes compiled profiles alone, so the default one is loaded by the host's `apparmor_parser`, when the first
//! container needs it. A machine with AppArmor but without that program is as one without AppArmor, for whoever asks for
//! nothing.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::contract::Error;
use crate::contract::v1::LinuxContainerSecurityContext;
use crate::contract::v1::security_profile::ProfileType;

/// The default profile's name.
pub(super) const DEFAULT: &str = "sextant-default";

/// What it is. Whoever has it may do what its capabilities let it, but mount, trace what has another profile, or write to
/// what steers the machine: those are ways out.
const TEXT: &str = include_str!("apparmor.profile");

const FIELD: &str = "config.linux.security_context";

/// What a machine's AppArmor knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Machine {
    enabled: bool,
    loaded: Vec<String>,
    parser: Option<PathBuf>,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Self {
        let enabled =
            fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'));
        if !enabled {
            return Self::default();
        }
        let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
        // `name (mode)` a line; a name may have spaces.
        let name = |line: &str| line.rsplit_once(" (").map(|(name, _)| name.to_owned());
        let parsers = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"].map(PathBuf::from);
        Self {
            enabled,
            loaded: loaded.lines().filter_map(name).collect(),
            parser: parsers.into_iter().find(|path| path.exists()),
        }
    }

    fn has(&self, profile: &str) -> bool {
        self.loaded.iter().any(|loaded| loaded == profile)
    }
}

/// Which profile, and the field that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice<'a> {
    /// Nobody said anything.
    Unsaid,
    Unconfined,
    Default(&'static str),
    Named(&'a str, &'static str),
}

/// The profile; empty for none. Loads the default one if it is needed and not there.
pub(super) fn profile(security: &LinuxContainerSecurityContext, machine: &Machine) -> Result<String, Error> {
    let choice = choose(security)?;
    let off = |field: &str, shown: &str| {
        let hint = "this machine has no AppArmor: leave it out, or give Unconfined";
        Err(Error::invalid(format!("{FIELD}.{field}"), format!("{shown} cannot be: {hint}")))
    };
    let able = machine.has(DEFAULT) || machine.parser.is_some();
    match choice {
        Choice::Unconfined => Ok(String::new()),
        Choice::Unsaid if !machine.enabled || !able || security.privileged => Ok(String::new()),
        Choice::Default(field) if !machine.enabled => off(field, "the runtime's profile"),
        Choice::Named(name, field) if !machine.enabled => off(field, &format!("{name:?}")),
        // All of it is given to a privileged container.
        _ if security.privileged => Ok(String::new()),
        Choice::Default(field) if !able => {
            let hint = "install the package apparmor";
            let message =
                format!("the runtime's profile is loaded by apparmor_parser, which is not there: {hint}");
            Err(Error::precondition(message).within(&format!("{FIELD}.{field}")))
        }
        Choice::Unsaid | Choice::Default(_) => {
            load(machine)?;
            Ok(DEFAULT.to_owned())
        }
        Choice::Named(name, field) if !machine.has(name) => {
            let hint = "load it with apparmor_parser first";
            Err(Error::precondition(format!("no profile {name:?} is loaded: {hint}"))
                .within(&format!("{FIELD}.{field}")))
        }
        Choice::Named(name, _) => Ok(name.to_owned()),
    }
}

#[expect(deprecated, reason = "older kubelets send the old form alone")]
fn choose(security: &LinuxContainerSecurityContext) -> Result<Choice<'_>, Error> {
    let Some(profile) = &security.apparmor else {
        let (old, field) = (security.apparmor_profile.as_str(), "apparmor_profile");
        return match old {
            "" => Ok(Choice::Unsaid),
            "unconfined" => Ok(Choice::Unconfined),
            "runtime/default" => Ok(Choice::Default(field)),
            _ => match old.strip_prefix("localhost/").filter(|name| !name.is_empty()) {
                Some(name) => Ok(Choice::Named(name, field)),
                None => {
                    let hint = "give runtime/default, unconfined or localhost/NAME";
                    Err(Error::invalid(format!("{FIELD}.{field}"), format!("{old:?} is no profile: {hint}")))
                }
            },
        };
    };
    let (reference, field) = (profile.localhost_ref.as_str(), "apparmor.localhost_ref");
    let kind = ProfileType::try_from(profile.profile_type).map_err(|_| {
        let field = format!("{FIELD}.apparmor.profile_type");
        Error::invalid(field, format!("{} is no type of profile", profile.profile_type))
    })?;
    match kind {
        ProfileType::Localhost => {
            let name = reference.strip_prefix("localhost/").unwrap_or(reference);
            if name.is_empty() {
                let message = "is empty: Localhost needs a profile's name";
                return Err(Error::invalid(format!("{FIELD}.{field}"), message));
            }
            Ok(Choice::Named(name, field))
        }
        _ if !reference.is_empty() => {
            let shown = kind.as_str_name();
            let message = format!("{reference:?} goes with Localhost alone, and this is {shown}");
            Err(Error::invalid(format!("{FIELD}.{field}"), message))
        }
        ProfileType::RuntimeDefault => Ok(Choice::Default("apparmor.profile_type")),
        ProfileType::Unconfined => Ok(Choice::Unconfined),
    }
}

/// Loads the default profile, unless it is.
fn load(machine: &Machine) -> Result<(), Error> {
    match &machine.parser {
        Some(parser) if !machine.has(DEFAULT) => parse(parser, &["--replace"]),
        _ => Ok(()),
    }
}

/// Gives the profile to `apparmor_parser`.
fn parse(parser: &Path, options: &[&str]) -> Result<(), Error> {
    let cannot = |what: &dyn std::fmt::Display| {
        Error::internal(format!("cannot load the AppArmor profile {DEFAULT}: {what}"))
    };
    let mut child = Command::new(parser)
        .args(options)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| cannot(&format!("cannot execute {}: {e}", parser.display())))?;
    // Shorter than a pipe's buffer: nobody waits for anybody.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(TEXT.as_bytes()));
    let output = child.wait_with_output().map_err(|e| cannot(&e))?;
    match (output.status.success(), written) {
        (true, Some(Ok(()))) => Ok(()),
        _ => Err(cannot(&String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::v1::SecurityProfile;

    fn on(loaded: &[&str]) -> Machine {
        Machine { enabled: true, loaded: loaded.iter().map(ToString::to_string).collect(), parser: None }
    }

    fn with(kind: ProfileType, reference: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor: Some(SecurityProfile { profile_type: kind.into(), localhost_ref: reference.into() }),
            ..LinuxContainerSecurityContext::default()
        }
    }

    #[expect(deprecated, reason = "the old form")]
    fn old(name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext {
            apparmor_profile: name.into(),
            ..LinuxContainerSecurityContext::default()
        }
    }

    fn field(result: Result<String, Error>) -> String {
        result.unwrap_err().field.unwrap().replace("config.linux.security_context.", "")
    }

    #[test]
    fn without_a_word_the_default_where_there_is_one() {
        let nothing = LinuxContainerSecurityContext::default();
        assert_eq!(profile(&nothing, &Machine::default()).unwrap(), "");
        assert_eq!(profile(&nothing, &on(&[])).unwrap(), "", "no way to load it");
        assert_eq!(profile(&nothing, &on(&[DEFAULT])).unwrap(), DEFAULT);
        let privileged = LinuxContainerSecurityContext { privileged: true, ..nothing };
        assert_eq!(profile(&privileged, &on(&[DEFAULT])).unwrap(), "");
    }

    #[test]
    fn what_is_asked_for_is_there_or_an_error() {
        let both = on(&[DEFAULT, "mine"]);
        assert_eq!(profile(&with(ProfileType::RuntimeDefault, ""), &both).unwrap(), DEFAULT);
        assert_eq!(profile(&with(ProfileType::Unconfined, ""), &both).unwrap(), "");
        assert_eq!(profile(&with(ProfileType::Localhost, "mine"), &both).unwrap(), "mine");
        assert_eq!(profile(&with(ProfileType::Localhost, "localhost/mine"), &both).unwrap(), "mine");
        assert_eq!(field(profile(&with(ProfileType::Localhost, "none"), &both)), "apparmor.localhost_ref");
        assert_eq!(field(profile(&with(ProfileType::Localhost, ""), &both)), "apparmor.localhost_ref");
        assert_eq!(field(profile(&with(ProfileType::Unconfined, "mine"), &both)), "apparmor.localhost_ref");
        assert_eq!(field(profile(&with(ProfileType::RuntimeDefault, ""), &on(&[]))), "apparmor.profile_type");
    }

    #[test]
    fn a_machine_without_apparmor_takes_no_profile() {
        let off = Machine::default();
        assert_eq!(field(profile(&with(ProfileType::RuntimeDefault, ""), &off)), "apparmor.profile_type");
        assert_eq!(field(profile(&with(ProfileType::Localhost, "mine"), &off)), "apparmor.localhost_ref");
        assert_eq!(profile(&with(ProfileType::Unconfined, ""), &off).unwrap(), "");
        assert_eq!(field(profile(&old("runtime/default"), &off)), "apparmor_profile");
    }

    #[test]
    fn the_old_form_counts_where_there_is_no_new_one() {
        let both = on(&[DEFAULT, "mine"]);
        assert_eq!(profile(&old("runtime/default"), &both).unwrap(), DEFAULT);
        assert_eq!(profile(&old("localhost/mine"), &both).unwrap(), "mine");
        assert_eq!(profile(&old("unconfined"), &both).unwrap(), "");
        for wrong in ["mine", "localhost/", "localhost/none"] {
            assert_eq!(field(profile(&old(wrong), &both)), "apparmor_profile");
        }
    }

    /// Compiles the profile without loading it, where the compiler is installed: elsewhere nothing can use it either.
    #[test]
    fn the_default_profile_compiles() {
        let parser = Path::new("/usr/sbin/apparmor_parser");
        if !parser.exists() {
            eprintln!("skipped: {} is not installed", parser.display());
            return;
        }
        assert!(TEXT.contains(&format!("profile {DEFAULT} ")));
        parse(parser, &["--skip-kernel-load", "--skip-cache", "--abort-on-error"]).unwrap();
    }
}
