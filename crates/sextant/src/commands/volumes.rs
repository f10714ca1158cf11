//! Volumes of an instance's own driver, as commands need them: what a kubelet and its sidecars ask of it, and the driver on a thread where
//! none runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use csi::caller::Driver;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use csi::contract::v1::volume_content_source::{SnapshotSource, Type as Content};
use csi::contract::v1::*;
use csi::plugin::{Config, PoolConfig, Setup};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::failure::{Context, Failure, Result};

/// How large a volume is to be; the smallest xfs is larger.
const BYTES: i64 = 64 << 20;

/// A driver that serves, and the way to it.
#[derive(Debug)]
pub(super) struct Volumes {
    driver: Driver,
    calls: Runtime,
    run: PathBuf,
    /// What ends it, where it is this command's own.
    own: Option<(oneshot::Sender<()>, JoinHandle<Result<()>>)>,
}

/// A volume that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: String,
    /// What it is made of.
    pub(super) backend: String,
}

impl Volumes {
    /// Starts a driver in these directories; it serves when this returns. Volumes that are there already are its own.
    pub(super) fn start(data: &Path, run: &Path) -> Result<Volumes> {
        let (stop, stopped) = oneshot::channel();
        let (told, ready) = mpsc::channel();
        let socket = socket(run);
        let setup = Setup {
            // As a node has it that nobody told of another.
            config: Config { pools: vec![PoolConfig::new("default", data.join("csi"))] },
            node: "here".into(),
            run: run.join("csi"),
            socket: socket.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("volumes".into())
            .spawn(move || serve(setup, stopped, told))
            .context(|| "start the CSI driver".into())?;
        if ready.recv().is_err() {
            return Err(ended(thread).err().unwrap_or_else(|| Failure::new("the CSI driver ended")));
        }
        Ok(Volumes { own: Some((stop, thread)), ..Volumes::connect(run)? })
    }

    /// The driver that the node of this run directory has.
    pub(super) fn connect(run: &Path) -> Result<Volumes> {
        let calls = runtime()?;
        let driver =
            calls.block_on(Driver::connect(&socket(run))).context(|| "reach the CSI driver".into())?;
        Ok(Volumes { driver, calls, run: run.to_owned(), own: None })
    }

    /// Makes a volume, of a snapshot where one is given. Where no file system can be made it is a directory.
    pub(super) fn create(&self, name: &str, snapshot: Option<&str>) -> Result<Made> {
        let made = self.create_of(name, snapshot, None);
        made.or_else(|failure| self.create_of(name, snapshot, Some("dir")).map_err(|_| failure))
    }

    fn create_of(&self, name: &str, snapshot: Option<&str>, backend: Option<&str>) -> Result<Made> {
        let source = snapshot.map(|id| VolumeContentSource {
            r#type: Some(Content::Snapshot(SnapshotSource { snapshot_id: id.into() })),
        });
        let request = CreateVolumeRequest {
            name: name.into(),
            // What is made of a snapshot is as large as that.
            capacity_range: snapshot
                .is_none()
                .then_some(CapacityRange { required_bytes: BYTES, limit_bytes: 0 }),
            volume_capabilities: vec![capability()],
            parameters: backend.map(|backend| ("backend".into(), backend.into())).into_iter().collect(),
            volume_content_source: source,
            ..Default::default()
        };
        let made = self.calls.block_on(self.driver.client.create_volume(request));
        let volume = made.context(|| format!("make the volume {name}"))?.volume.unwrap_or_default();
        let backend = volume.volume_context.get("backend").cloned().unwrap_or_default();
        Ok(Made { id: volume.volume_id, backend })
    }

    /// Puts a volume where containers can have it; where that is.
    pub(super) fn publish(&self, id: &str) -> Result<PathBuf> {
        let (staging, target) = (self.place("staged", id), self.place("published", id));
        for path in [&staging, &target] {
            let above = path.parent().unwrap_or(path);
            fs::create_dir_all(above).context(|| format!("make {}", above.display()))?;
        }
        let stage = NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging.display().to_string(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        let publish = NodePublishVolumeRequest {
            volume_id: id.into(),
            staging_target_path: staging.display().to_string(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        let published = self.calls.block_on(async {
            self.driver.client.node_stage_volume(stage).await?;
            self.driver.client.node_publish_volume(publish).await
        });
        published.context(|| format!("publish volume {id}"))?;
        Ok(target)
    }

    /// Cuts a snapshot; its id.
    pub(super) fn snapshot(&self, id: &str) -> Result<String> {
        let request =
            CreateSnapshotRequest { source_volume_id: id.into(), name: "demo".into(), ..Default::default() };
        let cut = self.calls.block_on(self.driver.client.create_snapshot(request));
        Ok(cut.context(|| "cut a snapshot".into())?.snapshot.unwrap_or_default().snapshot_id)
    }

    /// Takes everything away that there is, and ends the driver if it is this command's own.
    pub(super) fn end(self) -> Result<()> {
        let emptied = self.calls.block_on(self.empty()).context(|| "remove the volumes".into());
        let Some((stop, thread)) = self.own else { return emptied };
        let _ = stop.send(());
        // Its last connection: the driver waits for those that have calls.
        drop((self.driver, self.calls));
        emptied.and(ended(thread))
    }

    async fn empty(&self) -> std::result::Result<(), grpc::Error> {
        let client = &self.driver.client;
        for entry in self.driver.volumes().await? {
            let id = entry.volume.unwrap_or_default().volume_id;
            let target_path = self.place("published", &id).display().to_string();
            client
                .node_unpublish_volume(NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path })
                .await?;
            let staging_target_path = self.place("staged", &id).display().to_string();
            let request = NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path };
            client.node_unstage_volume(request).await?;
            client.delete_volume(DeleteVolumeRequest { volume_id: id, ..Default::default() }).await?;
        }
        for snapshot in self.driver.snapshots().await? {
            let request = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id, ..Default::default() };
            client.delete_snapshot(request).await?;
        }
        Ok(())
    }

    fn place(&self, what: &str, id: &str) -> PathBuf {
        self.run.join(what).join(id)
    }
}

/// Where it serves.
pub(super) fn socket(run: &Path) -> PathBuf {
    run.join("csi.sock")
}

fn capability() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}

fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context(|| "start the CSI driver".into())
}

fn serve(setup: Setup, stopped: oneshot::Receiver<()>, told: mpsc::Sender<()>) -> Result<()> {
    let stop = async {
        let _ = stopped.await;
    };
    let ready = move || {
        let _ = told.send(());
    };
    runtime()?.block_on(csi::plugin::run(setup, stop, ready)).map_err(|e| Failure::new(e.to_string()))
}

fn ended(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().unwrap_or_else(|_| Err(Failure::new("the CSI driver broke off")))
}
