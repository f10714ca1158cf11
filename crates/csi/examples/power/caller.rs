//! A driver in this process, and whoever calls it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use csi::caller::Client;
use csi::contract::v1::volume_capability::{
    AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode,
};
use csi::contract::v1::volume_content_source::{SnapshotSource, Type as Content};
use csi::contract::v1::*;
use csi::plugin::{Config, PoolConfig, Setup};

use super::marks::Result;

/// Sockets, what is in use, and mounts: they go with the power.
const RUN: &str = "/run/power";
const FS_TYPE: &str = "csi.storage.k8s.io/fstype";
/// A guest of another processor than its machine's takes its time.
const LIMIT: Duration = Duration::from_secs(120);

/// Volumes of a backend, with a file system where it makes one: `dir`, `image:ext4`, `lvm-thin:block` of devices.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) name: String,
    backend: String,
    fs_type: String,
    pub(super) block: bool,
    /// How large they are.
    pub(super) bytes: i64,
}

/// A volume, or a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) bytes: i64,
}

/// Snapshots of one moment, in the order of their volumes.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: String,
    pub(super) members: Vec<Made>,
}

/// A volume that is there, or that a snapshot can be made one of.
pub(super) struct Found {
    pub(super) id: String,
    pub(super) bytes: i64,
    pub(super) kind: Kind,
    /// The group that a snapshot is a member of; empty where there is none.
    pub(super) group: String,
}

impl Kind {
    pub(super) fn of(name: &str) -> Kind {
        let (backend, form) = name.split_once(':').unwrap_or((name, ""));
        let (block, fs_type) = (form == "block", if form == "block" { "" } else { form });
        // The least that an ext4 has here; most others take less.
        Kind { name: name.into(), backend: backend.into(), fs_type: fs_type.into(), block, bytes: 16 << 20 }
    }

    /// As a record of the pool's says it: nobody but that does where the volume is gone.
    fn recorded(record: &serde_json::Value) -> Result<Kind> {
        let backend = record["backend"].as_str().ok_or("a record has no backend")?;
        let form = if record["block"] == true { ":block" } else { "" };
        Ok(Kind::of(&format!("{backend}{form}")))
    }

    /// Whether several can be cut at one moment.
    pub(super) fn has_groups(&self) -> bool {
        !["dir", "quota"].contains(&self.backend.as_str())
    }

    fn capability(&self) -> VolumeCapability {
        let mount = || AccessType::Mount(MountVolume::default());
        VolumeCapability {
            access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
            access_type: Some(if self.block { AccessType::Block(BlockVolume {}) } else { mount() }),
        }
    }
}

