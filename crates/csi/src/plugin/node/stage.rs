//! NodeStageVolume: a volume is made ready once for all who use it here.

use std::path::{Path, PathBuf};

use grpc::Failure;

use super::uses::{At, How, Used};
use super::{attach, options};
use crate::contract::v1::volume_capability::{AccessType, access_mode::Mode};
use crate::contract::v1::{NodeStageVolumeRequest, NodeUnstageVolumeRequest, VolumeCapability};
use crate::plugin::backend::{Backend, Mounting};
use crate::plugin::controller::is_usable;
use crate::plugin::driver::Driver;
use crate::plugin::pool::Kept;
use crate::plugin::pool::record::Volume;

/// What a capability asks for.
pub(super) fn how(capability: Option<&VolumeCapability>, read_only: bool) -> How {
    let mode = capability.and_then(|capability| capability.access_mode.as_ref()).map_or(0, |mode| mode.mode);
    let mount = match capability.and_then(|capability| capability.access_type.as_ref()) {
        Some(AccessType::Mount(mount)) => Some(mount),
        _ => None,
    };
    let reads = [Mode::SingleNodeReaderOnly, Mode::MultiNodeReaderOnly].map(i32::from);
    How {
        block: mount.is_none(),
        fs_type: mount.map(|mount| mount.fs_type.clone()).unwrap_or_default(),
        flags: mount.map(|mount| mount.mount_flags.clone()).unwrap_or_default(),
        mode,
        read_only: read_only || reads.contains(&mode),
    }
}

/// A group that all files are to belong to is the kubelet's affair: the driver does not claim to do it.
pub(super) fn no_group(capability: Option<&VolumeCapability>) -> Result<(), Failure> {
    match capability.and_then(|capability| capability.access_type.as_ref()) {
        Some(AccessType::Mount(mount)) if !mount.volume_mount_group.is_empty() => {
            let field = "volume_capability.mount.volume_mount_group";
            let message =
                "is not applied by this driver, which does not claim VOLUME_MOUNT_GROUP; leave it out";
            Err(Failure::invalid(field, message))
        }
        _ => Ok(()),
    }
}

pub(super) fn stage(driver: &Driver, request: &NodeStageVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    let (pool, kept) = driver.volume(id)?;
    let volume = &kept.record;
    let backend = pool.backend_of(volume)?;
    let capability = request.volume_capability.as_ref();
    is_usable(volume, request.volume_capability.as_slice())?;
    no_group(capability)?;
    let path = plain(&request.staging_target_path);
    let _path = driver.turns.alone(&format!("path {}", path.display()))?;
    let how = how(capability, false);
    let mut used = driver.uses.of(id).unwrap_or_else(|| Used::nowhere(id));
    let mut made = false;
    if let Some(at) = &used.staged {
        let where_to = at.path.display();
        if at.path != path {
            return Err(Failure::precondition(format!(
                "volume {id} is staged at {where_to}: unstage it there first"
            )));
        }
        if at.how != how {
            let message = format!("volume {id} is staged at {where_to} with another capability");
            return Err(Failure::exists(message));
        }
        if how.block {
            // Nothing at the path says whether a driver that was killed came to it.
            attach::make(&path, false)?;
            return match backend.device(&kept.place, volume, how.read_only) {
                Err(_) => device(backend, &kept, &how, request),
                there => there.map(drop),
            };
        }
        if attach::is_mount(&path)? {
            return Ok(());
        }
        made = at.made;
    }
    is_free(driver, &path, id)?;
    let made = made || !attach::is_there(&path, false)?;
    used.staged = Some(At { path: path.clone(), how: how.clone(), made });
    driver.uses.set(used.clone())?;
    let done = attach::make(&path, false).and_then(|()| {
        if how.block {
            return device(backend, &kept, &how, request);
        }
        let options = options::read(&how.flags);
        // One file system has one state: read-only is for each who uses it, unless nobody may write.
        let mounting =
            Mounting { read_only: how.read_only, options: &options.rest, secrets: &request.secrets };
        backend
            .mount(&kept.place, volume, &mounting)
            .and_then(|mount| attach::attach(&mount, &path, options.attributes))
    });
    done.map_err(|error| match unstage_from(driver, &mut used) {
        Ok(()) => error,
        Err(after) => error.and(&after),
    })
}

/// Has the device of a volume be there.
fn device(
    backend: &dyn Backend,
    kept: &Kept<Volume>,
    how: &How,
    request: &NodeStageVolumeRequest,
) -> Result<(), Failure> {
    backend.unlock(&kept.place, &kept.record, &request.secrets)?;
    backend.device(&kept.place, &kept.record, how.read_only).map(drop)
}

/// A path without slashes and dots that say nothing: what it ends in is looked at itself, and not followed.
pub(super) fn plain(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

/// Refuses a path where something else is.
pub(super) fn is_free(driver: &Driver, path: &Path, id: &str) -> Result<(), Failure> {
    match driver.uses.whose(path) {
        Some(other) if other != id => {
            Err(Failure::precondition(format!("volume {other} is at {}: take another path", path.display())))
        }
        None if attach::is_mount(path)? => {
            let message =
                format!("something else is mounted on {}: unmount it, or take another path", path.display());
            Err(Failure::precondition(message))
        }
        _ => Ok(()),
    }
}

fn unstage_from(driver: &Driver, used: &mut Used) -> Result<(), Failure> {
    let Some(at) = used.staged.clone() else { return Ok(()) };
    if !at.how.block {
        attach::detach(&at.path)?;
    }
    if at.made {
        attach::unmake(&at.path)?;
    }
    if at.how.block
        && let Ok((pool, kept)) = driver.volume(&used.volume)
    {
        pool.backend_of(&kept.record)?.release(&kept.place, &kept.record)?;
    }
    used.staged = None;
    driver.uses.set(used.clone())
}

pub(super) fn unstage(driver: &Driver, request: &NodeUnstageVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    let Some(mut used) = driver.uses.of(id) else { return Ok(()) };
    if used.staged.as_ref().is_none_or(|at| at.path != plain(&request.staging_target_path)) {
        return Ok(());
    }
    if let Some(at) = used.published.first() {
        let message = format!("volume {id} is published at {}: unpublish it first", at.path.display());
        return Err(Failure::precondition(message));
    }
    unstage_from(driver, &mut used)
}
