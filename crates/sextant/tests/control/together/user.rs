//! A user, with the node's kubelet: it goes on until what it asks for is there, whoever was killed meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use csi::caller::Client as Caller;
use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use csi::contract::v1::*;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

use super::pools::Kind;
use crate::rig::{DRIVER, NODE, Rig};

/// Kills come faster than a minute: whoever is at it is at it again and again.
const PATIENCE: Duration = Duration::from_secs(180);

/// A claim that a user keeps, what it has written to its volume, and a snapshot of it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) kind: Kind,
    pub(super) claim: String,
    pub(super) text: String,
    pub(super) snapshot: Option<String>,
}

pub(super) struct User {
    client: Client,
    socket: PathBuf,
    /// Where its volumes are mounted.
    folder: PathBuf,
    number: usize,
    kind: Kind,
    random: u64,
    stop: Arc<AtomicBool>,
    kept: Vec<Kept>,
    /// What all users have seen done.
    done: Arc<AtomicU64>,
}

/// What a user is told (it is to stop), and tells (what it has seen done).
pub(super) type Watch = (Arc<AtomicBool>, Arc<AtomicU64>);

fn snapshot_kind(name: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("snapshot.storage.k8s.io", "v1", name))
}

/// The snapshots of the namespace.
pub(super) fn snapshots(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &snapshot_kind("VolumeSnapshot"))
}

/// All contents of snapshots.
pub(super) fn contents(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &snapshot_kind("VolumeSnapshotContent"))
}

/// Makes the class of all snapshots.
pub(super) async fn snapshot_class(client: &Client) {
    let classes: Api<DynamicObject> = Api::all_with(client.clone(), &snapshot_kind("VolumeSnapshotClass"));
    make(&classes, "VolumeSnapshotClass", "cuts", json!({"driver": DRIVER, "deletionPolicy": "Delete"}))
        .await;
}

