//! Kinds of storage, and what the driver asks of each.

pub(super) mod btrfs;
pub(super) mod copy;
mod crypt;
pub(super) mod dir;
mod encryption;
pub(super) mod filesystem;
mod image;
pub(super) mod quota;
pub(super) mod thin;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use grpc::Failure;

use super::config::PoolConfig;
use super::pool::record::{Snapshot, Volume};

/// All kinds that a directory can have, the best first. A pool that has a device has [`thin`] volumes alone.
pub(super) const ALL: [&str; 4] = ["image", "btrfs", "quota", "dir"];

/// The backend of a name, for a pool.
///
/// # Errors
/// There is none of that name, or it cannot be had there; why.
pub(super) fn open(name: &str, pool: &PoolConfig) -> Result<Box<dyn Backend>, Failure> {
    match name {
        "image" => Ok(Box::new(image::Images::open(&pool.path)?)),
        "btrfs" => Ok(Box::new(btrfs::Subvolumes::open(&pool.path)?)),
        "quota" => Ok(Box::new(quota::Quotas::open(&pool.path, pool.project_ids)?)),
        "dir" => Ok(Box::new(dir::Directories)),
        thin::NAME => {
            let message = "lvm-thin is of a pool that has a device: give this pool one with `device`";
            Err(Failure::invalid("backend", message))
        }
        _ => {
            let others = ALL.join(", ");
            let message = format!(
                "{} is no backend: write {others}, or {} in a pool that has a device",
                super::text::shown(name),
                thin::NAME
            );
            Err(Failure::invalid("backend", message))
        }
    }
}

/// What the machine refuses at a path.
fn failed(act: &str, path: &Path, cause: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("cannot {act} {}: {cause}", path.display()))
}

/// A kind of storage in one pool.
///
/// Calls block. There are never two at once that change the same volume or snapshot; snapshots
/// and clones of one may be cut at once. Each gets the directory of what it works on, its
/// *place*, with the record in it; everything else there is the backend's. A place is given its final name only when all of it
/// is made, so nobody ever sees a part.
pub(crate) trait Backend: Send + Sync {
    /// What it is called in the parameter `backend` of a class.
    fn name(&self) -> &'static str;

    /// What it can do in this pool, on this machine.
    fn abilities(&self) -> Abilities;

    /// The pool's bytes, as far as this kind of storage knows better than statfs(2) does.
    ///
    /// # Errors
    /// The pool cannot be asked.
    fn space(&self, pool: &Path) -> Result<Space, Failure> {
        Space::of(pool)
    }

    /// The file system that a wish comes to: its default one where the class does not say; empty where it has none of its own.
    fn file_system(&self, wish: &Wish) -> String {
        wish.fs_type.clone()
    }

    /// The smallest capacity that such a volume can have, in bytes.
    fn least(&self, wish: &Wish) -> u64;

    /// How many bytes of the pool a volume of this capacity takes at most, with what its file system needs for itself.
    fn taken(&self, wish: &Wish, capacity: u64) -> u64;

    /// The largest capacity that a volume may have which takes no more than `bytes` of the pool: the inverse of
    /// [`taken`](Self::taken), 0 where there is none.
    fn fits(&self, wish: &Wish, bytes: u64) -> u64;

    /// Refuses what it cannot make of a class's parameters. Keys that are the driver's own are not among them.
    ///
    /// # Errors
    /// `InvalidArgument` that names the parameter.
    fn accepts(&self, wish: &Wish) -> Result<(), Failure>;

