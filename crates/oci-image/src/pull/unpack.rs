//! Unpacking one layer as its blob comes in.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Error, Options, Progress, Result, State,
    body::{Body, End, Follow},
    fetch::Fetcher,
    report::{Meter, Meters, Stage},
};
use crate::{
    contract::{Descriptor, Digest},
    layer::{self, Inflate, LimitExceeded, tar, thread_time, unpack},
    store::{At, Claim, Ingest, LayerMeta, Store, write_meta},
};

/// What an unpacker works with.
pub(super) struct Unpacker<'a> {
    pub(super) store: &'a Store,
    pub(super) ingest: &'a Ingest,
    pub(super) options: &'a Options,
    pub(super) progress: &'a dyn Progress,
    pub(super) meter: &'a Meter,
    pub(super) fetcher: &'a Fetcher<'a>,
}

/// A layer unpacked and verified, in the pull's own folder. As long as this lives, other pulls of it wait.
pub(super) struct Finished {
    pub(super) folder: PathBuf,
    pub(super) claim: Claim,
}

impl Unpacker<'_> {
    /// Unpacks `diff_id` from `layer`, whose bytes come through `body`. `None` if the store has it, or got it from
    /// another meanwhile.
    pub(super) fn unpack(
        &self,
        layer: &Descriptor,
        diff_id: &Digest,
        body: &Body,
    ) -> Result<Option<Finished>> {
        let waiting = || !(self.fetcher.stopped)();
        let claim = self
            .store
            .claim_layer(diff_id, waiting)
            .map_err(|e| if (self.fetcher.stopped)() { Error::Cancelled } else { e.into() })?;
        let Some(claim) = claim else { return Ok(None) };
        let folder = self.ingest.path().join(format!("layer-{}", diff_id.hex()));
        match self.attempts(layer, diff_id, body, &folder) {
            Ok(()) => Ok(Some(Finished { folder, claim })),
            Err(e) => {
                claim.remove()?;
                Err(e)
            }
        }
    }

    /// Tries until it works, or it is clear that this blob does not unpack.
    fn attempts(&self, layer: &Descriptor, diff_id: &Digest, body: &Body, folder: &Path) -> Result<()> {
        let mut healed = false;
        loop {
            let reader = body.reader();
            let generation = reader.generation();
            self.progress.state(&layer.digest, State::Unpacking);
            let failure = match self.once(layer, diff_id, reader, folder) {
                Ok(()) => match body.wait() {
                    (End::Failed, _) => return Err(Error::Cancelled),
                    (_, end) if end == generation => return Ok(()),
                    // The blob began anew after its last byte was unpacked; what counts is what it is now.
                    _ => None,
                },
                // Neither is the bytes' fault.
                Err(
                    e @ Error::Unpack { source: layer::Error::Limit(_) | layer::Error::Write { .. }, .. },
                ) => return Err(e),
                Err(e) => Some(e),
            };
            let (end, last) = body.wait();
            match (failure, end) {
                // Whatever the bytes were, the download failed: its own error tells more.
                (Some(Error::Unpack { .. } | Error::DiffId { .. }), End::Failed) => {
                    return Err(Error::Cancelled);
                }
                (None, _) => {}
                (Some(_), _) if last != generation => {}
                // The store's own copy may have been damaged since it was verified: fetched again, once.
                (Some(Error::DiffId { .. } | Error::Unpack { .. }), End::Present)
                    if !healed && self.damaged(layer)? =>
                {
                    healed = true;
                    self.refetch(layer, body)?;
                }
                (Some(e), _) => return Err(e),
            }
        }
    }

    /// Whether the blob in the store is no longer what its name says.
    fn damaged(&self, layer: &Descriptor) -> Result<bool> {
        let (mut file, size) = self.store.open_blob(&layer.digest)?;
        let mut hasher = crate::contract::Hasher::new(layer.digest.algorithm());
        let mut buffer = vec![0; 128 << 10];
        loop {
            match file.read(&mut buffer).at("read", &self.store.blob_path(&layer.digest))? {
                0 => return Ok(size != layer.size || hasher.finish() != layer.digest),
                n => hasher.update(buffer.get(..n).unwrap_or_default()),
            }
        }
    }

    /// Drops the damaged blob and fetches it again, into its place.
    fn refetch(&self, layer: &Descriptor, body: &Body) -> Result<()> {
        let path = self.store.blob_path(&layer.digest);
        std::fs::remove_file(&path).at("remove damaged", &path)?;
        body.restart();
        if let Some(whole) = self.fetcher.fetch(layer, body)? {
            let mut batch = crate::store::Batch::new(self.store);
            batch.push(whole.path(), path);
            batch.commit()?;
        }
        Ok(())
    }

    fn once(&self, layer: &Descriptor, diff_id: &Digest, reader: Follow<'_>, folder: &Path) -> Result<()> {
        let start = thread_time();
        let root = fresh(folder)?;
        let counted = Counted {
            reader,
            digest: &layer.digest,
            progress: self.progress,
            taken: 0,
            stopped: self.fetcher.stopped,
        };
        let limit = self.options.limits.bytes_for(layer.size);
        let inflate = Inflate::new(counted, diff_id.algorithm(), limit);
        let mut reader = tar::Reader::new(inflate);
        let unpacked = unpack(&mut reader, root, &self.options.limits);
        let inflate = reader.into_inner();
        let (busy, total) = (inflate.busy(), inflate.total());
        let rest = thread_time().saturating_sub(start).saturating_sub(busy.inflate + busy.hash);
        let stage = |busy: Duration| Stage { bytes: total, busy };
        self.meter.add(Meters {
            inflate: stage(busy.inflate),
            hash: stage(busy.hash),
            unpack: stage(rest),
            ..Meters::default()
        });
        let unpacked = unpacked.map_err(|e| unpack_error(&layer.digest, e))?;
        let found = inflate.finish();
        if found != *diff_id {
            return Err(Error::DiffId { digest: layer.digest.clone(), expected: diff_id.clone(), found });
        }
        let meta = LayerMeta {
            diff_id: diff_id.clone(),
            size: unpacked.bytes,
            entries: unpacked.entries,
            settled: unpacked.implied.is_empty(),
            implied: unpacked.implied.into_iter().filter_map(|p| String::from_utf8(p).ok()).collect(),
        };
        Ok(write_meta(folder, &meta)?)
    }
}

