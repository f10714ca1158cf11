//! Subvolumes of a pool on btrfs: snapshots and clones are had at once, and quota groups hold what is written.
//!
//! A volume is the subvolume `data` in its place; its quota group's limit is its capacity, and what btrfs itself needs for so
//! much. Groups count in full: what a clone shares with its origin counts in both, so either may be deleted. The pool's
//! quotas are enabled when the first volume is made.

mod commit;
mod cut;
#[cfg(test)]
#[path = "../../../../tests/btrfs/disk.rs"]
pub(crate) mod disk;
mod quota;
mod size;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use grpc::{Code, Failure};
use kernel::btrfs;
use rustix::io::Errno;

use super::{Abilities, Backend, Copies, Cut, Mounting, Source, Space, Usage, Wish, copy, dir};
use crate::plugin::pool::record::Volume;
use commit::Commits;

const NAME: &str = "btrfs";
/// The subvolume that a volume is.
const DATA: &str = "data";

/// Subvolumes of a pool.
pub(crate) struct Subvolumes {
    pool: Arc<File>,
    /// The file system's, by which sysfs knows it.
    uuid: String,
    /// Whether it counts what subvolumes have, as far as this driver has seen to it.
    counts: Mutex<bool>,
    /// Removed subvolumes whose quota groups may still be there.
    gone: Mutex<Vec<u64>>,
    commits: Commits,
}

impl Subvolumes {
    /// Looks whether the pool is on a btrfs. Nothing of it is changed.
    ///
    /// # Errors
    /// `FailedPrecondition` where it is not, or where its quotas are of a kind that does not do.
    pub(crate) fn open(pool: &Path) -> Result<Subvolumes, Failure> {
        let directory = File::open(pool).map_err(|e| failed("open", pool, &e))?;
        if !btrfs::is_btrfs(&directory)? {
            let hint = "make the pool on a btrfs, or take another backend";
            return Err(Failure::precondition(format!(
                "subvolumes need a btrfs, and {} is on none: {hint}",
                pool.display()
            )));
        }
        let uuid = btrfs::uuid(&directory)?;
        let pool = Arc::new(directory);
        let (counts, gone, commits) = (Mutex::new(false), Mutex::default(), Commits::of(Arc::clone(&pool)));
        let subvolumes = Subvolumes { pool, uuid, counts, gone, commits };
        subvolumes.full_quotas()?;
        Ok(subvolumes)
    }

    /// Makes the subvolume of a volume, empty or as its source is.
    fn make(&self, place: &Path, source: Option<Source<'_>>) -> Result<File, Failure> {
        let directory = File::open(place).map_err(|e| failed("open", place, &e))?;
        match source {
            None => {
                btrfs::create(&directory, c"data").map_err(refused)?;
                // As the root of a new file system is; whoever runs in it gets it by fsGroup or by owning it.
                let data = place.join(DATA);
                fs::set_permissions(&data, fs::Permissions::from_mode(0o755))
                    .map_err(|e| failed("create", &data, &e))?;
            }
            Some(Source::Snapshot(_, from) | Source::Volume(_, from, _)) => {
                btrfs::snapshot(&directory, c"data", data(from)?, false).map_err(refused)?;
            }
        }
        data(place)
    }

    /// Removes the subvolume of a place, with those that are in it.
    fn remove_data(&self, place: &Path) -> Result<(), Failure> {
        let root = match File::open(place.join(DATA)) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(|e| failed("open", &place.join(DATA), &e))?,
        };
        // A directory is removed as one.
        if !btrfs::is_root(&root)? {
            return Ok(());
        }
        let id = btrfs::id(&root)?;
        let nested = btrfs::nested(&self.pool, id)?;
        drop(root);
        let all: Vec<u64> = [id].into_iter().chain(nested).collect();
        if all.len() > 1 {
            all.iter().for_each(|&id| self.let_go(id));
        }
        // Each is in one that comes before it.
        for &id in all.iter().rev() {
            match btrfs::destroy(&self.pool, id) {
                Err(e) if e.errno() != Some(Errno::NOENT) => return Err(e.into()),
                _ => {}
            }
        }
        self.forget(&all);
        Ok(())
    }
}

fn failed(act: &str, path: &Path, cause: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot {act} {}: {cause}", path.display()))
}

/// Where the pool is full, others may be not.
fn refused(error: kernel::Error) -> Failure {
    let is_full = matches!(error.errno(), Some(Errno::NOSPC | Errno::DQUOT));
    if is_full { Failure::new(Code::ResourceExhausted, error.to_string()) } else { error.into() }
}

