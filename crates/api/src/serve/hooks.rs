//! What the server hands to whoever runs pods: exec, attach, port-forward and logs.

use std::pin::Pin;

use bytes::Bytes;
use hyper::Request;
use hyper::body::Incoming;
use streaming::remote_command::Answer;
use tokio::sync::mpsc;

use crate::contract::{Object, Result};

/// A future that a hook returns.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What is asked of a pod over a connection that is upgraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// `/exec`.
    Exec,
    /// `/attach`.
    Attach,
    /// `/portforward`.
    PortForward,
}

/// What is wanted of a log, as the query says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Empty: the pod's only container.
    pub container: String,
    /// Whether to go on as it grows.
    pub follow: bool,
    /// The log of the container before this one.
    pub previous: bool,
    /// Only lines younger than so many seconds.
    pub since_seconds: Option<i64>,
    /// Only lines after this time (RFC 3339).
    pub since_time: Option<String>,
    /// Each line behind its time.
    pub timestamps: bool,
    /// Only the last lines.
    pub tail_lines: Option<i64>,
    /// At most so many bytes.
    pub limit_bytes: Option<i64>,
    /// `All`, `Stdout` or `Stderr`; empty is `All`.
    pub stream: String,
}

/// Who runs the pods. The pod is one that the asker may do this with.
pub trait Node: Send + Sync {
    /// Answers a request for an upgrade; `request` carries the query (container, command, streams, ports).
    ///
    /// # Errors
    /// What the client is told instead.
    fn upgrade<'a>(
        &'a self,
        pod: &'a Object,
        what: Upgrade,
        request: Request<Incoming>,
    ) -> Later<'a, Result<Answer>>;

    /// Writes the log into `lines` until it ends; it is dropped when the receiver is gone.
    ///
    /// # Errors
    /// What the client is told instead; nothing has been sent then.
    fn log<'a>(
        &'a self,
        pod: &'a Object,
        options: LogOptions,
        lines: mpsc::Sender<Bytes>,
    ) -> Later<'a, Result<()>>;
}
