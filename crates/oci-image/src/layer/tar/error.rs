use std::io;

/// A tar that cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no tar, or one that contradicts itself.
    #[error("cannot read tar at byte {offset}: {reason}")]
    Malformed {
        /// Where in the uncompressed stream, counted to the end of the offending header.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The stream ended within an entry.
    #[error("cannot read tar at byte {offset}: it is cut short")]
    Truncated {
        /// Where it ended.
        offset: u64,
    },
    /// What the tar is read from failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The result of reading a tar.
pub type Result<T, E = Error> = std::result::Result<T, E>;
