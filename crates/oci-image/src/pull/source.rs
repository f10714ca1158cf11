use std::io::Read;

use crate::contract::Descriptor;

/// Where an image comes from: a registry, a layout, an archive.
///
/// A source answers for one image, as one caller with that caller's own credentials may see it. It does not verify:
/// the pull verifies every byte against the descriptor that named it. It is called from several threads at once.
pub trait Source: Sync {
    /// Resolves the reference: the descriptor of what it points at, and that document's bytes (an index or a
    /// manifest). The descriptor's media type is the one the source announced, its digest that of the bytes (or the
    /// one the reference pins).
    ///
    /// At most [`crate::contract::MANIFEST_LIMIT`] bytes: a source stops reading beyond that.
    fn manifest(&self) -> Result<(Descriptor, Vec<u8>), SourceError>;

    /// What the reference points at now, without its content; `None` from a source for which that is no less work.
    ///
    /// A pull asks when it may have the content already.
    fn current(&self) -> Result<Option<Descriptor>, SourceError> {
        Ok(None)
    }

    /// The bytes of a document that an index names.
    fn child_manifest(&self, descriptor: &Descriptor) -> Result<Vec<u8>, SourceError>;

    /// Opens a blob (a configuration or a layer) at `offset`. A source that cannot seek reads and drops what comes
    /// before, so the stream returned always starts at `offset`.
    ///
    /// A read error of the stream is retried from where it stopped, with a bounded back-off.
    fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<Box<dyn Read + Send>, SourceError>;
}

/// A source's refusal, in its own words, and whether asking again may help.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct SourceError {
    /// What went wrong.
    pub source: Box<dyn std::error::Error + Send + Sync>,
    /// Whether the same request may succeed later (a cut connection, 429, 5xx) or will not (401, 404).
    pub transient: bool,
    /// How long the server asked to wait (`Retry-After`).
    pub retry_after: Option<std::time::Duration>,
}

impl SourceError {
    /// A refusal that asking again does not change.
    pub fn fatal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into(), transient: false, retry_after: None }
    }

    /// A failure that may pass.
    pub fn transient(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: source.into(), transient: true, retry_after: None }
    }
}
