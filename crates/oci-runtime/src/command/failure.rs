//! What a command ends with when it does not do what it was asked.

use std::fmt;

use super::name::RUNC;

/// A message for the operator, and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    runc: Wording,
    pub(crate) code: u8,
}

/// How runc words a failure, for those who read its words.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Wording {
    /// As this program does.
    #[default]
    Same,
    /// On the way from clone to exec.
    Init(String),
    /// On a line of its own, without a name before it: there the container's process says it itself.
    Line(String),
}

impl Wording {
    fn of(error: &crate::Error) -> Self {
        match error {
            crate::Error::Exec { program, source, .. } if program.contains('/') => {
                Self::Line(format!("exec {program}: {}", cause(source)))
            }
            crate::Error::Inside { act, source, hint, mounting } => {
                let stage = if *mounting { "error mounting: " } else { "" };
                Self::Init(format!("{stage}cannot {act}: {}{hint}", cause(source)))
            }
            _ => Self::Same,
        }
    }
}

/// The kernel's answer as Go has it: in small letters, without its number.
fn cause(source: &std::io::Error) -> String {
    let said = source.to_string().to_ascii_lowercase();
    said.split(" (os error").next().unwrap_or_default().to_owned()
}

impl Failure {
    /// A failure with the code that runc has for all but a few.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), runc: Wording::Same, code: 1 }
    }

    /// The command line is no good.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(message)
    }

    /// The act on a container failed. Callers look for some causes' words: keep those of runc.
    pub(crate) fn container(verb: &str, id: &str, cause: impl fmt::Display) -> Self {
        Self::new(format!("cannot {verb} container {id:?}: {cause}"))
    }

    /// The same with another code.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// The failure of `command` as a program called `name` says it on standard error.
    pub(crate) fn said(&self, name: &str, command: &str) -> String {
        match &self.runc {
            _ if name != RUNC => format!("{name}: error: {self}"),
            Wording::Same => format!("{name} {command} failed: {self}"),
            Wording::Init(text) => format!(
                "{name} {command} failed: unable to start container process: error during container init: {text}"
            ),
            Wording::Line(text) => text.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self { runc: Wording::of(&error), ..Self::new(error.to_string()) }
    }
}

impl From<crate::contract::Error> for Failure {
    fn from(error: crate::contract::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl From<crate::systemd::Error> for Failure {
    fn from(error: crate::systemd::Error) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn called_runc_it_speaks_as_runc() {
        let denied = || io::Error::from_raw_os_error(libc::EPERM);
        let mounting = crate::Error::Inside {
            act: "set the attributes of /v on /mnt".into(),
            source: denied(),
            hint: " (leave it out)",
            mounting: true,
        };
        let failure = Failure::from(mounting);
        assert_eq!(
            failure.said(RUNC, "run"),
            "runc run failed: unable to start container process: error during container init: error mounting: \
             cannot set the attributes of /v on /mnt: operation not permitted (leave it out)"
        );
        assert_eq!(
            failure.said("sextant-oci", "run"),
            "sextant-oci: error: cannot set the attributes of /v on /mnt: Operation not permitted (os error 1) \
             (leave it out)"
        );
        let exec =
            |program: &str| crate::Error::Exec { program: program.into(), source: denied(), hint: " (look)" };
        assert_eq!(Failure::from(exec("/x")).said(RUNC, "start"), "exec /x: operation not permitted");
        assert!(
            Failure::from(exec("x")).said(RUNC, "start").starts_with("runc start failed: cannot execute")
        );
        let usage = Failure::usage("cannot create: the id is missing");
        assert_eq!(usage.said(RUNC, "create"), "runc create failed: cannot create: the id is missing");
    }
}
