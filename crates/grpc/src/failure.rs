//! How a handler's call fails.

use std::fmt;

use crate::{Code, Status};

/// A failure: what kind, which field of the request, and what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure it is.
    pub code: Code,
    /// The field's path, as in the .proto file: `config.linux.resources.cpu_quota`; `None` for the request as a whole.
    pub field: Option<String>,
    /// What is wrong, with the value and what to do.
    pub message: String,
}

impl Failure {
    /// A failure of the call as a whole.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, field: None, message: message.into() }
    }

    /// A field that no state of the machine would make right.
    #[must_use]
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, field: Some(field.into()), message: message.into() }
    }

    /// `what` (a container, a pod, an image) of this id is not there.
    #[must_use]
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(Code::NotFound, format!("no {what} {id:?} is here"))
    }

    /// The server's own failure.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// The server's own failure, for a cause that says by itself what could not be done.
    #[must_use]
    pub fn of(cause: impl fmt::Display) -> Self {
        Self::internal(cause.to_string())
    }

    /// It is there already.
    #[must_use]
    pub fn exists(message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// Not in this state.
    #[must_use]
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// Not now; later perhaps.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Whether something is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    /// The same failure, and what went wrong after it.
    #[must_use]
    pub fn and(mut self, after: &dyn fmt::Display) -> Self {
        self.message = format!("{}; {after}", self.message);
        self
    }

    /// The same failure, in a field of what it was a failure of: prefixes the path.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = Some(match self.field {
            Some(inner) if !inner.is_empty() => format!("{outer}.{inner}"),
            _ => outer.to_owned(),
        });
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Failure {}

impl From<kernel::Error> for Failure {
    fn from(error: kernel::Error) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<Failure> for Status {
    fn from(error: Failure) -> Self {
        Self::new(error.code, error.to_string())
    }
}
