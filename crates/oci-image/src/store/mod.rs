//! The image store: an OCI image layout on disk, with its layers unpacked beside it.
//!
//! ```text
//! oci-layout  index.json          the layout; index.json is the record: an image exists when it is named there
//! blobs/<algorithm>/<hex>         manifests, configurations, layers as they came
//! layers/<algorithm>/<hex>/fs     a layer unpacked, by its diffID; meta.json beside it
//! ingest/                         everything not finished: a folder for each running pull, partial downloads
//! lock, index.lock                who may collect, who may write the record
//! ```
//!
//! What has a name is whole: it is written and unpacked below `ingest/`, synced, and only then renamed to the digest
//! that was computed over it; the record comes last. Several processes may use a store at once. The locks are flocks,
//! so none outlives its process:
//!
//! - `lock`, shared: whoever is about to name or use something; exclusive: the collector, while it decides.
//! - `index.lock`: one writer of index.json at a time. Readers need none, the file is replaced whole.
//! - `ingest/<id>/`: its pull lives. Its `lease` lists the digests that the collector leaves alone meanwhile.
//! - `ingest/blobs/*.partial`, `ingest/layers/*.lock`: one downloads or unpacks, the others wait and then use it.

mod batch;
mod blob;
mod claim;
mod collect;
mod error;
mod index;
mod ingest;
mod layers;
mod lock;
mod lookup;
mod usage;
mod verify;

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

pub use collect::Collected;
pub use error::{Error, Result};
pub use index::Image;
pub use layers::LayerMeta;
pub use lookup::Details;
pub use usage::{Content, ImageUsage, Usage};
pub use verify::{Damage, Part, Verifier};

pub(crate) use batch::Batch;
pub(crate) use claim::Claim;
pub(crate) use error::At;
pub(crate) use ingest::{Ingest, remove as remove_path};
pub(crate) use layers::write_meta;

use crate::contract::{Algorithm, Digest, ImageManifest};

/// The file whose room is given up to make room.
const RESERVE: &str = "reserve";
const RESERVE_SIZE: usize = 64 << 10;

/// The content of `oci-layout`.
pub(crate) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An open image store. Cheap to open; any number may be, in any number of processes.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
}

/// While this lives, nothing is collected: taken by whoever looks something up and is about to record that it uses it.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

impl Store {
    /// Opens the store at `root`, and makes it (mode 0700) if it is not there. What dead processes left half-done in it
    /// is removed.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { root: root.into() };
        let mut folders =
            vec![store.root.clone(), store.ingest_path().join("blobs"), store.ingest_path().join("layers")];
        for algorithm in Algorithm::ALL {
            folders.push(store.root.join("blobs").join(algorithm.name()));
            folders.push(store.root.join("layers").join(algorithm.name()));
        }
        for folder in folders {
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).at("create", &folder)?;
        }
        store.mark()?;
        store.sweep_ingest()?;
        store.set_aside();
        Ok(store)
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps the collector out while this lives. Take it, look up an image's layers, record that they are used, drop it.
    pub fn hold(&self) -> Result<Hold> {
        Ok(Hold { _lock: lock::shared(&self.root.join("lock"))? })
    }

    /// Replaces a file whole: a reader sees the old or the new, after a power cut too.
    ///
    /// It is written in `ingest/`, locked, so that what a killed process leaves of it is swept like everything there.
    fn replace(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let own = format!("{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let temporary = self.ingest_path().join(own);
            let mut file = match File::create_new(&temporary) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.at("create", &temporary)?,
            };
            let locked = lock::try_exclusive(&file).at("lock", &temporary)?;
            if !locked || !claim::names(&temporary, &file)? {
                // Swept in the moment before it was locked.
                continue;
            }
            let done = file
                .write_all(bytes)
                .and_then(|()| file.sync_all())
                .and_then(|()| fs::rename(&temporary, path));
            if done.is_err() {
                // The error that matters is the first; what is left is swept.
                let _: io::Result<()> = fs::remove_file(&temporary);
            }
            return done.at("write", path);
        }
    }

    /// Keeps some room, so that taking images off the record works on a full disk too. Where there is none it is kept
    /// another time. A power cut may leave the file empty, for nobody waits for it to be durable.
    fn set_aside(&self) {
        let path = self.root.join(RESERVE);
        let kept = path.metadata().is_ok_and(|m| m.len() == RESERVE_SIZE as u64);
        if !kept && fs::write(&path, [0; RESERVE_SIZE]).is_err() {
            let _: io::Result<()> = fs::remove_file(&path);
        }
    }

    /// Gives that room up; whether there was any.
    fn use_reserve(&self) -> bool {
        fs::remove_file(self.root.join(RESERVE)).is_ok()
    }

    fn ingest_path(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Writes `oci-layout`, or checks the one there.
    fn mark(&self) -> Result<()> {
        let path = self.root.join("oci-layout");
        match fs::read(&path) {
            Ok(bytes) => check_layout(&path, &bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.replace(&path, LAYOUT)?;
                sync_directory(&self.root)
            }
            Err(e) => Err(e).at("read", &path),
        }
    }
}

/// Whether `bytes` mark a layout of a version that is known.
pub(crate) fn check_layout(path: &Path, bytes: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Mark {
        #[serde(rename = "imageLayoutVersion")]
        version: String,
    }
    let fail = |reason: String| Err(Error::Layout { path: path.to_owned(), reason });
    match serde_json::from_slice::<Mark>(bytes) {
        Ok(mark) if mark.version == "1.0.0" => Ok(()),
        Ok(mark) => fail(format!("imageLayoutVersion is {:?}, and only \"1.0.0\" is known", mark.version)),
        Err(e) => fail(e.to_string()),
    }
}

impl Store {
    /// Makes the names of an image's blobs and layers durable, whoever gave them.
    pub(crate) fn sync_names(&self, diff_ids: &[Digest], manifest: &ImageManifest) -> Result<()> {
        let blobs = manifest.layers.iter().map(|l| &l.digest).chain([&manifest.config.digest]);
        let folders: BTreeSet<PathBuf> = blobs
            .map(|digest| self.blob_path(digest))
            .chain(diff_ids.iter().map(|diff_id| self.layer_folder(diff_id)))
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect();
        folders.iter().try_for_each(|folder| sync_directory(folder))
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|d| d.sync_all()).at("sync", path)
}

#[cfg(test)]
mod tests;
