//! What a command ends with when it does not do what it was asked.

use std::fmt;

/// A message for the operator, and the exit code that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    pub(crate) code: u8,
}

impl Failure {
    /// A failure with the code that runc has for all but a few.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<crate::Error> for Failure {
    fn from(error: crate::Error) -> Self {
        Self::new(error.to_string())
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
