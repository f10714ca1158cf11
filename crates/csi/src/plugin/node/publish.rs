//! NodePublishVolume: a volume where a workload looks for it. Ephemeral volumes come to be here, and go here.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use grpc::Failure;
use kernel::mount::Attributes;

use super::uses::{At, How, Used};
use super::{attach, options, stage};
use crate::contract::v1::volume_capability::access_mode::Mode;
use crate::contract::v1::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use crate::plugin::backend::Mounting;
use crate::plugin::controller::{ephemeral, is_usable};
use crate::plugin::driver::Driver;
use crate::plugin::pool::record::Volume;
use crate::plugin::pool::{Kept, Pool};
use crate::plugin::{parameters, text};

/// Says that a volume lives as long as its pod.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const SIZE: &str = "size";

pub(super) fn publish(driver: &Driver, request: &NodePublishVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    stage::no_group(request.volume_capability.as_ref())?;
    let path = stage::plain(&request.target_path);
    let _path = driver.turns.alone(&format!("path {}", path.display()))?;
    let is_ephemeral = request.volume_context.get(EPHEMERAL).is_some_and(|value| value == "true");
    if !is_ephemeral || driver.volume(id).is_ok() {
        return publish_at(driver, request, &path);
    }
    // A kubelet does not ask for what failed to be unpublished.
    make_ephemeral(driver, request)?;
    publish_at(driver, request, &path).map_err(|error| match remove_unused(driver, id) {
        Ok(()) => error,
        Err(after) => error.and(&after),
    })
}

fn publish_at(driver: &Driver, request: &NodePublishVolumeRequest, path: &Path) -> Result<(), Failure> {
    let id = &request.volume_id;
    let how = stage::how(request.volume_capability.as_ref(), request.readonly);
    let (pool, kept) = driver.volume(id)?;
    let volume = &kept.record;
    is_usable(volume, request.volume_capability.as_slice())?;
    let mut used = driver.uses.of(id).unwrap_or_else(|| Used::nowhere(id));
    let mut made = false;
    if let Some(at) = used.published.iter().find(|at| at.path == path) {
        if at.how != how {
            let message = format!("volume {id} is published at {} in another way", path.display());
            return Err(Failure::exists(message));
        }
        if attach::is_mount(path)? {
            return Ok(());
        }
        made = at.made;
        used.published.retain(|at| at.path != path);
    }
    alone(&used, &how)?;
    stage::is_free(driver, path, id)?;
    if !volume.ephemeral {
        is_staged(&used, request)?;
    }
    made = made || !attach::is_there(path, how.block)?;
    used.published.push(At { path: path.to_owned(), how: how.clone(), made });
    driver.uses.set(used.clone())?;
    let done = attach::make(path, how.block)
        .and_then(|()| detached(pool, &kept, &used, request, &how))
        .and_then(|(mount, attributes)| attach::attach(&mount, path, attributes));
    done.map_err(|error| match unpublish_from(driver, &mut used, path) {
        Ok(()) => error,
        Err(after) => error.and(&after),
    })
}

/// Refuses a second place where one is all there may be.
fn alone(used: &Used, how: &How) -> Result<(), Failure> {
    let single = i32::from(Mode::SingleNodeSingleWriter);
    match used.published.first() {
        Some(other) if how.mode == single || other.how.mode == single => {
            let (id, path) = (&used.volume, other.path.display());
            Err(Failure::precondition(format!(
                "volume {id} is published at {path}, and may be at one place alone"
            )))
        }
        _ => Ok(()),
    }
}

/// Removes an ephemeral volume that is nowhere.
fn remove_unused(driver: &Driver, id: &str) -> Result<(), Failure> {
    match driver.volume(id) {
        Ok((pool, kept)) if kept.record.ephemeral && driver.uses.of(id).is_none() => pool.remove_volume(id),
        _ => Ok(()),
    }
}

