use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::{At, Batch, Claim, Error, Ingest, Result, Store};
use crate::contract::{Descriptor, Digest, MediaType};

impl Store {
    /// Where the blob `digest` is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root().join(digest.blob_path())
    }

    /// Whether the store has the blob.
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob_path(digest).exists()
    }

    /// Opens a blob, and tells its size.
    pub fn open_blob(&self, digest: &Digest) -> Result<(File, u64)> {
        let path = self.blob_path(digest);
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Missing { what: "blob", digest: digest.clone() });
            }
            other => other.at("open", &path)?,
        };
        let size = file.metadata().at("look at", &path)?.size();
        Ok((file, size))
    }

    /// Reads a small blob whole and verifies it. At most `limit` bytes.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let (file, size) = self.open_blob(digest)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).at("read", &self.blob_path(digest))?;
        let found = Digest::of(digest.algorithm(), &bytes);
        if found != *digest {
            let what = format!("blob {digest}");
            let too_large = crate::contract::Error::TooLarge { document: "blob", size, limit };
            return Err(match size > limit {
                true => Error::Document { what, source: too_large },
                false => Error::Mismatch { expected: digest.clone(), found },
            });
        }
        Ok(bytes)
    }

    /// Puts a small blob on its way: written into `ingest`, named when `batch` is committed.
    pub(crate) fn stage_blob(
        &self,
        ingest: &Ingest,
        batch: &mut Batch<'_>,
        digest: &Digest,
        bytes: &[u8],
    ) -> Result<()> {
        if self.has_blob(digest) {
            return Ok(());
        }
        let path = ingest.path().join(digest.hex());
        fs::write(&path, bytes).at("write", &path)?;
        batch.push(path, self.blob_path(digest));
        Ok(())
    }

    /// Adds a small blob, durably.
    pub fn add_blob(&self, media_type: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, bytes);
        let ingest = self.ingest()?;
        let mut batch = Batch::new(self);
        self.stage_blob(&ingest, &mut batch, &descriptor.digest, bytes)?;
        batch.commit()?;
        Ok(descriptor)
    }

    /// Where the download of `digest` is kept until it is whole.
    pub(crate) fn partial_path(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}-{}.partial", digest.algorithm().name(), digest.hex());
        self.root().join("ingest/blobs").join(name)
    }

    /// The partial download of `digest`, ours alone, with what an earlier try left in it; `None` when the blob has come
    /// to be while waiting for another process or thread that was downloading it.
    pub(crate) fn partial(&self, digest: &Digest, waiting: impl FnMut() -> bool) -> Result<Option<Partial>> {
        let path = self.partial_path(digest);
        let Some(claim) = Claim::wait(&path, || self.has_blob(digest), waiting)? else { return Ok(None) };
        let length = claim.file.metadata().at("look at", &path)?.size();
        Ok(Some(Partial { claim, length }))
    }
}

/// A download in progress.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) claim: Claim,
    /// How many bytes it holds.
    pub(crate) length: u64,
}