    /// Makes the data of a volume in an empty place, empty or as `source` is. Not durable before [`sync`](Self::sync) and
    /// [`commit`](Self::commit).
    ///
    /// # Errors
    /// What the machine refuses. The place may hold a part then; [`remove`](Self::remove) is called.
    fn create(&self, place: &Path, volume: &Volume, source: Option<Source<'_>>) -> Result<(), Failure>;

    /// Cuts snapshots of volumes, all as of one moment, each into an empty place.
    ///
    /// # Errors
    /// What the machine refuses; `Aborted` where one moment could not be had now.
    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<(), Failure>;

    /// Whether what it cuts, by [`snapshot`](Self::snapshot) or of a source, is durable at once with all that was done before,
    /// the name of its place included. [`commit`](Self::commit) is not called then.
    fn cuts_durably(&self) -> bool {
        false
    }

    /// Whether all of what it makes is in its place, where cuts are durable at once: a place may have its name before.
    fn is_whole(&self, place: &Path) -> bool {
        let _anywhere = place;
        true
    }

    /// Makes a volume larger, with its file system where that is mounted at `root`. `volume` has its old capacity.
    ///
    /// # Errors
    /// What the machine refuses; the volume then has a size between both.
    fn expand(
        &self,
        place: &Path,
        volume: &Volume,
        capacity: u64,
        root: Option<&Path>,
    ) -> Result<(), Failure>;

    /// Brings what may change of a volume into effect, where `root` is where it is mounted. `volume` has its new parameters.
    ///
    /// # Errors
    /// What the machine refuses.
    fn modify(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<(), Failure>;

    /// Takes away all that the backend has in a place, which may be a part, and the place.
    ///
    /// # Errors
    /// What the machine refuses.
    fn remove(&self, place: &Path) -> Result<(), Failure>;

    /// Makes what is in a place durable, as far as [`commit`](Self::commit) does not: it has no final name yet.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&self, place: &Path) -> Result<(), Failure>;

    /// Makes durable that places have got their names in `directories` of the pool, or lost them. Many callers at once share
    /// the cost where the file system can.
    ///
    /// # Errors
    /// The disk's.
    fn commit(&self, directories: &[&Path]) -> Result<(), Failure>;

    /// The volume as a mount that is attached nowhere: it vanishes with its descriptor, and what it is on with it.
    ///
    /// # Errors
    /// What the kernel refuses, with the option's name where it is one.
    fn mount(&self, place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure>;

    /// The volume as a block device, which stays until [`release`](Self::release); the same one if it is there already.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn device(&self, place: &Path, volume: &Volume, read_only: bool) -> Result<PathBuf, Failure>;

    /// Makes a block device ready that wants a secret: before [`device`](Self::device), where a volume is staged.
    ///
    /// # Errors
    /// The secret is missing, or not the volume's; what the kernel refuses.
    fn unlock(&self, place: &Path, volume: &Volume, secrets: &Secrets) -> Result<(), Failure> {
        let _open_to_all = (place, volume, secrets);
        Ok(())
    }

    /// Gives the block devices of a volume back. Those in use go with their last user.
    ///
    /// # Errors
    /// What the kernel refuses.
    fn release(&self, place: &Path, volume: &Volume) -> Result<(), Failure>;

    /// How full a volume is; `root` is where it is mounted, if it is.
    ///
    /// # Errors
    /// What the machine refuses.
    fn usage(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<Usage, Failure>;

    /// What is wrong with a volume, in words for people; `None` where nothing is.
    ///
    /// # Errors
    /// It cannot be told.
    fn ailment(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<Option<String>, Failure>;

    /// How many bytes of the pool a place has now.
    ///
    /// # Errors
    /// What the machine refuses.
    fn allocated(&self, place: &Path) -> Result<u64, Failure>;

    /// How many bytes of the pool a snapshot of a volume may come to have for itself, when the volume has changed altogether.
    ///
    /// # Errors
    /// What the machine refuses.
    fn held(&self, place: &Path) -> Result<u64, Failure> {
        self.allocated(place)
    }

    /// Mends what a killed driver may have left of a volume that exists: a file system that is frozen.
    ///
    /// # Errors
    /// What the machine refuses.
    fn recover(&self, place: &Path, volume: &Volume, root: Option<&Path>) -> Result<(), Failure> {
        let _nothing = (place, volume, root);
        Ok(())
    }

    /// Ranges of a snapshot that hold data, from `offset` on, at most `most`, in ascending order. It may stop before that many
    /// are found, so that no call takes for ever.
    ///
    /// # Errors
    /// `Unimplemented` where it has no blocks.
    fn ranges(&self, place: &Path, offset: u64, most: usize) -> Result<Ranges, Failure> {
        let _unread = (place, offset, most);
        Err(Failure::new(
            grpc::Code::Unimplemented,
            format!("volumes of the backend {} have no blocks", self.name()),
        ))
    }

    /// Ranges that differ between two snapshots of a volume, as [`ranges`](Self::ranges) tells them.
    ///
    /// # Errors
    /// As there.
    fn changes(&self, base: &Path, place: &Path, offset: u64, most: usize) -> Result<Ranges, Failure> {
        let _unread = (base, place, offset, most);
        Err(Failure::new(
            grpc::Code::Unimplemented,
            format!("volumes of the backend {} have no blocks", self.name()),
        ))
    }
}

/// What a backend can do in a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// File systems.
    pub(crate) mount: bool,
    /// Raw block devices.
    pub(crate) block: bool,
    /// How snapshots and clones come about.
    pub(crate) copies: Copies,
}

/// How snapshots and clones come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Copies {
    /// At once, sharing blocks.
    Shared,
    /// By copying all data.
    Whole,
}

/// What a new volume is to be.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// A raw block device, not a file system.
    pub(crate) block: bool,
    /// Its file system; empty where the class does not say.
    pub(crate) fs_type: String,
    /// The class's parameters that are not the driver's own.
    pub(crate) parameters: std::collections::BTreeMap<String, String>,
    /// Those that may change later.
    pub(crate) mutable: std::collections::BTreeMap<String, String>,
}

/// What a volume begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// A snapshot of the same backend and pool.
    Snapshot(&'a Snapshot, &'a Path),
    /// A volume of the same backend and pool; where it is mounted, if it is.
    Volume(&'a Volume, &'a Path, Option<&'a Path>),
}

/// A snapshot to be cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut<'a> {
    pub(crate) volume: &'a Volume,
    pub(crate) from: &'a Path,
    /// Where the volume is mounted, if it is.
    pub(crate) root: Option<&'a Path>,
    pub(crate) to: &'a Path,
}

/// What a caller tells nobody else, by name.
pub(crate) type Secrets = std::collections::BTreeMap<String, String>;

/// How a volume is mounted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mounting<'a> {
    /// Nothing can be written.
    pub(crate) read_only: bool,
    /// Options of the file system: what is no attribute of a mount.
    pub(crate) options: &'a [(String, Option<String>)],
    /// Secrets of the class.
    pub(crate) secrets: &'a Secrets,
}

/// Bytes of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    /// What can still be written.
    pub(crate) free: u64,
    /// All there is for data.
    pub(crate) size: u64,
}

impl Space {
    /// What statfs(2) says.
    fn of(pool: &Path) -> Result<Space, Failure> {
        let told = rustix::fs::statvfs(pool)
            .map_err(|e| Failure::internal(format!("cannot ask how full {} is: {e}", pool.display())))?;
        Ok(Space { free: told.f_bavail * told.f_frsize, size: told.f_blocks * told.f_frsize })
    }
}

/// How full a volume is. Inodes are 0 where they are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) total: u64,
    pub(crate) used: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_used: u64,
}

/// Bytes of a block device, from `offset` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Ranges that were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges {
    /// In ascending order; those that touch are one.
    pub(crate) found: Vec<Range>,
    /// Where to go on; `None` at the end.
    pub(crate) next: Option<u64>,
}
