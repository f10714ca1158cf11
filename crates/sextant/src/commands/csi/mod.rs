//! `sextant csi`: volumes of any CSI driver, by hand, as a kubelet and its sidecars would ask for them.

mod doctor;
mod show;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as ControllerCall;
use csi::contract::v1::node_service_capability::rpc::Type as NodeCall;
use csi::contract::v1::volume_capability::{
    AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode,
};
use csi::contract::v1::volume_content_source::{SnapshotSource, Type as Content, VolumeSource};
use csi::contract::v1::*;

use crate::cli::{
    Csi, CsiCommand, CsiCreateArgs, CsiExpandArgs, CsiPublishArgs, CsiRmArgs, CsiSnapshotArgs,
    CsiUnpublishArgs,
};
use crate::failure::{Context, Failure, Result};

/// Where a kubelet has the sockets of drivers.
const KUBELET: &str = "/var/lib/kubelet/plugins";

pub(super) fn run(run_dir: &Path, args: &Csi) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context(|| "call a CSI driver".into())?;
    let socket = args.socket.clone().unwrap_or_else(|| run_dir.join("csi.sock"));
    runtime.block_on(async {
        if let CsiCommand::Drivers(output) = &args.command {
            return show::drivers(&sockets(&socket), *output).await.map(|()| ExitCode::SUCCESS);
        }
        let driver =
            Driver::connect(&socket).await.context(|| format!("ask the driver at {}", socket.display()))?;
        match &args.command {
            CsiCommand::Drivers(_) => Ok(()),
            CsiCommand::Volumes(output) => show::volumes(&driver, *output).await,
            CsiCommand::Snapshots(output) => show::snapshots(&driver, *output).await,
            CsiCommand::Create(args) => create(&driver, args).await,
            CsiCommand::Publish(args) => publish(&driver, run_dir, args).await,
            CsiCommand::Unpublish(args) => unpublish(&driver, run_dir, args).await,
            CsiCommand::Snapshot(args) => snapshot(&driver, args).await,
            CsiCommand::Expand(args) => expand(&driver, args).await,
            CsiCommand::Rm(args) => rm(&driver, args).await,
            CsiCommand::Doctor(output) => return doctor::examine(&driver, *output).await,
        }
        .map(|()| ExitCode::SUCCESS)
    })
}

/// The socket that is asked for, and those that a kubelet has.
fn sockets(own: &Path) -> Vec<PathBuf> {
    let mut sockets = vec![own.to_owned()];
    let plugins = fs::read_dir(KUBELET).into_iter().flatten().flatten();
    let found = plugins.map(|entry| entry.path().join("csi.sock")).filter(|socket| socket.exists());
    sockets.extend(found.filter(|socket| socket != own));
    sockets
}

fn capability(block: bool, fs_type: &str, flags: &[String]) -> VolumeCapability {
    let access_type = if block {
        AccessType::Block(BlockVolume {})
    } else {
        let mount =
            MountVolume { fs_type: fs_type.into(), mount_flags: flags.to_vec(), ..Default::default() };
        AccessType::Mount(mount)
    };
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(access_type),
    }
}

