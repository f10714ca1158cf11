use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a harness could not do its work, or what it found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory that the harness needs.
    #[error("cannot {verb} {path}: {source}")]
    Access {
        /// The act.
        verb: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// A program could not be started.
    #[error("cannot run {command}: {source}")]
    Start {
        /// The command as it would be typed.
        command: String,
        /// The cause.
        source: io::Error,
    },
    /// A program failed.
    #[error("{command} failed: {status}\n{output}")]
    Fail {
        /// The command as it would be typed.
        command: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {} s\n{output}", limit.as_secs())]
    Wait {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// The end of what was said until then.
        output: String,
    },
    /// The machine is not what it was.
    #[error("{what}: {diff}")]
    Leak {
        /// After what.
        what: String,
        /// The difference.
        diff: crate::Diff,
    },
    /// What the harness was given makes no sense to it.
    #[error("cannot {verb} {object}: {why}")]
    Refuse {
        /// The act.
        verb: &'static str,
        /// On what.
        object: String,
        /// The rule it breaks.
        why: String,
    },
}

/// What the harnesses return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn access(verb: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self::Access { verb, path: path.into(), source: source.into() }
    }

    pub(crate) fn refuse(verb: &'static str, object: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refuse { verb, object: object.into(), why: why.into() }
    }
}
