//! Places that may have their names before they are whole.
//!
//! Where a cut is durable when it returns, with all that was done before it, a name that is given afterwards costs a second
//! commit, which is most of what a snapshot takes. So the place gets its name first. What it had not is told by its record, which has
//! another name until the data are there. The record is not synced: it is durable with the commit that makes the data so, which all
//! share who come at once. On a btrfs whatever anybody syncs before has a name made for it in the log that is replayed after a power
//! cut, and so have the directories above it and what is new in those, files without their contents, while a subvolume comes with its
//! transaction only; so those that are made before they have a name begin like this, too. That the record gets its own name at last
//! need not be durable. What is marked and has no data when a driver starts was never acknowledged, whatever its record says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use grpc::Failure;

use super::record::{self, Record};
use super::{GONE, Pool};

#[cfg(test)]
mod tests;

impl Pool {
    /// A new place with a record in it, and its name in `part` already. It is the same as any other in memory: nobody sees it.
    pub(super) fn begin_named(
        &self,
        name: &str,
        record: &impl Record,
        part: &str,
    ) -> Result<PathBuf, Failure> {
        let place = self.begin(name, record, true)?;
        self.rename(&place, part).map_err(|error| self.take_back(&place, error))
    }

    /// Has a place that nobody was told of removed. Its name goes first: half of it would be something that cannot be read.
    pub(super) fn cast_off(&self, place: PathBuf) {
        let gone = self.rename(&place, GONE).unwrap_or(place);
        self.left().push(gone);
    }

    /// Whether a place that has a name has nothing else: a record that is marked, if that, which a power cut left without its text.
    pub(super) fn is_bare<R: Record>(place: &Path) -> bool {
        let mark = record::unfinished::<R>(place);
        let is_mark = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.path() == mark);
        fs::read_dir(place).is_ok_and(|mut entries| entries.all(is_mark))
    }

    /// Whether a place that has a name never had data: the driver was killed before. One that has them loses its mark.
    pub(super) fn is_unfinished<R: Record>(&self, backend: &str, place: &Path) -> bool {
        if !record::unfinished::<R>(place).exists() {
            return false;
        }
        match self.backend(backend) {
            Ok(backend) if !backend.is_whole(place) => true,
            Ok(_) => {
                finish::<R>(place);
                false
            }
            // Whoever knows is away.
            Err(_) => false,
        }
    }
}

/// Takes the mark off a place that is whole. One that stays is looked at when the next driver starts.
pub(super) fn finish<R: Record>(place: &Path) {
    let (unfinished, whole) = (record::unfinished::<R>(place), place.join(R::FILE));
    // A record that was replaced meanwhile is the newer one.
    let _stays = if whole.exists() { fs::remove_file(unfinished) } else { fs::rename(unfinished, whole) };
}