async fn make(api: &Api<DynamicObject>, kind: &str, name: &str, mut object: Value) {
    object["apiVersion"] = json!("snapshot.storage.k8s.io/v1");
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": name});
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

impl User {
    pub(super) fn new(rig: &Rig, number: usize, kind: &Kind, random: u64, (stop, done): Watch) -> User {
        let folder = rig.path("users");
        std::fs::create_dir_all(&folder).unwrap();
        User {
            client: rig.client.clone(),
            socket: rig.driver_socket(),
            folder,
            number,
            kind: kind.clone(),
            random: random | 1,
            stop,
            kept: Vec::new(),
            done,
        }
    }

    /// What `look` finds, once it finds something.
    async fn until<T>(&self, what: &str, look: impl AsyncFn() -> Result<T, String>) -> T {
        let began = Instant::now();
        loop {
            match look().await {
                Ok(found) => {
                    self.done.fetch_add(1, Ordering::Relaxed);
                    return found;
                }
                Err(last) => assert!(began.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}; {last}"),
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn chance(&mut self, of: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16).is_multiple_of(of)
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Works until it is to stop; what it keeps then.
    pub(super) async fn works(mut self) -> Vec<Kept> {
        let mut round = 0;
        while !self.stop.load(Ordering::Relaxed) {
            self.round(&format!("c{}-{round}", self.number)).await;
            round += 1;
        }
        self.kept
    }

    /// The life of a claim, and of what is made of it.
    async fn round(&mut self, name: &str) {
        let text = format!("{name} {}", self.random);
        self.claim(name, json!({})).await;
        // One that nobody waits for.
        let hasty = format!("{name}-hasty");
        self.claim(&hasty, json!({})).await;
        if self.chance(2) {
            tokio::time::sleep(Duration::from_millis(self.random % 300)).await;
        }
        self.delete(&hasty).await;
        let id = self.write(name, &text).await;
        let (snapshot, copy) = (format!("{name}-cut"), format!("{name}-copy"));
        let source =
            json!({"source": {"persistentVolumeClaimName": name}, "volumeSnapshotClassName": "cuts"});
        make(&snapshots(&self.client), "VolumeSnapshot", &snapshot, json!({"spec": source})).await;
        self.is_cut(&snapshot).await;
        let of = match self.chance(2) {
            true => json!({"kind": "PersistentVolumeClaim", "name": name}),
            false => {
                json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot})
            }
        };
        self.claim(&copy, json!({"dataSource": of})).await;
        self.holds(&copy, &text).await;
        self.expand(name, &id).await;
        let keeps = self.kept.len() < 4 && self.chance(3);
        if keeps && self.chance(2) {
            self.delete(&copy).await;
            self.keep(name, text, Some(snapshot));
            return;
        }
        snapshots(&self.client).delete(&snapshot, &DeleteParams::default()).await.unwrap();
        self.delete(name).await;
        if keeps {
            self.keep(&copy, text, None);
        } else {
            self.delete(&copy).await;
        }
    }

    fn keep(&mut self, claim: &str, text: String, snapshot: Option<String>) {
        self.kept.push(Kept { kind: self.kind.clone(), claim: claim.into(), text, snapshot });
    }

    async fn claim(&self, name: &str, fields: Value) {
        let Kind { class, size, .. } = &self.kind;
        let mut spec = json!({"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": format!("{size}Mi")}}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let claim = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.claims().create(&PostParams::default(), &claim).await.unwrap();
    }

    async fn delete(&self, claim: &str) {
        self.claims().delete(claim, &DeleteParams::default()).await.unwrap();
    }

    /// The volume of a claim, once it is bound.
    async fn volume(&self, claim: &str) -> PersistentVolume {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        self.until(&format!("claim {claim} is bound"), async || {
            let claim = self.claims().get(claim).await.map_err(|error| error.to_string())?;
            let is_bound = claim.status.as_ref().is_some_and(|one| one.phase.as_deref() == Some("Bound"));
            let name = claim.spec.unwrap().volume_name.filter(|_| is_bound).ok_or("it is not")?;
            volumes.get(&name).await.map_err(|error| error.to_string())
        })
        .await
    }

    async fn is_cut(&self, snapshot: &str) {
        self.until(&format!("snapshot {snapshot} is ready"), async || {
            let found = snapshots(&self.client).get(snapshot).await.map_err(|error| error.to_string())?;
            let status = &found.data["status"];
            if status["readyToUse"] == true { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// What the driver answers in the end.
    async fn node<T>(&self, what: &str, call: impl AsyncFn(&Caller) -> Result<T, grpc::Error>) -> T {
        self.until(what, async || {
            let caller = Caller::connect(&self.socket).await.map_err(|error| error.to_string())?;
            let caller = caller.with_deadline(Duration::from_secs(60));
            call(&caller).await.map_err(|error| error.to_string())
        })
        .await
    }

    fn paths(&self, claim: &str) -> [String; 2] {
        ["s", "t"].map(|part| self.folder.join(format!("{claim}-{part}")).to_str().unwrap().to_owned())
    }

    /// Attaches and mounts a claim's volume; its id, and where it is.
    async fn mount(&self, claim: &str) -> (String, PathBuf) {
        let volume = self.volume(claim).await;
        let source = json!({"persistentVolumeName": volume.metadata.name});
        let spec = json!({"attacher": DRIVER, "nodeName": NODE, "source": source});
        let attachment = serde_json::from_value(json!({"metadata": {"name": claim}, "spec": spec})).unwrap();
        let attachments: Api<VolumeAttachment> = Api::all(self.client.clone());
        attachments.create(&PostParams::default(), &attachment).await.unwrap();
        self.until(&format!("{claim} is attached"), async || {
            let found = attachments.get(claim).await.map_err(|error| error.to_string())?;
            found.status.filter(|status| status.attached).map(drop).ok_or_else(|| "it is not".into())
        })
        .await;
        let id = volume.spec.unwrap().csi.unwrap().volume_handle;
        let [staging, target] = self.paths(claim);
        let stage = NodeStageVolumeRequest {
            volume_id: id.clone(),
            staging_target_path: staging.clone(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        self.node(&format!("{claim} is staged"), async |caller| {
            caller.node_stage_volume(stage.clone()).await
        })
        .await;
        let publish = NodePublishVolumeRequest {
            volume_id: id.clone(),
            staging_target_path: staging,
            target_path: target.clone(),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        let published = async |caller: &Caller| caller.node_publish_volume(publish.clone()).await;
        self.node(&format!("{claim} is published"), published).await;
        (id, target.into())
    }

    async fn unmount(&self, claim: &str, id: &str) {
        let [staging_target_path, target_path] = self.paths(claim);
        let unpublish = NodeUnpublishVolumeRequest { volume_id: id.into(), target_path };
        self.node("unpublish", async |caller| caller.node_unpublish_volume(unpublish.clone()).await).await;
        let unstage = NodeUnstageVolumeRequest { volume_id: id.into(), staging_target_path };
        self.node("unstage", async |caller| caller.node_unstage_volume(unstage.clone()).await).await;
        let attachments: Api<VolumeAttachment> = Api::all(self.client.clone());
        attachments.delete(claim, &DeleteParams::default()).await.unwrap();
        self.until(&format!("{claim} is detached"), async || {
            let found = attachments.get_opt(claim).await.map_err(|error| error.to_string())?;
            if found.is_none() { Ok(()) } else { Err("it is not".into()) }
        })
        .await;
    }

    /// Writes to a claim's volume; its id.
    async fn write(&self, claim: &str, text: &str) -> String {
        let (id, target) = self.mount(claim).await;
        let file = target.join("file");
        std::fs::write(&file, text).unwrap();
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
        self.unmount(claim, &id).await;
        id
    }

    /// A claim's volume holds what was written; its id.
    pub(super) async fn holds(&self, claim: &str, text: &str) -> String {
        let (id, target) = self.mount(claim).await;
        assert_eq!(std::fs::read_to_string(target.join("file")).unwrap(), text, "{claim}");
        self.unmount(claim, &id).await;
        id
    }

    /// Makes a claim's volume larger, the node's part included.
    async fn expand(&self, claim: &str, id: &str) {
        let larger = self.kind.larger;
        let larger = (larger << 20, format!("{larger}Mi"));
        let spec = json!({"spec": {"resources": {"requests": {"storage": larger.1}}}});
        self.claims().patch(claim, &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
        let size = async || {
            let volume = self.volume(claim).await;
            let size = volume.spec.unwrap().capacity.unwrap()["storage"].0.clone();
            if size == larger.1 { Ok(()) } else { Err(size) }
        };
        self.until(&format!("{claim} is larger"), size).await;
        let (_, target) = self.mount(claim).await;
        let request = NodeExpandVolumeRequest {
            volume_id: id.into(),
            volume_path: target.to_str().unwrap().into(),
            staging_target_path: self.paths(claim)[0].clone(),
            capacity_range: Some(CapacityRange { required_bytes: larger.0, limit_bytes: 0 }),
            volume_capability: Some(capability()),
            ..Default::default()
        };
        let expanded = async |caller: &Caller| caller.node_expand_volume(request.clone()).await;
        self.node(&format!("the node expands {claim}"), expanded).await;
        self.unmount(claim, id).await;
        let status = json!({"status": {"capacity": {"storage": larger.1}, "conditions": null, "allocatedResourceStatuses": null}});
        self.claims().patch_status(claim, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

fn capability() -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}