/// What the wire takes of a number that people write.
fn wire(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

async fn create(driver: &Driver, args: &CsiCreateArgs) -> Result<()> {
    let snapshot =
        args.from_snapshot.as_ref().map(|id| Content::Snapshot(SnapshotSource { snapshot_id: id.clone() }));
    let volume = args.from_volume.as_ref().map(|id| Content::Volume(VolumeSource { volume_id: id.clone() }));
    let request = CreateVolumeRequest {
        name: args.name.clone(),
        capacity_range: args.size.map(|size| CapacityRange { required_bytes: wire(size), limit_bytes: 0 }),
        volume_capabilities: vec![capability(args.block, args.fs_type.as_deref().unwrap_or_default(), &[])],
        parameters: args.parameters.iter().cloned().collect(),
        volume_content_source: snapshot.or(volume).map(|source| VolumeContentSource { r#type: Some(source) }),
        ..Default::default()
    };
    let made =
        driver.client.create_volume(request).await.context(|| format!("create volume {:?}", args.name))?;
    show::made(&made.volume.unwrap_or_default(), args.output)
}

async fn snapshot(driver: &Driver, args: &CsiSnapshotArgs) -> Result<()> {
    let id = volume_id(driver, &args.volume).await?;
    let request =
        CreateSnapshotRequest { source_volume_id: id.clone(), name: args.name.clone(), ..Default::default() };
    let cut = driver.client.create_snapshot(request).await.context(|| format!("cut a snapshot of {id}"))?;
    show::cut(&cut.snapshot.unwrap_or_default(), args.output)
}

/// Where a volume is staged for people: a directory of its own for each.
fn staging(run_dir: &Path, id: &str) -> PathBuf {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = id.chars().map(plain).collect();
    run_dir.join("csi-staging").join(name)
}

async fn publish(driver: &Driver, run_dir: &Path, args: &CsiPublishArgs) -> Result<()> {
    let path = absolute(&args.path)?;
    let id = volume_id(driver, &args.volume).await?;
    let volume_context = context(driver, &id).await?;
    let capability = Some(capability(args.block, "", &args.options));
    let mut publish_context = Default::default();
    if driver.controls(ControllerCall::PublishUnpublishVolume) {
        let node = driver
            .client
            .node_get_info(NodeGetInfoRequest {})
            .await
            .context(|| "ask which node this is".into())?;
        let request = ControllerPublishVolumeRequest {
            volume_id: id.clone(),
            node_id: node.node_id,
            volume_capability: capability.clone(),
            volume_context: volume_context.clone(),
            ..Default::default()
        };
        let attached = driver.client.controller_publish_volume(request).await;
        publish_context = attached.context(|| format!("attach volume {id}"))?.publish_context;
    }
    let staging = staging(run_dir, &id);
    let mut staging_target_path = String::new();
    if driver.serves_node(NodeCall::StageUnstageVolume) {
        fs::create_dir_all(&staging).context(|| format!("make {}", staging.display()))?;
        staging_target_path = staging.display().to_string();
        let request = NodeStageVolumeRequest {
            volume_id: id.clone(),
            publish_context: Clone::clone(&publish_context),
            staging_target_path: staging_target_path.clone(),
            volume_capability: capability.clone(),
            volume_context: volume_context.clone(),
            ..Default::default()
        };
        driver.client.node_stage_volume(request).await.context(|| format!("stage volume {id}"))?;
    }
    let request = NodePublishVolumeRequest {
        volume_id: id.clone(),
        publish_context,
        staging_target_path,
        target_path: path.clone(),
        volume_capability: capability,
        readonly: args.read_only,
        volume_context,
        ..Default::default()
    };
    driver.client.node_publish_volume(request).await.context(|| format!("publish volume {id} at {path}"))?;
    println!("{id} is at {path}");
    Ok(())
}

async fn unpublish(driver: &Driver, run_dir: &Path, args: &CsiUnpublishArgs) -> Result<()> {
    let path = absolute(&args.path)?;
    let id = volume_id(driver, &args.volume).await?;
    let request = NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: path.clone() };
    driver
        .client
        .node_unpublish_volume(request)
        .await
        .context(|| format!("unpublish volume {id} at {path}"))?;
    let staging = staging(run_dir, &id);
    if driver.serves_node(NodeCall::StageUnstageVolume) {
        let staging_target_path = staging.display().to_string();
        let request = NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path };
        match driver.client.node_unstage_volume(request).await {
            // It is at another path, too.
            Err(error) if error.code() == grpc::Code::FailedPrecondition => return Ok(()),
            unstaged => unstaged.context(|| format!("unstage volume {id}"))?,
        };
        let _kept = fs::remove_dir(&staging);
    }
    if driver.controls(ControllerCall::PublishUnpublishVolume) {
        let node = driver
            .client
            .node_get_info(NodeGetInfoRequest {})
            .await
            .context(|| "ask which node this is".into())?;
        let request = ControllerUnpublishVolumeRequest {
            volume_id: id.clone(),
            node_id: node.node_id,
            ..Default::default()
        };
        driver.client.controller_unpublish_volume(request).await.context(|| format!("detach volume {id}"))?;
    }
    Ok(())
}

async fn expand(driver: &Driver, args: &CsiExpandArgs) -> Result<()> {
    let id = volume_id(driver, &args.volume).await?;
    let range = Some(CapacityRange { required_bytes: wire(args.size), limit_bytes: 0 });
    let request =
        ControllerExpandVolumeRequest { volume_id: id.clone(), capacity_range: range, ..Default::default() };
    let done =
        driver.client.controller_expand_volume(request).await.context(|| format!("expand volume {id}"))?;
    if done.node_expansion_required {
        let Some(path) = &args.path else {
            println!(
                "{id} has {}; say where it is published (--path), so that its file system grows, too",
                show::size(done.capacity_bytes)
            );
            return Ok(());
        };
        let request = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path: absolute(path)?,
            capacity_range: range,
            ..Default::default()
        };
        driver
            .client
            .node_expand_volume(request)
            .await
            .context(|| format!("expand the file system of volume {id}"))?;
    }
    println!("{id} has {}", show::size(done.capacity_bytes));
    Ok(())
}

