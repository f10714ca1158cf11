//! `sextant csi publish` and `unpublish`: what a kubelet does with a volume, in the order that CSI wants, and back again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as ControllerCall;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::*;

use super::ids::{self, Kind};
use super::uses::{How, Uses};
use super::{absolute, capability};
use crate::cli::{CsiPublishArgs, CsiUnpublishArgs};
use crate::failure::{Context, Failure, Result};

/// A volume, where it is to be, and how.
struct Wish {
    id: String,
    path: String,
    how: How,
    read_only: bool,
    context: BTreeMap<String, String>,
}

pub(super) async fn publish(driver: &Driver, run_dir: &Path, args: &CsiPublishArgs) -> Result<()> {
    let path = absolute(&args.path)?;
    let id = ids::whole(driver, Kind::Volume, &args.volume).await?;
    let mut context = context(driver, &id).await?;
    context.extend(args.context.iter().cloned());
    let fs_type = args.fs_type.clone().unwrap_or_default();
    let how = How { block: args.block, fs_type, options: args.options.clone() };
    let wish = Wish { id, path, how, read_only: args.read_only, context };
    let Wish { id, path, .. } = &wish;
    let mut uses = Uses::open(run_dir, &driver.name, id)?;
    let before = uses.held.clone();
    if let Err(error) = bring(driver, &mut uses, &wish).await {
        // What was at the path before stays there.
        if before.paths.contains(path) {
            uses.held = before;
            uses.keep()?;
            return Err(error);
        }
        return Err(match take(driver, &mut uses, id, path).await.and_then(|()| uses.keep()) {
            Ok(()) => error,
            Err(after) => Failure::new(format!(
                "{error}; nor could what was done be undone: {after}; try that again with `sextant csi unpublish {id} {path}`"
            )),
        });
    }
    println!("{id} is at {path}");
    Ok(())
}

/// Attaches, stages and publishes a volume. What is on record after an error may be there.
async fn bring(driver: &Driver, uses: &mut Uses, wish: &Wish) -> Result<()> {
    let Wish { id, path, .. } = wish;
    if uses.held.is_nothing() {
        uses.held.how = wish.how.clone();
    }
    let publish_context = attach(driver, uses, wish).await?;
    let staging_target_path = stage(driver, uses, wish, &publish_context).await?;
    let is_new = uses.held.paths.insert(path.clone());
    uses.keep()?;
    let request = NodePublishVolumeRequest {
        volume_id: id.clone(),
        publish_context,
        staging_target_path,
        target_path: path.clone(),
        volume_capability: Some(capability(&wish.how)),
        readonly: wish.read_only,
        volume_context: wish.context.clone(),
        ..Default::default()
    };
    let published = driver.client.node_publish_volume(request).await;
    if is_new && published.as_ref().is_err_and(is_refusal) {
        uses.held.paths.remove(path);
    }
    published.context(|| format!("publish volume {id} at {path}")).map(drop)
}

/// Attaches a volume to this node; what its driver wants to hear of that again. Nothing where none has to be attached.
async fn attach(driver: &Driver, uses: &mut Uses, wish: &Wish) -> Result<BTreeMap<String, String>> {
    if !driver.controls(ControllerCall::PublishUnpublishVolume) {
        return Ok(BTreeMap::new());
    }
    let node = driver.client.node_get_info(NodeGetInfoRequest {}).await;
    let node_id = node.context(|| "ask which node this is".into())?.node_id;
    let before = uses.held.node.replace(node_id.clone());
    uses.keep()?;
    let request = ControllerPublishVolumeRequest {
        volume_id: wish.id.clone(),
        node_id,
        volume_capability: Some(capability(&wish.how)),
        volume_context: wish.context.clone(),
        ..Default::default()
    };
    let attached = driver.client.controller_publish_volume(request).await;
    if attached.as_ref().is_err_and(is_refusal) {
        uses.held.node = before;
    }
    Ok(attached.context(|| format!("attach volume {}", wish.id))?.publish_context)
}

