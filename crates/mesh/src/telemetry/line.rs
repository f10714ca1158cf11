//! What is told of a request or a connection when it has ended.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::Reason;
use crate::proxy::{Network, RuleId, Service};

/// So many bytes of a method, of a path, or of the name of a host, are kept.
const LONGEST: usize = 1024;

/// A request that has ended, or a connection that was passed on unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it ended.
    pub at: SystemTime,
    /// The network of who asked, or of the pod that was come to, if the frontend is inside.
    pub client: Network,
    /// Who has come to a pod: the identity that is proved, or an address.
    pub peer: Option<String>,
    /// The Service's port that was asked for; `None` where it is no Service's address.
    pub frontend: Option<Service>,
    /// The rule that it went by.
    pub rule: Option<RuleId>,
    /// The Service's port of whose endpoints one was asked.
    pub backend: Option<Service>,
    /// Who was asked last.
    pub endpoint: Option<SocketAddr>,
    /// What was asked; `None` of a connection.
    pub request: Option<Request>,
    /// The answer's status; 0 where there was none, and of a connection.
    pub status: u16,
    /// The answer's status of gRPC.
    pub grpc: Option<u8>,
    /// From when its head was there, or the connection began, to its end.
    pub took: Duration,
    /// Bytes to the endpoint, of HTTP/2 those of bodies.
    pub sent: u64,
    /// Bytes to the client, in the same way.
    pub received: u64,
    /// Why it did not go well, if the proxy knows.
    pub reason: Option<Reason>,
    /// So often it was sent once more.
    pub retries: u32,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 1 or 2, of HTTP.
    pub version: u8,
    /// The method; no more than 1 kB of it.
    pub method: String,
    /// The path as it came, without the query, which may hold what is nobody's business; no more than 1 kB of it.
    pub path: String,
    /// Whom it names; may be empty.
    pub host: String,
}

impl Request {
    pub(crate) fn new(version: u8, method: &str, target: &str, host: &str) -> Self {
        let path = target.split('?').next().unwrap_or_default();
        Self { version, method: cut(method).into(), path: cut(path).into(), host: cut(host).into() }
    }
}

/// The beginning of a text.
fn cut(text: &str) -> &str {
    let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_not_kept_and_a_path_not_whole() {
        let request = Request::new(1, "GET", "/a/b?token=1?2", "web");
        assert_eq!((request.path.as_str(), request.host.as_str()), ("/a/b", "web"));
        let long = format!("/{}", "\u{e4}".repeat(LONGEST));
        assert_eq!(Request::new(2, "GET", &long, "").path.len(), LONGEST - 1);
        assert_eq!(Request::new(2, "GET", "", "").path, "");
        assert_eq!(Request::new(1, &"M".repeat(60_000), "/", "").method.len(), LONGEST);
    }
}
