use std::time::Duration;

use crate::contract::{Descriptor, Digest};

/// Who watches a pull. Called from several threads, often: it should return at once.
pub trait Progress: Sync {
    /// The image is known: its manifest, and its layers, lowest first.
    fn resolved(&self, manifest: &Descriptor, layers: &[Descriptor]) {
        let _ = (manifest, layers);
    }

    /// A blob came to another state.
    fn state(&self, digest: &Digest, state: State) {
        let _ = (digest, state);
    }

    /// So many bytes of a blob are on disk.
    fn downloaded(&self, digest: &Digest, bytes: u64) {
        let _ = (digest, bytes);
    }

    /// So many compressed bytes of a layer are unpacked.
    fn unpacked(&self, digest: &Digest, bytes: u64) {
        let _ = (digest, bytes);
    }

    /// Whether to stop.
    fn cancelled(&self) -> bool {
        false
    }
}

/// What is happening to a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The store has it.
    Present,
    /// Another pull is at it, and this one waits.
    Joined,
    /// It is being downloaded, from this byte on.
    Downloading {
        /// What an earlier try left.
        from: u64,
    },
    /// The download failed and is tried again after a while.
    Retrying {
        /// Why.
        reason: String,
        /// After how long.
        after: Duration,
    },
    /// It is being unpacked.
    Unpacking,
    /// It is whole, verified and, for a layer, unpacked.
    Done,
}

/// Nobody watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
