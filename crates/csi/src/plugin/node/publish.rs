//! NodePublishVolume: a volume where a workload looks for it. Ephemeral volumes come to be here, and go here.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

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
    let capability = request.volume_capability.as_ref();
    stage::no_group(capability)?;
    let path = PathBuf::from(&request.target_path);
    let how = stage::how(capability, request.readonly);
    let is_ephemeral = request.volume_context.get(EPHEMERAL).is_some_and(|value| value == "true");
    if is_ephemeral && driver.volume(id).is_err() {
        make_ephemeral(driver, request)?;
    }
    let (pool, kept) = driver.volume(id)?;
    let volume = &kept.record;
    is_usable(volume, request.volume_capability.as_slice())?;
    let mut used = driver.uses.of(id).unwrap_or_else(|| Used { volume: id.clone(), ..Used::default() });
    if let Some(at) = used.published.iter().find(|at| at.path == path) {
        if at.how != how {
            let message = format!("volume {id} is published at {} in another way", path.display());
            return Err(Failure::exists(message));
        }
        if attach::is_mount(&path) {
            return Ok(());
        }
        used.published.retain(|at| at.path != path);
    }
    if let Some(other) = used.published.first()
        && (how.mode == i32::from(Mode::SingleNodeSingleWriter)
            || other.how.mode == i32::from(Mode::SingleNodeSingleWriter))
    {
        let message =
            format!("volume {id} is published at {}, and may be at one place alone", other.path.display());
        return Err(Failure::precondition(message));
    }
    stage::is_free(driver, &path, id)?;
    if !is_ephemeral {
        is_staged(&used, request)?;
    }
    let made = !attach::is_there(&path, how.block)?;
    used.published.push(At { path: path.clone(), how: how.clone(), made });
    driver.uses.set(used.clone())?;
    let done = attach::make(&path, how.block)
        .and_then(|()| detached(pool, &kept, &used, request, &how))
        .and_then(|(mount, attributes)| attach::attach(&mount, &path, attributes));
    done.map_err(|error| match unpublish_from(driver, &mut used, &path) {
        Ok(()) => error,
        Err(after) => error.and(&after),
    })
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
        Some(at) if at.path != Path::new(&request.staging_target_path) => {
            Err(refused(format!("volume {id} is staged at {}", at.path.display())))
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
    match found {
        Some((pool, kept)) if kept.record.ephemeral && used.published.is_empty() => {
            pool.remove_volume(&kept.record.id)
        }
        _ => Ok(()),
    }
}

/// Whether nobody uses a block device any more, not even who staged it.
fn is_last(used: &Used, how: &How) -> bool {
    how.block && used.staged.is_none() && used.published.is_empty()
}

pub(super) fn unpublish(driver: &Driver, request: &NodeUnpublishVolumeRequest) -> Result<(), Failure> {
    let id = &request.volume_id;
    let _turn = driver.turn(id)?;
    let path = Path::new(&request.target_path);
    match driver.uses.of(id) {
        Some(mut used) if used.published.iter().any(|at| at.path == path) => {
            unpublish_from(driver, &mut used, path)
        }
        _ => {
            // Made by who was killed before anything was attached: then the caller comes again.
            match driver.volume(id) {
                Ok((pool, kept)) if kept.record.ephemeral && driver.uses.of(id).is_none() => {
                    pool.remove_volume(&kept.record.id)
                }
                _ => Ok(()),
            }
        }
    }
}
