//! `sextant csi`: volumes of any CSI driver, by hand, as a kubelet and its sidecars would ask for them.

mod doctor;
mod ids;
mod publish;
mod register;
mod show;
mod uses;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use csi::caller::{Driver, health};
use csi::contract::v1::volume_capability::{
    AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode,
};
use csi::contract::v1::volume_content_source::{SnapshotSource, Type as Content, VolumeSource};
use csi::contract::v1::*;

use self::ids::Kind;
use self::uses::{How, Uses};
use crate::cli::{Csi, CsiCommand, CsiCreateArgs, CsiExpandArgs, CsiRmArgs, CsiSnapshotArgs};
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
        if let CsiCommand::Register(args) = &args.command {
            return register::run(&socket, args).await.map(|()| ExitCode::SUCCESS);
        }
        if let CsiCommand::Probe = &args.command {
            let time = health::ANSWER.min(Duration::from_secs(args.timeout));
            let probed = health::probe(&socket, time).await;
            return probed.map(|()| ExitCode::SUCCESS).map_err(|unready| {
                Failure::new(format!("the driver at {} is not ready: {unready}", socket.display()))
            });
        }
        let mut driver =
            Driver::connect(&socket).await.context(|| format!("ask the driver at {}", socket.display()))?;
        driver.client = driver.client.with_deadline(Duration::from_secs(args.timeout));
        match &args.command {
            CsiCommand::Drivers(_) | CsiCommand::Register(_) | CsiCommand::Probe => Ok(()),
            CsiCommand::Volumes(output) => show::volumes(&driver, *output).await,
            CsiCommand::Snapshots(output) => show::snapshots(&driver, *output).await,
            CsiCommand::Create(args) => create(&driver, args).await,
            CsiCommand::Publish(args) => publish::publish(&driver, run_dir, args).await,
            CsiCommand::Unpublish(args) => publish::unpublish(&driver, run_dir, args).await,
            CsiCommand::Snapshot(args) => snapshot(&driver, args).await,
            CsiCommand::Expand(args) => expand(&driver, run_dir, args).await,
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

fn capability(how: &How) -> VolumeCapability {
    let access_type = if how.block {
        AccessType::Block(BlockVolume {})
    } else {
        let How { fs_type, options: mount_flags, .. } = how.clone();
        AccessType::Mount(MountVolume { fs_type, mount_flags, ..Default::default() })
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
    let source = match (&args.from_snapshot, &args.from_volume) {
        (Some(asked), _) => {
            let snapshot_id = ids::whole(driver, Kind::Snapshot, asked).await?;
            Some(Content::Snapshot(SnapshotSource { snapshot_id }))
        }
        (None, Some(asked)) => {
            let volume_id = ids::whole(driver, Kind::Volume, asked).await?;
            Some(Content::Volume(VolumeSource { volume_id }))
        }
        (None, None) => None,
    };
    let fs_type = args.fs_type.clone().unwrap_or_default();
    let how = How { block: args.block, fs_type, options: Vec::new() };
    let request = CreateVolumeRequest {
        name: args.name.clone(),
        capacity_range: args.size.map(|size| CapacityRange { required_bytes: wire(size), limit_bytes: 0 }),
        volume_capabilities: vec![capability(&how)],
        parameters: args.parameters.iter().cloned().collect(),
        volume_content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
        ..Default::default()
    };
    let made =
        driver.client.create_volume(request).await.context(|| format!("create volume {:?}", args.name))?;
    show::made(&made.volume.unwrap_or_default(), args.output)
}

async fn snapshot(driver: &Driver, args: &CsiSnapshotArgs) -> Result<()> {
    let id = ids::whole(driver, Kind::Volume, &args.volume).await?;
    let request =
        CreateSnapshotRequest { source_volume_id: id.clone(), name: args.name.clone(), ..Default::default() };
    let cut = driver.client.create_snapshot(request).await.context(|| format!("cut a snapshot of {id}"))?;
    show::cut(&cut.snapshot.unwrap_or_default(), args.output)
}

async fn expand(driver: &Driver, run_dir: &Path, args: &CsiExpandArgs) -> Result<()> {
    let id = ids::whole(driver, Kind::Volume, &args.volume).await?;
    let range = Some(CapacityRange { required_bytes: wire(args.size), limit_bytes: 0 });
    let request =
        ControllerExpandVolumeRequest { volume_id: id.clone(), capacity_range: range, ..Default::default() };
    let done =
        driver.client.controller_expand_volume(request).await.context(|| format!("expand volume {id}"))?;
    if done.node_expansion_required {
        let held = Uses::open(run_dir, &driver.name, &id)?.held;
        let volume_capability = (!held.is_nothing()).then(|| capability(&held.how));
        let path = match &args.path {
            Some(path) => Some(absolute(path)?),
            None => held.paths.first().cloned(),
        };
        let Some(volume_path) = path else {
            println!(
                "{id} has {}; say where it is published (--path), so that its file system grows, too",
                show::size(done.capacity_bytes)
            );
            return Ok(());
        };
        let request = NodeExpandVolumeRequest {
            volume_id: id.clone(),
            volume_path,
            capacity_range: range,
            staging_target_path: held.staging.unwrap_or_default(),
            volume_capability,
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
        let (kind, id) = ids::to_remove(driver, asked, args.snapshot).await?;
        match kind {
            Kind::Snapshot => {
                let request = DeleteSnapshotRequest { snapshot_id: id.clone(), ..Default::default() };
                driver.client.delete_snapshot(request).await.context(|| format!("delete snapshot {id}"))?;
            }
            Kind::Volume => {
                let request = DeleteVolumeRequest { volume_id: id.clone(), ..Default::default() };
                driver.client.delete_volume(request).await.context(|| format!("delete volume {id}"))?;
            }
        }
        println!("{id}");
    }
    Ok(())
}

fn absolute(path: &Path) -> Result<String> {
    let whole = std::path::absolute(path).context(|| format!("find {}", path.display()))?;
    // Without a slash at its end, which would make it another path.
    let whole: PathBuf = whole.components().collect();
    whole
        .into_os_string()
        .into_string()
        .map_err(|path| Failure::new(format!("{path:?} is no text, and CSI takes only text for a path")))
}
