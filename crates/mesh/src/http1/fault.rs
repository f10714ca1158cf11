//! What may be wrong with a message.

/// Why a message is refused. Of a request it is answered with [`Fault::status`]; of a response it is a 502.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The first line is none.
    #[error("its first line is not {0}")]
    FirstLine(&'static str),
    /// Another version of HTTP.
    #[error("its version is none of HTTP/1.0 and HTTP/1.1")]
    Version,
    /// The target is none of the four forms, or has a byte that must be percent-encoded.
    #[error("its target {0}")]
    Target(&'static str),
    /// A line ends with LF alone, or has a CR inside.
    #[error("a line does not end with CR LF")]
    LineEnd,
    /// A line begins with a blank.
    #[error("a header is continued on the next line (obs-fold)")]
    Folded,
    /// A name that is none, or a blank before the colon.
    #[error("a header's name is empty, has a character that no name has, or is not followed by its colon")]
    Name,
    /// A control character in a value.
    #[error("a header's value has a control character")]
    Value,
    /// More bytes than a head may have.
    #[error("its head is larger than {0} bytes")]
    TooLarge(usize),
    /// More headers than a head may have.
    #[error("it has more than {0} headers")]
    TooMany(usize),
    /// `Host` is missing, there twice, or not a host.
    #[error("Host {0}")]
    Host(&'static str),
    /// `Content-Length` is there twice, or not a number.
    #[error("Content-Length {0}")]
    Length(&'static str),
    /// `Transfer-Encoding` that cannot be trusted.
    #[error("Transfer-Encoding {0}")]
    Coding(&'static str),
    /// A transfer coding other than `chunked`.
    #[error("Transfer-Encoding is not \"chunked\"")]
    UnknownCoding,
    /// `Connection` names a header without which the message is another, or more than anybody means.
    #[error("Connection names a header that is not only for this connection, or has more than 32 options")]
    Connection,
    /// A chunk's size, extension or end.
    #[error("a chunk {0}")]
    Chunk(&'static str),
    /// A trailer that may not be one, or too many of them.
    #[error("a trailer {0}")]
    Trailer(&'static str),
}

impl Fault {
    /// What a request with it is answered: 400, 431, 501 or 505.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::Version => 505,
            Self::TooLarge(_) | Self::TooMany(_) => 431,
            Self::UnknownCoding => 501,
            _ => 400,
        }
    }
}
