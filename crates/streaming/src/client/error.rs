//! What goes wrong on the way to streams, and on them.

use std::io;

/// Why there are no streams, or why they ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("cannot use the address {url:?}: {why}")]
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Nobody listens, or not for TLS.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Host and port.
        server: String,
        /// Why.
        source: io::Error,
    },
    /// The server does not speak HTTP, or hung up.
    #[error("cannot ask {server} for streams: {source}")]
    Http {
        /// Host and port.
        server: String,
        /// Why.
        source: hyper::Error,
    },
    /// The server does not want to.
    #[error("{server} refuses to stream ({status}): {text}")]
    Refused {
        /// Host and port.
        server: String,
        /// HTTP's code.
        status: u16,
        /// What it says, up to 4 KiB.
        text: String,
    },
    /// The server agreed to something it was not asked for.
    #[error(
        "cannot stream with {server}: it answers with the protocol {protocol:?}, which was not asked for"
    )]
    Protocol {
        /// Host and port.
        server: String,
        /// What it answered.
        protocol: String,
    },
    /// The server did not take a stream.
    #[error("cannot open the {stream} stream: {source}")]
    Stream {
        /// Which.
        stream: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The command could not be run, or its server could not say how it ended: the server's own words.
    #[error("{0}")]
    Failed(String),
    /// The connection broke before the server said how the command ended.
    #[error("cannot tell how the command ended: the connection to the server is lost")]
    Lost,
    /// What was received cannot be put where it was to go, or what is to be sent cannot be read.
    #[error("cannot pass the command's streams on: {0}")]
    Local(#[source] io::Error),
}

impl Error {
    /// Whether another protocol may be welcome where this one was not.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Error::Refused { .. } | Error::Protocol { .. })
    }
}