/// Stages a volume; where. Nowhere where none is staged.
async fn stage(
    driver: &Driver,
    uses: &mut Uses,
    wish: &Wish,
    publish_context: &BTreeMap<String, String>,
) -> Result<String> {
    if !driver.serves_node(NodeCall::StageUnstageVolume) {
        return Ok(String::new());
    }
    let path = uses.staging()?;
    let before = uses.held.staging.replace(path.clone());
    uses.keep()?;
    let request = NodeStageVolumeRequest {
        volume_id: wish.id.clone(),
        publish_context: publish_context.clone(),
        staging_target_path: path.clone(),
        volume_capability: Some(capability(&wish.how)),
        volume_context: wish.context.clone(),
        ..Default::default()
    };
    let staged = driver.client.node_stage_volume(request).await;
    if before.is_none() && staged.as_ref().is_err_and(is_refusal) {
        uses.held.staging = None;
        let _not_empty = fs::remove_dir(&path);
    }
    staged.context(|| format!("stage volume {}", wish.id)).map(|_| path)
}

/// Whether a call that failed has surely done nothing. Of all other failures the caller cannot know.
fn is_refusal(error: &grpc::Error) -> bool {
    use grpc::Code;
    !matches!(
        error.code(),
        Code::Cancelled | Code::Unknown | Code::DeadlineExceeded | Code::Internal | Code::Unavailable
    )
}

pub(super) async fn unpublish(driver: &Driver, run_dir: &Path, args: &CsiUnpublishArgs) -> Result<()> {
    let path = absolute(&args.path)?;
    let id = ids::whole(driver, Kind::Volume, &args.volume).await?;
    let mut uses = Uses::open(run_dir, &driver.name, &id)?;
    let is_unknown = uses.held.is_nothing();
    uses.held.paths.insert(path.clone());
    take(driver, &mut uses, &id, &path).await?;
    if is_unknown
        && (driver.serves_node(NodeCall::StageUnstageVolume)
            || driver.controls(ControllerCall::PublishUnpublishVolume))
    {
        eprintln!(
            "sextant csi: nothing is on record of {id}: if anybody has staged or attached it, it still is"
        );
    }
    Ok(())
}

/// Takes a volume from a path, if it may be there, and, when that was its last, unstages and detaches it.
async fn take(driver: &Driver, uses: &mut Uses, id: &str, path: &str) -> Result<()> {
    let client = &driver.client;
    if uses.held.paths.contains(path) {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: path.into() };
        let unpublished = client.node_unpublish_volume(request).await;
        unpublished.context(|| format!("unpublish volume {id} at {path}"))?;
        uses.held.paths.remove(path);
        uses.keep()?;
    }
    if !uses.held.paths.is_empty() {
        return Ok(());
    }
    if let Some(staging_target_path) = uses.held.staging.clone() {
        let request = NodeUnstageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging_target_path.clone(),
        };
        client.node_unstage_volume(request).await.context(|| format!("unstage volume {id}"))?;
        let _gone_or_kept = fs::remove_dir(&staging_target_path);
        uses.held.staging = None;
        uses.keep()?;
    }
    if let Some(node_id) = uses.held.node.clone() {
        let request =
            ControllerUnpublishVolumeRequest { volume_id: id.into(), node_id, ..Default::default() };
        client.controller_unpublish_volume(request).await.context(|| format!("detach volume {id}"))?;
        uses.held.node = None;
        uses.keep()?;
    }
    Ok(())
}

/// What a driver says of a volume, which it wants to hear again.
async fn context(driver: &Driver, id: &str) -> Result<BTreeMap<String, String>> {
    if !driver.controls(ControllerCall::ListVolumes) {
        return Ok(BTreeMap::new());
    }
    let all = driver.volumes().await.context(|| "list volumes".into())?;
    let volume = all.into_iter().filter_map(|entry| entry.volume).find(|volume| volume.volume_id == id);
    Ok(volume.unwrap_or_default().volume_context)
}