/// What goes on the target, and with which attributes.
fn detached(
    pool: &Pool,
    kept: &Kept<Volume>,
    used: &Used,
    request: &NodePublishVolumeRequest,
    how: &How,
) -> Result<(OwnedFd, Attributes), Failure> {
    let volume = &kept.record;
    let backend = pool.backend_of(volume)?;
    let read_only = if how.read_only { Attributes::RDONLY } else { 0 };
    if how.block {
        let device = backend.device(&kept.place, volume, how.read_only)?;
        return Ok((attach::copy(&device)?, Attributes { set: read_only, ..Attributes::default() }));
    }
    let options = options::read(&how.flags);
    let mount = match &used.staged {
        Some(staged) => attach::copy(&staged.path)?,
        None => {
            let mounting = Mounting { read_only: false, options: &options.rest, secrets: &request.secrets };
            backend.mount(&kept.place, volume, &mounting)?
        }
    };
    let Attributes { set, clear, propagation } = options.attributes;
    Ok((mount, Attributes { set: set | read_only, clear: clear & !read_only, propagation }))
}

/// Refuses what was not staged as it is said to be.
fn is_staged(used: &Used, request: &NodePublishVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let refused = |message: String| Failure {
        field: Some("staging_target_path".into()),
        ..Failure::precondition(message)
    };
    if request.staging_target_path.is_empty() {
        return Err(refused("is empty, and this driver stages volumes: it must be set".into()));
    }
    match &used.staged {
        None => Err(refused(format!("volume {id} is not staged: stage it first"))),
        Some(at) if at.path != stage::plain(&request.staging_target_path) => {
            Err(refused(format!("volume {id} is staged at {}", at.path.display())))
        }
        Some(at) if at.path == stage::plain(&request.target_path) => {
            Err(refused("is the target, too: take another one".into()))
        }
        // Somebody has unmounted it: what is there now is no volume.
        Some(at) if !at.how.block && !attach::is_mount(&at.path)? => {
            let path = at.path.display();
            Err(refused(format!(
                "volume {id} is not mounted on {path} any more: unstage it, and stage it again"
            )))
        }
        Some(_) => Ok(()),
    }
}

/// Makes the volume of a pod as its attributes say: `size`, and what a class may say.
fn make_ephemeral(driver: &Driver, request: &NodePublishVolumeRequest) -> Result<(), Failure> {
    let mut attributes: BTreeMap<String, String> = request.volume_context.clone();
    let size = match attributes.remove(SIZE) {
        None => None,
        Some(text) => Some(text::bytes(&text).filter(|&bytes| bytes > 0).ok_or_else(|| {
            let message = format!("{} is no size: write one as 100Mi or 2Gi", text::shown(&text));
            Failure::invalid(format!("volume_context[{SIZE}]"), message)
        })?),
    };
    let place =
        parameters::place(driver, &attributes, &BTreeMap::new(), request.volume_capability.as_slice())?;
    ephemeral(&request.volume_id, place, size)
}

fn unpublish_from(driver: &Driver, used: &mut Used, path: &Path) -> Result<(), Failure> {
    let Some(at) = used.published.iter().find(|at| at.path == path).cloned() else { return Ok(()) };
    attach::detach(path)?;
    if at.made {
        attach::unmake(path)?;
    }
    used.published.retain(|at| at.path != path);
    let found = driver.volume(&used.volume).ok();
    if let Some((pool, kept)) = &found
        && is_last(used, &at.how)
    {
        pool.backend_of(&kept.record)?.release(&kept.place, &kept.record)?;
    }
    driver.uses.set(used.clone())?;
    remove_unused(driver, &used.volume)
}

/// Whether nobody uses a block device any more, not even who staged it.
fn is_last(used: &Used, how: &How) -> bool {
    how.block && used.staged.is_none() && used.published.is_empty()
}

pub(super) fn unpublish(driver: &Driver, request: &NodeUnpublishVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    let path = stage::plain(&request.target_path);
    match driver.uses.of(id) {
        Some(mut used) if used.published.iter().any(|at| at.path == path) => {
            unpublish_from(driver, &mut used, &path)
        }
        // Made by who was killed before anything was attached: then the caller comes again.
        _ => remove_unused(driver, id),
    }
}
