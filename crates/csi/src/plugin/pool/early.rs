//! Places that have their names before they are whole.
//!
//! Where a cut is durable when it returns, with all that was done before it, a name that is given afterwards costs a second
//! commit, which is most of what a snapshot takes. So the place gets its name first, and a mark that its data may not be
//! there; the mark goes once they are, which need not be durable. What is marked and has no data when a driver starts was
//! never acknowledged.

use std::fs;
use std::path::{Path, PathBuf};

use grpc::Failure;

use super::record::Record;
use super::{Backend, GONE, Pool};

/// The mark.
const MARK: &str = "unfinished";

impl Pool {
    /// A new place with a record in it, and its name in `part` already. It is the same as any other in memory: nobody sees it.
    pub(super) fn begin_named(
        &self,
        name: &str,
        record: &impl Record,
        part: &str,
    ) -> Result<PathBuf, Failure> {
        let place = self.begin(name, record)?;
        let mark = place.join(MARK);
        let marked = fs::File::create_new(&mark)
            .map_err(|e| Failure::internal(format!("cannot make {}: {e}", mark.display())));
        marked.and_then(|_| self.rename(&place, part)).map_err(|error| self.take_back(&place, error))
    }

    /// Has a place that nobody was told of removed. Its name goes first: half of it would be something that cannot be read.
    pub(super) fn cast_off(&self, place: PathBuf) {
        let gone = self.rename(&place, GONE).unwrap_or(place);
        self.left().push(gone);
    }

    /// Whether a place that has a name never had data: the driver was killed before. One that has them loses its mark.
    pub(super) fn is_unfinished(&self, backend: &str, place: &Path) -> bool {
        if !place.join(MARK).exists() {
            return false;
        }
        match self.backend(backend) {
            Ok(backend) if !backend.is_whole(place) => true,
            Ok(_) => {
                finish(place);
                false
            }
            // Whoever knows is away.
            Err(_) => false,
        }
    }
}

/// Takes the mark off a place that is whole. One that stays is looked at when the next driver starts.
pub(super) fn finish(place: &Path) {
    let _stays = fs::remove_file(place.join(MARK));
}

/// Whether `backend` gives what it cuts a name first.
pub(super) fn is_early(backend: &dyn Backend, is_cut: bool) -> bool {
    is_cut && backend.cuts_durably()
}
