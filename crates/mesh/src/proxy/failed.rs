//! Why a request has no answer, and what the client is told.

use std::io;
use std::net::SocketAddr;

use super::reach::is_denied;
use crate::http1::Fault;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failed {
    NoConnection(io::Error),
    /// A connection that was used before had ended.
    Stale,
    NoAnswer,
    /// An answer that breaks the rules.
    Broken(Fault),
    /// An answer that is to be tried again.
    Status(u16),
    Late,
    /// The time was over before the request was sent whole: nobody can tell whose doing that is.
    Unsent,
    /// The client is gone.
    Client,
    /// The request's body breaks the rules.
    Request(Fault),
}

impl Failed {
    pub(super) fn answer(&self, frontend: &str, endpoint: SocketAddr) -> (u16, String) {
        match self {
            Self::NoConnection(e) if is_denied(e) => (403, format!("{frontend}: {endpoint}: {e}")),
            Self::NoConnection(e) => (503, format!("{frontend}: cannot connect to {endpoint}: {e}")),
            Self::Stale | Self::NoAnswer => (
                502,
                format!(
                    "{frontend}: {endpoint} ended the connection, or rested for too long, without an answer"
                ),
            ),
            Self::Broken(fault) => (502, format!("{frontend}: the answer of {endpoint} is refused: {fault}")),
            Self::Status(status) => (*status, format!("{frontend}: {endpoint} answered {status}")),
            Self::Late => (504, format!("{frontend}: {endpoint} took longer than the route lets it")),
            Self::Unsent => (
                408,
                format!("{frontend}: the request did not come whole in the time that the route lets it"),
            ),
            Self::Client => (408, "the client is gone".into()),
            Self::Request(fault) => (400, format!("the request is refused: {fault}")),
        }
    }
}
