use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File},
    io,
    os::{fd::AsFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{At, Result, Store, claim, lock};
use crate::{contract::Digest, layer::remove_tree};

/// A folder for work in progress. It goes when this is dropped; if the process dies, the next one to look removes it.
#[derive(Debug)]
pub(crate) struct Ingest {
    path: PathBuf,
    /// Its flock says that this process lives.
    _lock: File,
}

impl Store {
    /// Makes a folder for work in progress.
    pub(crate) fn ingest(&self) -> Result<Ingest> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let _hold = self.hold()?;
        loop {
            let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
            let name = format!("{}-{nanos:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let path = self.ingest_path().join(name);
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => {
                    made.at("create", &path)?;
                    let folder = match File::open(&path) {
                        Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                        other => other.at("open", &path)?,
                    };
                    // A process that looks for dead ones' folders may have come between: then this one is lost.
                    if lock::try_exclusive(&folder).at("lock", &path)? && claim::names(&path, &folder)? {
                        return Ok(Ingest { path, _lock: folder });
                    }
                }
            }
        }
    }

    /// Removes what dead processes left in `ingest/`.
    pub(super) fn sweep_ingest(&self) -> Result<()> {
        let dead = {
            let _hold = self.hold()?;
            self.ingests()?.into_iter().filter_map(|path| dead(&path)).collect::<Vec<_>>()
        };
        dead.into_iter().try_for_each(|(path, _lock)| remove(&path))
    }

    /// The digests that running pulls need.
    pub(super) fn leases(&self) -> Result<BTreeSet<Digest>> {
        let mut digests = BTreeSet::new();
        for path in self.ingests()? {
            let text = fs::read_to_string(path.join("lease")).unwrap_or_default();
            digests.extend(text.lines().filter_map(|l| l.parse::<Digest>().ok()));
        }
        Ok(digests)
    }

    fn ingests(&self) -> Result<Vec<PathBuf>> {
        let parent = self.ingest_path();
        let mut found = Vec::new();
        for entry in fs::read_dir(&parent).at("read", &parent)? {
            let entry = entry.at("read", &parent)?;
            let name = entry.file_name();
            if name != "blobs" && name != "layers" {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

/// The folder with its lock, if its process is dead.
fn dead(path: &Path) -> Option<(PathBuf, File)> {
    let folder = File::open(path).ok()?;
    lock::try_exclusive(&folder).ok()?.then(|| (path.to_owned(), folder))
}

impl Ingest {
    /// Its folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells collectors to leave `digests` alone, blobs and layers alike, as long as this lives. What is looked up
    /// afterwards and found is safe.
    pub(crate) fn lease<'a>(
        &self,
        store: &Store,
        digests: impl IntoIterator<Item = &'a Digest>,
    ) -> Result<()> {
        let text: String = digests.into_iter().map(|d| format!("{d}\n")).collect();
        let _hold = store.hold()?;
        let path = self.path.join("lease");
        fs::write(&path, text).at("write", &path)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // What cannot be removed now, the next process removes.
        let _: Result<()> = remove(&self.path);
    }
}

/// Removes a file or a folder with everything in it.
pub(crate) fn remove(path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = File::open(parent).at("open", parent)?;
    remove_tree(parent.as_fd(), name.as_bytes()).at("remove", path)
}