async fn rm(driver: &Driver, args: &CsiRmArgs) -> Result<()> {
    for asked in &args.ids {
        // What cannot be listed cannot be shortened.
        let id = match found(driver, asked).await? {
            Some(Found::Snapshot(id)) => {
                let request = DeleteSnapshotRequest { snapshot_id: id.clone(), ..Default::default() };
                driver.client.delete_snapshot(request).await.context(|| format!("delete snapshot {id}"))?;
                id
            }
            Some(Found::Volume(id)) => {
                let request = DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
                driver.client.delete_volume(request).await.context(|| format!("delete volume {id}"))?;
                id
            }
            None => {
                return Err(Failure::new(format!(
                    "no volume or snapshot {asked:?} is at the driver {}",
                    driver.name
                )));
            }
        };
        println!("{id}");
    }
    Ok(())
}

enum Found {
    Volume(String),
    Snapshot(String),
}

/// What an id, or the beginning of one, means.
async fn found(driver: &Driver, asked: &str) -> Result<Option<Found>> {
    let mut all = Vec::new();
    if driver.controls(ControllerCall::ListVolumes) {
        let volumes = driver.volumes().await.context(|| "list volumes".into())?;
        all.extend(
            volumes
                .into_iter()
                .filter_map(|entry| entry.volume)
                .map(|volume| Found::Volume(volume.volume_id)),
        );
    }
    if driver.controls(ControllerCall::ListSnapshots) {
        let snapshots = driver.snapshots().await.context(|| "list snapshots".into())?;
        all.extend(snapshots.into_iter().map(|snapshot| Found::Snapshot(snapshot.snapshot_id)));
    }
    let id = |found: &Found| match found {
        Found::Volume(id) | Found::Snapshot(id) => id.clone(),
    };
    if let Some(at) = all.iter().position(|found| id(found) == asked) {
        return Ok(Some(all.swap_remove(at)));
    }
    all.retain(|found| id(found).starts_with(asked));
    if all.len() > 1 {
        let some: Vec<String> = all.iter().take(3).map(id).collect();
        return Err(Failure::new(format!(
            "{asked:?} begins several ids: {}; write more of it",
            some.join(", ")
        )));
    }
    Ok(all.pop())
}

/// A volume's whole id. A driver that lists none is asked by what there is.
async fn volume_id(driver: &Driver, asked: &str) -> Result<String> {
    if !driver.controls(ControllerCall::ListVolumes) {
        return Ok(asked.to_owned());
    }
    match found(driver, asked).await? {
        Some(Found::Volume(id)) => Ok(id),
        Some(Found::Snapshot(id)) => {
            Err(Failure::new(format!("{id} is a snapshot: make a volume of it with --from-snapshot")))
        }
        None => Err(Failure::new(format!(
            "no volume {asked:?} is at the driver {}; see `sextant csi volumes`",
            driver.name
        ))),
    }
}

/// What a driver says of a volume, which it wants to hear again.
async fn context(driver: &Driver, id: &str) -> Result<std::collections::BTreeMap<String, String>> {
    if !driver.controls(ControllerCall::ListVolumes) {
        return Ok(Default::default());
    }
    let all = driver.volumes().await.context(|| "list volumes".into())?;
    let volume = all.into_iter().filter_map(|entry| entry.volume).find(|volume| volume.volume_id == id);
    Ok(volume.unwrap_or_default().volume_context)
}

fn absolute(path: &Path) -> Result<String> {
    let whole = std::path::absolute(path).context(|| format!("find {}", path.display()))?;
    whole
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::new(format!("{path:?} is no text, and CSI takes only text for a path")))
}
