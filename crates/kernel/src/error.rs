use std::io;

/// A call the kernel refused: what was attempted, on what, and its errno.
///
/// It reads "cannot <verb> <object>: <cause>", the form every message of Sextant has.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {object}: {source}")]
pub struct Error {
    /// The act, as a verb in the infinitive: "mount", "create".
    pub verb: &'static str,
    /// What the act was on, with the values that matter: a path, a link name, a size.
    pub object: String,
    /// The kernel's answer.
    pub source: io::Error,
}

impl Error {
    /// An error for an act that failed with `source`.
    pub fn new(verb: &'static str, object: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { verb, object: object.into(), source: source.into() }
    }

    /// The errno, when the kernel (and not a check of ours) said no.
    pub fn errno(&self) -> Option<rustix::io::Errno> {
        rustix::io::Errno::from_io_error(&self.source)
    }
}

/// The result of a kernel call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Puts the act and its object on a bare errno.
pub trait Act<T> {
    /// Names the act that failed; the object is only formatted on failure.
    fn act<O: Into<String>>(self, verb: &'static str, object: impl FnOnce() -> O) -> Result<T>;
}

impl<T, E: Into<io::Error>> Act<T> for std::result::Result<T, E> {
    fn act<O: Into<String>>(self, verb: &'static str, object: impl FnOnce() -> O) -> Result<T> {
        self.map_err(|e| Error::new(verb, object(), e))
    }
}
