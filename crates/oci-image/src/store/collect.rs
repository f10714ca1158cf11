use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use super::{At, Claim, Error, Result, Store, ingest, lock};
use crate::contract::{Algorithm, Digest};

/// What a collection removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: u64,
    /// Unpacked layers.
    pub layers: u64,
    /// Partial downloads.
    pub partials: u64,
    /// Bytes all that took.
    pub bytes: u64,
}

impl Store {
    /// Removes every blob and layer that no image, no running pull and no container needs, and partial downloads that
    /// nobody went on with for `partials`.
    ///
    /// `in_use` tells whether a container needs the layer with this diffID, though its image may be gone. It is asked
    /// while [`Store::hold`] is refused, so a container that recorded its layers under a hold is never missed.
    ///
    /// A crash anywhere leaves nothing but what the next collection, or the next opening, removes.
    pub fn collect(&self, in_use: &dyn Fn(&Digest) -> bool, partials: Duration) -> Result<Collected> {
        self.sweep_ingest()?;
        let mut collected = Collected::default();
        let mut trash = Trash::new(self);
        // First: on a full disk this may be what makes room for the rest.
        self.collect_partials(partials, &mut collected)?;
        {
            let _lock = lock::exclusive(&self.root().join("lock"))?;
            let (mut blobs, mut layers) = self.needed()?;
            let leased = self.leases()?;
            blobs.extend(leased.iter().cloned());
            layers.extend(leased);
            for digest in self.listed("blobs")? {
                if !blobs.contains(&digest) {
                    collected.bytes += self.blob_path(&digest).metadata().map_or(0, |m| m.size());
                    trash.take(&self.blob_path(&digest))?;
                    collected.blobs += 1;
                }
            }
            for digest in self.listed("layers")? {
                if !layers.contains(&digest) && !in_use(&digest) {
                    collected.bytes += self.layer_meta(&digest).map_or(0, |m| m.size);
                    trash.take(&self.layer_folder(&digest))?;
                    collected.layers += 1;
                }
            }
        }
        // Slow, and nobody needs to wait for it.
        trash.empty()?;
        Ok(collected)
    }

    /// The blobs and the layers of every image recorded.
    fn needed(&self) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>)> {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for image in self.images()? {
            blobs.extend([image.manifest.digest.clone(), image.target.clone()]);
            match self.manifest(&image.manifest.digest) {
                Ok(manifest) => {
                    blobs.insert(manifest.config.digest.clone());
                    blobs.extend(manifest.layers.into_iter().map(|l| l.digest));
                    match self.config(&manifest.config.digest) {
                        Ok(config) => layers.extend(config.rootfs.diff_ids),
                        Err(e) => damaged(e)?,
                    }
                }
                Err(e) => damaged(e)?,
            }
        }
        Ok((blobs, layers))
    }

    /// Everything named by digest below `folder`. Anything else there is not ours and left alone.
    pub(super) fn listed(&self, folder: &str) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            let path = self.root().join(folder).join(algorithm.name());
            for entry in fs::read_dir(&path).at("read", &path)? {
                let name = entry.at("read", &path)?.file_name();
                found.extend(name.to_str().and_then(|hex| Digest::from_parts(algorithm, hex).ok()));
            }
        }
        Ok(found)
    }

    /// Removes partial downloads that nobody is at and nobody went on with, and the locks of layers nobody is at.
    fn collect_partials(&self, older: Duration, collected: &mut Collected) -> Result<()> {
        for folder in ["blobs", "layers"] {
            let path = self.root().join("ingest").join(folder);
            for entry in fs::read_dir(&path).at("read", &path)? {
                let path = entry.at("read", &path)?.path();
                let Some(claim) = Claim::take(&path)? else { continue };
                let metadata = claim.file.metadata().at("look at", &path)?;
                let age = metadata.modified().ok().and_then(|m| SystemTime::now().duration_since(m).ok());
                if folder == "layers" || age.unwrap_or_default() >= older {
                    if folder == "blobs" {
                        collected.partials += 1;
                        collected.bytes += metadata.size();
                    }
                    claim.remove()?;
                }
            }
        }
        Ok(())
    }
}

/// Things that have lost their names and are about to go. They lie in `ingest/` itself, in nobody's folder: on a full
/// disk none could be made, and what a killed process leaves there is swept.
struct Trash {
    ingest: PathBuf,
    taken: Vec<PathBuf>,
}

impl Trash {
    fn new(store: &Store) -> Self {
        Self { ingest: store.ingest_path(), taken: Vec::new() }
    }

    /// Takes a thing's name away at once.
    fn take(&mut self, path: &Path) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("trash-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = self.ingest.join(name);
        fs::rename(path, &place).at("remove", path)?;
        self.taken.push(place);
        Ok(())
    }

    /// Removes the things themselves; somebody who sweeps may have been there before.
    fn empty(self) -> Result<()> {
        self.taken.iter().try_for_each(|path| ingest::remove(path))
    }
}

/// An image whose documents are damaged or missing protects nothing below them: pulling it again mends it. An error of
/// the disk ends the collection, because then nothing can be said about what is needed.
fn damaged(error: Error) -> Result<()> {
    match error {
        Error::Io { .. } => Err(error),
        _ => Ok(()),
    }
}
