//! Plain directories: any file system, no bound on what is written, snapshots by copying.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use grpc::Failure;
use kernel::mount::{Attributes, set_attributes};
use rustix::fs::CWD;
use rustix::mount::MountPropagationFlags;

use super::{Abilities, Backend, Copies, Cut, Mounting, Source, Space, Usage, Wish, copy};
use crate::plugin::pool::record::Volume;
use crate::plugin::text::c_path;

const NAME: &str = "dir";
/// The directory that a volume is.
pub(super) const DATA: &str = "data";
/// What any volume has at least: a block.
const BLOCK: u64 = 4096;

/// Directories of a pool.
pub(crate) struct Directories;

/// Refuses what a directory does not have, for the backend of this name.
pub(super) fn accepts(name: &str, wish: &Wish) -> Result<(), Failure> {
    if !wish.fs_type.is_empty() {
        let hint = "leave it out, or take the backend image";
        let message =
            format!("{:?} cannot be had: a directory has the file system of its pool; {hint}", wish.fs_type);
        return Err(Failure::invalid("fs_type", message));
    }
    match wish.parameters.keys().chain(wish.mutable.keys()).next() {
        Some(key) => Err(Failure::invalid(
            format!("parameters[{key}]"),
            format!("is not known to the backend {name}; leave it out"),
        )),
        None => Ok(()),
    }
}

/// Makes an empty directory, as the root of a new file system is; whoever runs in it gets it by fsGroup or by owning it.
pub(super) fn make(place: &Path) -> Result<PathBuf, Failure> {
    let data = place.join(DATA);
    let failed = |e| Failure::internal(format!("cannot create {}: {e}", data.display()));
    fs::DirBuilder::new().mode(0o700).create(&data).map_err(failed)?;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    Ok(data)
}

/// Where the data is that a volume begins with.
pub(super) fn origin(source: Source<'_>) -> PathBuf {
    let (Source::Snapshot(_, from) | Source::Volume(_, from, _)) = source;
    from.join(DATA)
}

/// Refuses what would have to be of one moment.
pub(super) fn one(cuts: &[Cut<'_>]) -> Result<(), Failure> {
    if let [_, _, ..] = cuts {
        let hint = "take the backend image";
        return Err(Failure::precondition(format!("directories cannot be copied as of one moment: {hint}")));
    }
    Ok(())
}

/// What is wrong with a directory itself.
pub(super) fn ailment(place: &Path) -> Option<String> {
    (!place.join(DATA).is_dir()).then(|| "its directory is gone".to_owned())
}

pub(super) fn no_block(volume: &Volume) -> Failure {
    Failure::internal(format!("volume {} is a directory and no block device", volume.id))
}

/// A directory of a volume as a mount that is attached nowhere. It has no options besides those of any mount; `whose` is for
/// people.
///
/// # Errors
/// `InvalidArgument` where options are left; what the kernel refuses.
pub(super) fn bind(
    data: &Path,
    volume: &Volume,
    how: &Mounting<'_>,
    whose: &str,
) -> Result<OwnedFd, Failure> {
    if let Some((option, _)) = how.options.first() {
        let message = format!("{option:?} is no option of {whose} mount; leave it out");
        return Err(Failure::invalid("volume_capability.mount.mount_flags", message));
    }
    // What workloads mount in it must not come to be in the pool.
    let own = Attributes {
        set: if how.read_only { Attributes::RDONLY } else { 0 },
        propagation: MountPropagationFlags::PRIVATE.bits().into(),
        ..Attributes::default()
    };
    kernel::mount::clone_tree(CWD, &c_path(data)?, false)
        .and_then(|mount| set_attributes(&mount, own, false, None).map(|()| mount))
        .map_err(|e| Failure::internal(format!("cannot mount volume {}: {e}", volume.id)))
}

impl Backend for Directories {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { mount: true, block: false, copies: Copies::Whole }
    }

    fn least(&self, _: &Wish) -> u64 {
        BLOCK
    }

    fn taken(&self, _: &Wish, capacity: u64) -> u64 {
        capacity
    }

    fn fits(&self, _: &Wish, bytes: u64) -> u64 {
        bytes
    }

    fn accepts(&self, wish: &Wish) -> Result<(), Failure> {
        accepts(NAME, wish)
    }

    fn create(&self, place: &Path, _: &Volume, source: Option<Source<'_>>) -> Result<(), Failure> {
        match source {
            Some(source) => copy::tree(&origin(source), &place.join(DATA)),
            None => make(place).map(drop),
        }
    }

    fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<(), Failure> {
        one(cuts)?;
        cuts.iter().try_for_each(|cut| copy::tree(&cut.from.join(DATA), &cut.to.join(DATA)))
    }

    fn expand(&self, _: &Path, _: &Volume, _: u64, _: Option<&Path>) -> Result<(), Failure> {
        Ok(())
    }

    fn modify(&self, _: &Path, _: &Volume, _: Option<&Path>) -> Result<(), Failure> {
        Ok(())
    }

    fn remove(&self, place: &Path) -> Result<(), Failure> {
        copy::remove(place)
    }

    fn sync(&self, place: &Path) -> Result<(), Failure> {
        // A copy is on the disk already.
        copy::sync(place)
    }

    fn commit(&self, directories: &[&Path]) -> Result<(), Failure> {
        copy::sync_names(directories)
    }

    fn mount(&self, place: &Path, volume: &Volume, how: &Mounting<'_>) -> Result<OwnedFd, Failure> {
        bind(&place.join(DATA), volume, how, "a directory's")
    }

    fn device(&self, _: &Path, volume: &Volume, _: bool) -> Result<PathBuf, Failure> {
        Err(no_block(volume))
    }

    fn release(&self, _: &Path, _: &Volume) -> Result<(), Failure> {
        Ok(())
    }

    /// Nobody counts what a directory has, so what is left is what the pool has left.
    fn usage(&self, place: &Path, volume: &Volume, _: Option<&Path>) -> Result<Usage, Failure> {
        let used = self.allocated(place)?;
        let free = Space::of(place)?.free;
        let available = volume.capacity.saturating_sub(used).min(free);
        Ok(Usage { total: volume.capacity, used, available, ..Usage::default() })
    }

    fn ailment(&self, place: &Path, _: &Volume, _: Option<&Path>) -> Result<Option<String>, Failure> {
        Ok(ailment(place))
    }

    fn allocated(&self, place: &Path) -> Result<u64, Failure> {
        Ok(copy::allocated(&place.join(DATA)))
    }
}
