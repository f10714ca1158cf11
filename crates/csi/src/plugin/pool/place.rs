//! Directories of volumes and snapshots: how they get their names and lose them.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use grpc::Failure;

use super::record::{self, Record};
use super::{Backend, GONE, INCOMING, Pool, SNAPSHOTS, VOLUMES};

impl Pool {
    /// A new place with a record in it, which says whether the place may have a name before it is whole.
    pub(super) fn begin(
        &self,
        name: &str,
        record: &impl Record,
        is_marked: bool,
    ) -> Result<PathBuf, Failure> {
        let place = self.path.join(INCOMING).join(name);
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&place)
            .map_err(|e| Failure::internal(format!("cannot make {}: {e}", place.display())))?;
        let written =
            if is_marked { record::write_unfinished(&place, record) } else { record::write(&place, record) };
        written.map_err(|error| self.take_back(&place, error))?;
        Ok(place)
    }

    /// Gives a place that is whole its name.
    pub(super) fn name(&self, backend: &dyn Backend, place: &Path, part: &str) -> Result<PathBuf, Failure> {
        let named = self.rename(place, part)?;
        match backend.commit(&[&self.path.join(part)]) {
            Ok(()) => Ok(named),
            Err(error) => Err(self.take_back(&named, error)),
        }
    }

    /// Takes the name of a place away; returns where it is now. Where that cannot be made durable it keeps its name.
    pub(super) fn unname(&self, backend: &dyn Backend, place: &Path, part: &str) -> Result<PathBuf, Failure> {
        let gone = self.rename(place, GONE)?;
        match backend.commit(&[&self.path.join(part), &self.path.join(GONE)]) {
            Ok(()) => Ok(gone),
            Err(error) => match self.rename(&gone, part) {
                Ok(_) => Err(error),
                Err(after) => Err(error.and(&after)),
            },
        }
    }

    pub(super) fn rename(&self, place: &Path, part: &str) -> Result<PathBuf, Failure> {
        let to = self.path.join(part).join(place.file_name().unwrap_or_default());
        fs::rename(place, &to).map_err(|e| {
            Failure::internal(format!("cannot rename {} to {}: {e}", place.display(), to.display()))
        })?;
        Ok(to)
    }

    /// Removes what could not be made whole. Killed meanwhile it has no name.
    pub(super) fn take_back(&self, place: &Path, error: Failure) -> Failure {
        let gone = self.rename(place, GONE).unwrap_or_else(|_| place.to_owned());
        match self.erase(&gone) {
            Ok(()) => error,
            Err(after) => {
                self.left().push(gone);
                error.and(&after)
            }
        }
    }
}

/// The places of all volumes and snapshots of the pool in a directory, whole or not. It may not have been made yet.
///
/// # Errors
/// It cannot be listed.
pub(crate) fn all_places(pool: &Path) -> Result<Vec<PathBuf>, Failure> {
    let parts = [VOLUMES, SNAPSHOTS, INCOMING, GONE].map(|part| pool.join(part));
    parts
        .iter()
        .filter(|part| part.try_exists().unwrap_or(true))
        .map(|part| places(part))
        .collect::<Result<Vec<_>, _>>()
        .map(|all| all.concat())
}

/// Directories in a directory of a pool.
pub(super) fn places(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: io::Error| Failure::internal(format!("cannot list {}: {e}", directory.display()));
    let mut places = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        places.push(entry.map_err(failed)?.path());
    }
    places.sort();
    Ok(places)
}
