use std::{io, time::Duration};

use super::SourceError;
use crate::{
    contract::{self, Digest, MediaType},
    layer, store,
};

/// Why an image could not be pulled. Where a layer or blob is at fault, its digest is told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The reference does not resolve.
    #[error("cannot resolve the image: {0}")]
    Resolve(#[source] SourceError),
    /// The source does not give a blob, however often it is asked.
    #[error("cannot download {digest}: {source}")]
    Download {
        /// Which blob.
        digest: Digest,
        /// The source's last words.
        source: SourceError,
    },
    /// The source gives nothing, or hardly anything, for too long.
    #[error("cannot download {digest}: it does not get on for {} s: {source}; what came is kept, pull again to go on", after.as_secs())]
    Stalled {
        /// Which blob.
        digest: Digest,
        /// How long it was waited for.
        after: Duration,
        /// The source's last words.
        source: SourceError,
    },
    /// The source gave something else.
    #[error("cannot accept {what} {expected}: what came has the digest {found}")]
    Mismatch {
        /// Blob, manifest or layer.
        what: &'static str,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// The source gave more or less than announced.
    #[error("cannot accept {what} {digest}: it has {found} bytes instead of {expected}")]
    Size {
        /// Blob or manifest.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// The size its descriptor told.
        expected: u64,
        /// The size it has, or at least has.
        found: u64,
    },
    /// A document is not what the spec says.
    #[error("{source} (in {digest})")]
    Document {
        /// Which one.
        digest: Digest,
        /// What is wrong with it.
        source: contract::Error,
    },
    /// The image is not made for this machine.
    #[error("cannot find an image for {wanted}: {}", offer(offered))]
    Platform {
        /// What was asked for.
        wanted: String,
        /// What there is; nothing, if the index is empty.
        offered: Vec<String>,
    },
    /// It is an artifact of another kind, or has layers of another kind.
    #[error("cannot run {digest}: its media type is {media_type:?}, which is no {what}")]
    MediaType {
        /// Which descriptor.
        digest: Digest,
        /// Its type.
        media_type: MediaType,
        /// What it should be.
        what: &'static str,
    },
    /// Manifest and configuration contradict each other.
    #[error(
        "cannot accept the image: its manifest has {layers} layers and its configuration {diff_ids} diff_ids"
    )]
    Count {
        /// Layers in the manifest.
        layers: usize,
        /// diffIDs in the configuration.
        diff_ids: usize,
    },
    /// A layer does not unpack.
    #[error("cannot unpack layer {digest}: {source}")]
    Unpack {
        /// The layer, as the manifest names it.
        digest: Digest,
        /// Why.
        source: layer::Error,
    },
    /// A layer unpacks to something else than the configuration says.
    #[error("cannot accept layer {digest}: it unpacks to {found}, and the configuration says {expected}")]
    DiffId {
        /// The layer, as the manifest names it.
        digest: Digest,
        /// The diffID in the configuration.
        expected: Digest,
        /// The digest of the tar that came out.
        found: Digest,
    },
    /// A partial download cannot be written.
    #[error("cannot keep {digest}: {source}{}", layer::hint(source))]
    Keep {
        /// Which blob.
        digest: Digest,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The store refused.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A thread cannot be started.
    #[error("cannot start a thread to pull with: {0}")]
    Thread(#[source] io::Error),
    /// The caller gave up.
    #[error("cannot finish the pull: cancelled; what was downloaded is kept for the next try")]
    Cancelled,
}

/// The result of pulling.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn offer(offered: &[String]) -> String {
    match offered {
        [] => "its index names no image at all".into(),
        some => format!("there is {}; choose one with --platform", some.join(", ")),
    }
}