/// Opens the root of the subvolume in a place.
fn data(place: &Path) -> Result<File, Failure> {
    let path = place.join(DATA);
    let root = File::open(&path).map_err(|e| failed("open", &path, &e))?;
    if btrfs::is_root(&root)? {
        return Ok(root);
    }
    Err(Failure::internal(format!("{} is no subvolume", path.display())))
}

impl Backend for Subvolumes {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { mount: true, block: false, copies: Copies::Shared }
    }

    fn space(&self, _: &Path) -> Result<Space, Failure> {
        Ok(size::space(&btrfs::spaces(&self.pool)?))
    }

    fn file_system(&self, _: &Wish) -> String {
        NAME.to_owned()
    }

    fn least(&self, _: &Wish) -> u64 {
        size::LEAST
    }

    fn taken(&self, _: &Wish, capacity: u64) -> u64 {
        size::limit(capacity)
    }

    fn fits(&self, _: &Wish, bytes: u64) -> u64 {
        size::fits(bytes)
    }

    fn accepts(&self, wish: &Wish) -> Result<(), Failure> {
        if !matches!(wish.fs_type.as_str(), "" | NAME) {
            let hint = "leave it out, or take the backend image";
            let message = format!(
                "{:?} cannot be had: a subvolume has the file system of its pool; {hint}",
                wish.fs_type
            );
            return Err(Failure::invalid("fs_type", message));
        }
        match wish.parameters.keys().chain(wish.mutable.keys()).next() {
            Some(key) => Err(Failure::invalid(
                format!("parameters[{key}]"),
                "is not known to the backend btrfs; leave it out",
            )),
            None => Ok(()),
        }
    }

    fn create(&self, place: &Path, volume: &Volume, source: Option<Source<'_>>) -> Result<(), Failure> {
        self.count()?;
        let root = self.make(place, source)?;
        self.hold(&root, volume.capacity)
    }

    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<(), Failure> {
        self.count()?;
        match cuts {
            [cut] => cut::one(cut),
            cuts => cut::together(self, cuts),
        }
    }

    /// A snapshot ends the transaction that it is in. A limit that is changed after it is not durable, and looked at again
    /// before anybody writes.
    fn cuts_durably(&self) -> bool {
        true
    }

    /// Where nobody can tell, it is: what is not whole goes.
    fn is_whole(&self, place: &Path) -> bool {
        place.join(DATA).try_exists().unwrap_or(true)
    }

    fn expand(&self, place: &Path, _: &Volume, capacity: u64, _: Option<&Path>) -> Result<(), Failure> {
        self.hold(&data(place)?, capacity)
    }

    fn modify(&self, _: &Path, _: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        Ok(())
    }

    fn remove(&self, place: &Path) -> Result<(), Failure> {
        self.remove_data(place)?;
        copy::remove(place)
    }

    /// All of it is durable by [`commit`](Self::commit).
    fn sync(&self, _: &Path) -> Result<(), Failure> {
        Ok(())
    }

    fn commit(&self, _: &[&Path]) -> Result<(), Failure> {
        self.commits.commit()
    }

    fn mount(&self, place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
        self.hold(&data(place)?, volume.capacity)?;
        dir::bind(&place.join(DATA), volume, how, "a subvolume's")
    }

    fn device(&self, _: &Path, volume: &Volume, _: bool) -> Result<PathBuf, Failure> {
        Err(Failure::internal(format!("volume {} is a subvolume and no block device", volume.id)))
    }

    fn release(&self, _: &Path, _: &Volume) -> Result<(), Failure> {
        Ok(())
    }

    fn usage(&self, place: &Path, volume: &Volume, _: Option<&Path>) -> Result<Usage, Failure> {
        let used = self.hold_nested(data(place)?, volume.capacity)?.min(volume.capacity);
        let free = self.space(place)?.free;
        let available = (volume.capacity - used).min(free);
        Ok(Usage { total: volume.capacity, used, available, ..Usage::default() })
    }

    fn ailment(&self, place: &Path, volume: &Volume, _: Option<&Path>) -> Result<Option<String>, Failure> {
        match data(place) {
            Ok(root) => self.uncounted(&root, volume),
            Err(_) => Ok(Some("its subvolume is gone".to_owned())),
        }
    }

    fn allocated(&self, place: &Path) -> Result<u64, Failure> {
        if !place.join(DATA).exists() {
            return Ok(0);
        }
        let root = data(place)?;
        // What it shares with its origin is counted there.
        if btrfs::subvolume(&root)?.is_cut { self.exclusive(&root) } else { self.referenced(&root) }
    }

    fn held(&self, place: &Path) -> Result<u64, Failure> {
        self.referenced(&data(place)?)
    }

    fn recover(&self, place: &Path, volume: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        self.count()?;
        self.hold(&data(place)?, volume.capacity)
    }
}