/// A layer's error; a limit that was met inside a stream is told as what it is.
fn unpack_error(digest: &Digest, error: layer::Error) -> Error {
    let source = match error {
        layer::Error::Tar(tar::Error::Io(e)) => {
            match e.get_ref().and_then(|inner| inner.downcast_ref::<LimitExceeded>()).copied() {
                Some(limit) => layer::Error::Limit(limit),
                None => layer::Error::Tar(tar::Error::Io(e)),
            }
        }
        other => other,
    };
    Error::Unpack { digest: digest.clone(), source }
}

/// An empty `fs` in an otherwise empty folder, open.
fn fresh(folder: &Path) -> Result<std::os::fd::OwnedFd> {
    crate::store::remove_path(folder)?;
    let fs = folder.join("fs");
    std::fs::create_dir_all(&fs).at("create", &fs)?;
    Ok(layer::open_root(&fs).at("open", &fs)?)
}

/// Tells how far the unpacking is, and ends it when the pull is over.
struct Counted<'a> {
    reader: Follow<'a>,
    digest: &'a Digest,
    progress: &'a dyn Progress,
    taken: u64,
    stopped: &'a (dyn Fn() -> bool + Sync),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.stopped)() {
            return Err(io::Error::other("the pull was given up"));
        }
        let n = self.reader.read(buffer)?;
        self.taken += n as u64;
        self.progress.unpacked(self.digest, self.taken);
        Ok(n)
    }
}
