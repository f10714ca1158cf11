//! What can go wrong between us and a registry.

use std::fmt;
use std::time::Duration;

use super::transport::TransportError;
use crate::contract::Digest;
use crate::registry::credentials::CredentialError;
use crate::registry::hosts::HostsError;

/// A failed exchange with a registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A hosts file cannot be used.
    #[error(transparent)]
    Hosts(#[from] HostsError),
    /// Credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// No answer came.
    #[error("cannot reach {url}: {source}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// Why no answer came.
        source: TransportError,
    },
    /// The answer is a refusal.
    #[error("cannot {act}: {url} answered {status}{answer}{}", hint(*status, *retry_after))]
    Refused {
        /// What was tried, such as `pull manifest docker.io/library/x:latest`.
        act: String,
        /// What was asked.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the registry says about it.
        answer: Answer,
        /// `Retry-After`.
        retry_after: Option<Duration>,
    },
    /// The token service refused.
    #[error("cannot get a token for {registry} from {realm}: {cause}")]
    Token {
        /// Whose token.
        registry: String,
        /// The token service.
        realm: String,
        /// What it said.
        cause: String,
        /// Whether asking again may help.
        transient: bool,
    },
    /// A response breaks the protocol.
    #[error("cannot use the answer of {url}: {fault}")]
    Answer {
        /// What was asked.
        url: String,
        /// What is wrong.
        fault: String,
    },
    /// Content is not what its digest says.
    #[error("cannot {what}: the digest of what {url} has is {actual}, not {expected}")]
    Digest {
        /// What was tried, such as `pull manifest docker.io/library/x:latest`.
        what: String,
        /// Where.
        url: String,
        /// The digest wanted or announced.
        expected: Digest,
        /// The content's digest.
        actual: Digest,
    },
    /// A document is larger than anything reasonable.
    #[error("cannot {what}: the answer of {url} is larger than {limit} bytes, which no honest one is")]
    TooLarge {
        /// What was tried.
        what: String,
        /// Where.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// A body ended or stopped before its time.
    #[error("cannot read {url} to its end: {source}")]
    Body {
        /// What was asked.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// Reading what is to be pushed failed.
    #[error("cannot read {what} in order to push it: {source}")]
    Local {
        /// What was to be pushed.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// No endpoint is configured that may do this.
    #[error("cannot {act}: no endpoint of {registry} has the capability `{capability}` in its hosts.toml")]
    NoEndpoint {
        /// What was tried.
        act: String,
        /// Which registry.
        registry: String,
        /// Which capability.
        capability: &'static str,
    },
    /// Every endpoint failed.
    #[error("cannot {act}: {}", failures.iter().map(|(url, error)| format!("[{url}] {error}")).collect::<Vec<_>>().join("; "))]
    Everywhere {
        /// What was tried.
        act: String,
        /// Endpoint and error, in the order tried.
        failures: Vec<(String, Error)>,
    },
}

impl Error {
    /// Whether the same request may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { source, .. } => source.is_transient(),
            Self::Refused { status, .. } => super::retry::is_transient_status(*status),
            Self::Token { transient, .. } => *transient,
            Self::Body { .. } => true,
            Self::Everywhere { failures, .. } => failures.iter().any(|(_, error)| error.is_transient()),
            _ => false,
        }
    }

    /// How long the server asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::Everywhere { failures, .. } => {
                failures.iter().filter_map(|(_, error)| error.retry_after()).min()
            }
            _ => None,
        }
    }

    /// The HTTP status, if the registry answered with a refusal.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Everywhere { failures, .. } => failures.last().and_then(|(_, error)| error.status()),
            _ => None,
        }
    }
}

/// One error of a registry's JSON (distribution-spec, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
pub struct ApiError {
    /// `MANIFEST_UNKNOWN`, `DENIED`, ...
    #[serde(default)]
    pub code: String,
    /// For people.
    #[serde(default)]
    pub message: String,
}

/// The body of a refusal: the registry's errors, else the beginning of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Errors as the spec has them.
    Api(Vec<ApiError>),
    /// Anything else.
    Text(String),
}

impl Answer {
    /// At most this much of a text is shown.
    const SHOWN: usize = 200;

    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<ApiError>,
        }
        match serde_json::from_slice::<Errors>(body) {
            Ok(Errors { errors }) if !errors.is_empty() => Self::Api(errors),
            _ => {
                let text = String::from_utf8_lossy(body);
                let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
                Self::Text(line.chars().filter(|c| !c.is_control()).take(Self::SHOWN).collect())
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api(errors) => {
                let shown = errors.iter().take(3).map(|error| {
                    let message: String =
                        error.message.chars().filter(|c| !c.is_control()).take(Self::SHOWN).collect();
                    let code: String = error.code.chars().filter(|c| !c.is_control()).take(64).collect();
                    format!("{code} ({message})")
                });
                write!(f, ", {}", shown.collect::<Vec<_>>().join(", "))
            }
            Self::Text(text) if text.is_empty() => Ok(()),
            Self::Text(text) => write!(f, ", {text:?}"),
        }
    }
}

fn hint(status: u16, retry_after: Option<Duration>) -> String {
    match (status, retry_after) {
        (401, _) => {
            "; log in with `sextant login`, or check the name: registries say this of what does not exist"
                .into()
        }
        (403, _) => "; these credentials do not allow it".into(),
        (404, _) => "; the registry does not have it: check the name".into(),
        (429, Some(wait)) => format!("; it asks to wait {} s", wait.as_secs()),
        (429, None) => "; it limits requests: wait, or log in for a higher limit".into(),
        (500..=599, _) => "; the registry is in trouble: try again later".into(),
        _ => String::new(),
    }
}
