//! Why nothing came of looking at an object.

use std::fmt;

use grpc::Code;

/// Why nothing came of looking at an object.
#[derive(Debug)]
pub(super) enum Failure {
    /// The object is not as it was read. It is looked at again; nobody has to be told.
    Stale,
    /// What the driver said.
    Driver(grpc::Error),
    /// Anything else.
    Other(String),
}

impl Failure {
    /// That of a request to the API server: what was to be done, and what it said.
    pub(super) fn of(what: impl fmt::Display, error: &kube::Error) -> Self {
        match error {
            // Another one than was read, or gone: when the cache knows, there is something else to do.
            kube::Error::Api(status) if matches!(status.code, 404 | 409) => Self::Stale,
            _ => Self::Other(format!("cannot {what}: {}", client::causes(error))),
        }
    }

    /// The code of a call that failed.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Driver(error) => Some(error.code()),
            Self::Stale | Self::Other(_) => None,
        }
    }

    /// Whether it is known that the driver is not at it any more.
    pub(super) fn is_final(&self) -> bool {
        !matches!(
            self.code(),
            None | Some(
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Unavailable
                    | Code::ResourceExhausted
                    | Code::Aborted
            )
        )
    }

    /// What is put into an object, which takes no longer text.
    pub(super) fn message(&self) -> String {
        client::events::cut(self.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stale => f.write_str("the object has changed meanwhile"),
            Self::Driver(error) => error.fmt(f),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl From<grpc::Error> for Failure {
    fn from(error: grpc::Error) -> Self {
        Self::Driver(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(code: Code, message: &str) -> Failure {
        Failure::Driver(grpc::Error::Call { method: "Probe", status: grpc::Status::new(code, message) })
    }

    #[test]
    fn what_may_still_run_is_not_final() {
        for code in [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Unavailable,
            Code::ResourceExhausted,
            Code::Aborted,
        ] {
            assert!(!driver(code, "").is_final(), "{code}");
        }
        for code in [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition, Code::Internal] {
            assert!(driver(code, "").is_final(), "{code}");
        }
        assert!(!Failure::Stale.is_final() && !Failure::Other("no secret".into()).is_final());
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = driver(Code::Internal, &"ü".repeat(1000)).message();
        assert!(long.len() <= 1024 && long.ends_with("..."), "{}", long.len());
        assert_eq!(driver(Code::Internal, "no").message(), "cannot call Probe: no (Internal)");
    }
}
