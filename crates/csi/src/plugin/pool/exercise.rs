//! Any bytes as records: what a fuzz target feeds.

use std::fs;
use std::path::Path;

use super::record::{Group, Record as _, Snapshot, Volume};
use super::{GROUPS, Pool, SNAPSHOTS, VOLUMES};
use crate::plugin::backend::dir::Directories;

/// A pool at `path` with these bytes as its records: it opens, says of each whether it can be read, and counts what they take.
///
/// # Errors
/// The machine's.
pub(in crate::plugin) fn exercise(bytes: &[u8], path: &Path) -> Result<(), grpc::Failure> {
    // A pool that can read nothing says so, and does nothing else.
    if !super::record::exercise(bytes) {
        return Ok(());
    }
    for (part, file) in [(VOLUMES, Volume::FILE), (SNAPSHOTS, Snapshot::FILE), (GROUPS, Group::FILE)] {
        let place = path.join(part).join("a-1");
        let made = fs::create_dir_all(&place).and_then(|()| fs::write(place.join(file), bytes));
        made.map_err(|e| grpc::Failure::internal(format!("cannot write {}: {e}", place.display())))?;
    }
    let pool = Pool::open("a", path, vec![Box::new(Directories)], 1.0)?;
    let volumes = pool.volumes();
    let is_known = volumes.iter().any(|kept| kept.place.ends_with("a-1"));
    assert!(is_known || pool.is_readable("a-1").is_err(), "neither known nor said to be unreadable");
    for kept in volumes {
        let record = &kept.record;
        assert!(record.ephemeral || record.id == "a-1", "{record:?}");
        assert!(record.least_copy() <= record.capacity, "{record:?}");
    }
    let available = pool.available()?;
    assert!(pool.reserve(available).is_ok() && pool.reserve(u64::MAX).is_err());
    Ok(())
}
