use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{At, Result, Store, ingest, sync_directory};

/// Finished things on their way to their names: one sync of the filesystem makes all of them durable, then each is
/// renamed. Syncing 66,000 files one by one costs far more than syncing once.
pub(crate) struct Batch<'a> {
    store: &'a Store,
    moves: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    pub(crate) fn new(store: &'a Store) -> Self {
        Self { store, moves: Vec::new() }
    }

    /// Adds a finished file or folder and the path it is to have.
    pub(crate) fn push(&mut self, from: PathBuf, to: PathBuf) {
        self.moves.push((from, to));
    }

    /// Makes everything durable under its name; how long that took.
    pub(crate) fn commit(self) -> Result<Duration> {
        if self.moves.is_empty() {
            return Ok(Duration::ZERO);
        }
        let start = Instant::now();
        let root = self.store.root();
        let folder = File::open(root).at("open", root)?;
        rustix::fs::syncfs(&folder).at("sync the filesystem of", root)?;
        let mut parents = BTreeSet::new();
        for (from, to) in &self.moves {
            rename(from, to)?;
            parents.extend(to.parent().map(Path::to_owned));
        }
        parents.iter().try_for_each(|p| sync_directory(p))?;
        Ok(start.elapsed())
    }
}

/// Renames, unless the name is taken: by its digest it is the same thing, so ours is not needed.
fn rename(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty) => {
            ingest::remove(from)
        }
        done => done.at("name", to),
    }
}
