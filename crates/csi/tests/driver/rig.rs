//! A driver in this process, and calls as a kubelet and its sidecars make them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use csi::caller::Client;
use csi::contract::v1::volume_capability::{
    AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode,
};
use csi::contract::v1::volume_content_source::{SnapshotSource, Type as Content, VolumeSource};
use csi::contract::v1::*;
use csi::plugin::{Config, PoolConfig, Setup};
use grpc::{Code, Error};
use kernel::capability::{Capability, Sets};

pub(crate) const NODE: &str = "node-1";
/// Has the tests of directories run with another backend that has them, in a TMPDIR where it can be had.
pub(crate) const BACKEND: &str = "SEXTANT_TEST_CSI_DIRECTORIES";

/// A pool of directories in a folder.
pub(crate) fn directories(folder: &Path) -> PoolConfig {
    let backend = std::env::var(BACKEND).unwrap_or_else(|_| "dir".into());
    PoolConfig { backends: vec![backend], ..PoolConfig::new("a", folder.join("pool")) }
}

/// A driver with one pool.
pub(crate) struct Rig {
    pub(crate) client: Client,
    pub(crate) setup: Setup,
    serving: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// Starts one, in a folder of its own.
    pub(crate) async fn start(folder: &Path, pool: PoolConfig) -> Rig {
        let setup = Setup {
            config: Config { pools: vec![pool] },
            node: NODE.into(),
            run: folder.join("run"),
            socket: folder.join("csi.sock"),
        };
        Rig::of(setup).await
    }

    pub(crate) async fn of(setup: Setup) -> Rig {
        let (ready, serves) = tokio::sync::oneshot::channel();
        let own = setup.clone();
        let serving = tokio::spawn(async move {
            csi::plugin::run(own, std::future::pending(), || ready.send(()).unwrap()).await.unwrap();
        });
        serves.await.unwrap();
        let client = Client::connect(&setup.socket).await.unwrap();
        Rig { client, setup, serving }
    }

    /// Another driver in the place of this one, which had no time to say good-bye.
    pub(crate) async fn again(self) -> Rig {
        self.serving.abort();
        let _ended = self.serving.await;
        Rig::of(self.setup).await
    }

    pub(crate) async fn create(&self, name: &str, bytes: i64) -> Result<Volume, Error> {
        self.create_as(request(name, bytes)).await
    }

    pub(crate) async fn create_as(&self, request: CreateVolumeRequest) -> Result<Volume, Error> {
        Ok(self.client.create_volume(request).await?.volume.unwrap())
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), Error> {
        let request = DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        self.client.delete_volume(request).await.map(drop)
    }

    pub(crate) async fn snapshot(&self, name: &str, volume: &str) -> Result<Snapshot, Error> {
        let request = CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.into(),
            ..Default::default()
        };
        Ok(self.client.create_snapshot(request).await?.snapshot.unwrap())
    }

    pub(crate) async fn stage(&self, id: &str, at: &Path, capability: VolumeCapability) -> Result<(), Error> {
        let request = NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: text(at),
            volume_capability: Some(capability),
            ..Default::default()
        };
        self.client.node_stage_volume(request).await.map(drop)
    }

    pub(crate) async fn unstage(&self, id: &str, at: &Path) -> Result<(), Error> {
        let request = NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path: text(at) };
        self.client.node_unstage_volume(request).await.map(drop)
    }

    pub(crate) async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), Error> {
        self.client.node_publish_volume(request).await.map(drop)
    }

    pub(crate) async fn unpublish(&self, id: &str, at: &Path) -> Result<(), Error> {
        let request = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: text(at) };
        self.client.node_unpublish_volume(request).await.map(drop)
    }

    /// Stages and publishes a volume; where it is.
    pub(crate) async fn mount(&self, folder: &Path, id: &str) -> Mounted {
        let mounted = Mounted {
            id: id.into(),
            staging: folder.join(format!("{id}-s")),
            target: folder.join(format!("{id}-t")),
        };
        self.stage(id, &mounted.staging, files(Mode::SingleNodeWriter)).await.unwrap();
        self.publish(published(id, &mounted.staging, &mounted.target)).await.unwrap();
        mounted
    }

    /// Takes a volume from a path where nobody has it open any more. A program that another test starts in this process has its open files
    /// until it executes, and with them the volume's.
    pub(crate) async fn let_go(&self, id: &str, at: &Path) {
        let mut tries = 3000;
        loop {
            match self.unpublish(id, at).await {
                Err(e) if e.code() == Code::FailedPrecondition && tries > 0 => {
                    tries -= 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => break outcome.unwrap(),
            }
        }
    }

    /// Takes a volume away again.
    pub(crate) async fn unmount(&self, mounted: Mounted) {
        self.let_go(&mounted.id, &mounted.target).await;
        self.unstage(&mounted.id, &mounted.staging).await.unwrap();
        assert!(!mounted.target.exists() && !mounted.staging.exists());
    }
}

/// Where a volume is.
pub(crate) struct Mounted {
    pub(crate) id: String,
    pub(crate) staging: PathBuf,
    pub(crate) target: PathBuf,
}

pub(crate) fn text(path: &Path) -> String {
    path.to_str().unwrap().into()
}

pub(crate) fn published(id: &str, staging: &Path, target: &Path) -> NodePublishVolumeRequest {
    NodePublishVolumeRequest {
        volume_id: id.into(),
        staging_target_path: text(staging),
        target_path: text(target),
        volume_capability: Some(files(Mode::SingleNodeWriter)),
        ..Default::default()
    }
}

pub(crate) fn capability(access: AccessType, mode: Mode) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), access_type: Some(access) }
}

pub(crate) fn files(mode: Mode) -> VolumeCapability {
    capability(AccessType::Mount(MountVolume::default()), mode)
}

pub(crate) fn device() -> VolumeCapability {
    capability(AccessType::Block(BlockVolume {}), Mode::SingleNodeWriter)
}

pub(crate) fn request(name: &str, bytes: i64) -> CreateVolumeRequest {
    CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capabilities: vec![files(Mode::SingleNodeWriter)],
        ..Default::default()
    }
}

pub(crate) fn from_snapshot(id: &str) -> Option<VolumeContentSource> {
    let source = SnapshotSource { snapshot_id: id.into() };
    Some(VolumeContentSource { r#type: Some(Content::Snapshot(source)) })
}

pub(crate) fn from_volume(id: &str) -> Option<VolumeContentSource> {
    let source = VolumeSource { volume_id: id.into() };
    Some(VolumeContentSource { r#type: Some(Content::Volume(source)) })
}

pub(crate) fn map(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.into(), value.into())])
}

/// The code and the text of a failure.
pub(crate) fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> (Code, String) {
    match outcome.unwrap_err() {
        Error::Call { status, .. } => (status.code, status.message),
        other => panic!("{other}"),
    }
}

/// Gives up what lifts ext4's limits, as a container has.
pub(crate) fn be_a_container() {
    let mut sets = Sets::current().unwrap();
    sets.effective.remove(Capability::SysResource);
    sets.permitted.remove(Capability::SysResource);
    sets.apply().unwrap();
}