pub(super) struct Caller {
    client: Client,
    run: PathBuf,
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

impl Caller {
    /// Starts a driver with a pool in `pool`, whose data are on `device` where one is given; it serves when this returns.
    pub(super) async fn start(pool: &Path, device: Option<&Path>) -> Result<Caller> {
        let run = PathBuf::from(format!("{RUN}/{}", std::process::id()));
        std::fs::create_dir_all(&run)?;
        // What a workload may fill is not asked here, and the disk is small.
        let device = device.map(Path::to_owned);
        let pool = PoolConfig { overcommit: 100.0, device, ..PoolConfig::new("a", pool) };
        let setup = Setup {
            config: Config { pools: vec![pool] },
            node: "guest".into(),
            run: run.join("csi"),
            socket: run.join("csi.sock"),
        };
        let socket = setup.socket.clone();
        let (ready, serves) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let ready = || {
                // Who waits for it is this function.
                let _ = ready.send(());
            };
            if let Err(e) = csi::plugin::run(setup, std::future::pending(), ready).await {
                println!("damaged: the driver ended: {e}");
            }
        });
        serves.await?;
        Ok(Caller { client: Client::connect(&socket).await?.with_deadline(LIMIT), run })
    }

    pub(super) async fn create(&self, name: &str, kind: &Kind, snapshot: Option<&str>) -> Result<Made> {
        let mut parameters = vec![("backend".to_owned(), kind.backend.clone())];
        if !kind.fs_type.is_empty() {
            parameters.push((FS_TYPE.into(), kind.fs_type.clone()));
        }
        let source = snapshot.map(|id| VolumeContentSource {
            r#type: Some(Content::Snapshot(SnapshotSource { snapshot_id: id.into() })),
        });
        let request = CreateVolumeRequest {
            name: name.into(),
            capacity_range: snapshot
                .is_none()
                .then_some(CapacityRange { required_bytes: kind.bytes, limit_bytes: 0 }),
            volume_capabilities: vec![kind.capability()],
            parameters: parameters.into_iter().collect(),
            volume_content_source: source,
            ..Default::default()
        };
        let volume = self.client.create_volume(request).await?.volume.ok_or("no volume")?;
        Ok(Made { id: volume.volume_id, bytes: volume.capacity_bytes })
    }

    pub(super) async fn delete(&self, id: &str) -> Result<()> {
        let request = DeleteVolumeRequest { volume_id: id.into(), ..Default::default() };
        Ok(self.client.delete_volume(request).await.map(drop)?)
    }

    pub(super) async fn snapshot(&self, name: &str, volume: &str) -> Result<Made> {
        let request = CreateSnapshotRequest {
            name: name.into(),
            source_volume_id: volume.into(),
            ..Default::default()
        };
        let snapshot = self.client.create_snapshot(request).await?.snapshot.ok_or("no snapshot")?;
        Ok(Made { id: snapshot.snapshot_id, bytes: snapshot.size_bytes })
    }

    pub(super) async fn delete_snapshot(&self, id: &str) -> Result<()> {
        let request = DeleteSnapshotRequest { snapshot_id: id.into(), ..Default::default() };
        Ok(self.client.delete_snapshot(request).await.map(drop)?)
    }

    pub(super) async fn group(&self, name: &str, volumes: &[&Made]) -> Result<Group> {
        let request = CreateVolumeGroupSnapshotRequest {
            name: name.into(),
            source_volume_ids: volumes.iter().map(|volume| volume.id.clone()).collect(),
            ..Default::default()
        };
        let group = self.client.create_volume_group_snapshot(request).await?;
        let group = group.group_snapshot.ok_or("no group")?;
        let member = |volume: &&Made| {
            let of = |snapshot: &&Snapshot| snapshot.source_volume_id == volume.id;
            let member = group.snapshots.iter().find(of).ok_or("a group has no member of a volume")?;
            Ok(Made { id: member.snapshot_id.clone(), bytes: member.size_bytes })
        };
        let members = volumes.iter().map(member).collect::<Result<_>>()?;
        Ok(Group { id: group.group_snapshot_id, members })
    }

    pub(super) async fn delete_group(&self, id: &str, members: Vec<String>) -> Result<()> {
        let request = DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: id.into(),
            snapshot_ids: members,
            ..Default::default()
        };
        Ok(self.client.delete_volume_group_snapshot(request).await.map(drop)?)
    }

    /// The members that a group is said to have.
    pub(super) async fn members(&self, id: &str) -> Result<Vec<String>> {
        let request = GetVolumeGroupSnapshotRequest { group_snapshot_id: id.into(), ..Default::default() };
        let group = self.client.get_volume_group_snapshot(request).await?;
        let members = group.group_snapshot.ok_or("no group")?.snapshots;
        Ok(members.into_iter().map(|snapshot| snapshot.snapshot_id).collect())
    }

    pub(super) async fn expand(&self, id: &str, bytes: i64) -> Result<()> {
        let capacity_range = Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 });
        let request =
            ControllerExpandVolumeRequest { volume_id: id.into(), capacity_range, ..Default::default() };
        Ok(self.client.controller_expand_volume(request).await.map(drop)?)
    }

    /// Stages and publishes a volume; where it is.
    pub(super) async fn mount(&self, id: &str, kind: &Kind) -> Result<PathBuf> {
        let [staging, target] = self.paths(id);
        let stage = NodeStageVolumeRequest {
            volume_id: id.into(),
            staging_target_path: text(&staging),
            volume_capability: Some(kind.capability()),
            ..Default::default()
        };
        self.client.node_stage_volume(stage).await?;
        let publish = NodePublishVolumeRequest {
            volume_id: id.into(),
            staging_target_path: text(&staging),
            target_path: text(&target),
            volume_capability: Some(kind.capability()),
            ..Default::default()
        };
        self.client.node_publish_volume(publish).await?;
        Ok(target)
    }

    pub(super) async fn unmount(&self, id: &str) -> Result<()> {
        let [staging, target] = self.paths(id);
        let unpublish = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path: text(&target) };
        self.client.node_unpublish_volume(unpublish).await?;
        let unstage = NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path: text(&staging) };
        Ok(self.client.node_unstage_volume(unstage).await.map(drop)?)
    }

    fn paths(&self, id: &str) -> [PathBuf; 2] {
        ["staged", "published"].map(|part| self.run.join(format!("{id}-{part}")))
    }

    pub(super) async fn volumes(&self, pool: &Path) -> Result<Vec<Found>> {
        let list = self.client.list_volumes(ListVolumesRequest::default()).await?;
        let mut found = Vec::new();
        for volume in list.entries.into_iter().filter_map(|entry| entry.volume) {
            let record = record(&pool.join("volumes").join(&volume.volume_id).join("volume.json"))?;
            let (id, bytes, kind) = (volume.volume_id, volume.capacity_bytes, Kind::recorded(&record)?);
            found.push(Found { id, bytes, kind, group: String::new() });
        }
        Ok(found)
    }

    /// Snapshots, of the kind that their volumes were.
    pub(super) async fn snapshots(&self, pool: &Path) -> Result<Vec<Found>> {
        let list = self.client.list_snapshots(ListSnapshotsRequest::default()).await?;
        let mut found = Vec::new();
        for snapshot in list.entries.into_iter().filter_map(|entry| entry.snapshot) {
            let record = record(&pool.join("snapshots").join(&snapshot.snapshot_id).join("snapshot.json"))?;
            found.push(Found {
                id: snapshot.snapshot_id,
                bytes: snapshot.size_bytes,
                kind: Kind::recorded(&record["volume"])?,
                group: snapshot.group_snapshot_id,
            });
        }
        Ok(found)
    }
}

fn record(path: &Path) -> Result<serde_json::Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
