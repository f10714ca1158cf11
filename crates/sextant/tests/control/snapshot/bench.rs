//! What tests of snapshots make and look at.

use csi::caller::Driver;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode};
use csi::contract::v1::{CapacityRange, CreateVolumeRequest, Snapshot, VolumeCapability};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::rig::{DRIVER, Rig};

/// A kind of resource: its group and version, its name, its plural, whether it is of a namespace.
pub(super) type Kind = (&'static str, &'static str, &'static str, bool);

pub(super) const SNAPSHOTS: Kind = ("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volumesnapshots", true);
pub(super) const CONTENTS: Kind =
    ("snapshot.storage.k8s.io/v1", "VolumeSnapshotContent", "volumesnapshotcontents", false);
pub(super) const CLASSES: Kind =
    ("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", "volumesnapshotclasses", false);
pub(super) const GROUPS: Kind =
    ("groupsnapshot.storage.k8s.io/v1beta2", "VolumeGroupSnapshot", "volumegroupsnapshots", true);
pub(super) const GROUP_CONTENTS: Kind = (
    "groupsnapshot.storage.k8s.io/v1beta2",
    "VolumeGroupSnapshotContent",
    "volumegroupsnapshotcontents",
    false,
);
pub(super) const GROUP_CLASSES: Kind =
    ("groupsnapshot.storage.k8s.io/v1beta2", "VolumeGroupSnapshotClass", "volumegroupsnapshotclasses", false);

pub(super) const CLAIMS: Kind = ("v1", "PersistentVolumeClaim", "persistentvolumeclaims", true);

impl Rig {
    fn of(&self, (api_version, kind, plural, is_namespaced): Kind) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: kind.into(),
            plural: plural.into(),
        };
        match is_namespaced {
            true => Api::namespaced_with(self.client.clone(), "default", &resource),
            false => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Makes an object.
    pub(super) async fn put(&self, kind: Kind, name: &str, mut object: Value) {
        object["apiVersion"] = json!(kind.0);
        object["kind"] = json!(kind.1);
        object["metadata"]["name"] = json!(name);
        let object = serde_json::from_value(object).unwrap();
        self.of(kind).create(&PostParams::default(), &object).await.unwrap();
    }

    /// An object as it is.
    pub(super) async fn read(&self, kind: Kind, name: &str) -> Option<Value> {
        let object = self.of(kind).get_opt(name).await.unwrap()?;
        Some(serde_json::to_value(object).unwrap())
    }

    /// All objects of a kind.
    pub(super) async fn all(&self, kind: Kind) -> Vec<Value> {
        let list = self.of(kind).list(&ListParams::default()).await.unwrap();
        list.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// Asks for an object to go.
    pub(super) async fn delete(&self, kind: Kind, name: &str) {
        self.of(kind).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// What holds an object.
    pub(super) async fn finalizers(&self, kind: Kind, name: &str) -> Vec<String> {
        let object = self.of(kind).get(name).await.unwrap();
        object.metadata.finalizers.unwrap_or_default()
    }

    /// Has an object held by these, and by nothing else.
    pub(super) async fn set_finalizers(&self, kind: Kind, name: &str, finalizers: &[String]) {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        self.of(kind).patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until an object is gone.
    pub(super) async fn gone(&self, kind: Kind, name: &str) {
        let what = format!("{} {name} is gone", kind.1);
        self.until(&what, async |rig| rig.read(kind, name).await.is_none().then_some(())).await;
    }

    /// Makes a VolumeSnapshot.
    pub(super) async fn snapshot(&self, name: &str, spec: Value) {
        self.put(SNAPSHOTS, name, json!({"spec": spec})).await;
    }

    /// Makes a class of snapshots.
    pub(super) async fn snapshot_class(&self, name: &str, driver: &str, policy: &str, is_default: bool) {
        let annotations = json!({"snapshot.storage.kubernetes.io/is-default-class": is_default.to_string()});
        let class =
            json!({"metadata": {"annotations": annotations}, "driver": driver, "deletionPolicy": policy});
        self.put(CLASSES, name, class).await;
    }

    /// Makes the content of a snapshot that the driver has, for a VolumeSnapshot.
    pub(super) async fn content(&self, name: &str, handle: &str, snapshot: &str, policy: &str) {
        let spec = json!({"driver": DRIVER, "deletionPolicy": policy, "source": {"snapshotHandle": handle},
            "volumeSnapshotRef": {"name": snapshot, "namespace": "default"}});
        self.put(CONTENTS, name, json!({"spec": spec})).await;
    }

    /// Waits until an object's snapshots are ready.
    pub(super) async fn ready(&self, kind: Kind, name: &str) -> Value {
        self.until(&format!("{} {name} is ready", kind.1), async |rig| {
            let object = rig.read(kind, name).await?;
            (object["status"]["readyToUse"] == true).then_some(object)
        })
        .await
    }

    /// Waits until an object tells an error.
    pub(super) async fn failed(&self, kind: Kind, name: &str, message: &str) {
        self.until(&format!("{} {name} tells {message:?}", kind.1), async |rig| {
            let object = rig.read(kind, name).await?;
            let error = &object["status"]["error"];
            let said = error["message"].as_str().is_some_and(|said| said.contains(message));
            (said && error["time"].is_string() && object["status"]["readyToUse"] == false).then_some(())
        })
        .await;
    }

    /// Waits until a VolumeSnapshot is refused, by its status and an event.
    pub(super) async fn refused(&self, name: &str, reason: &str, message: &str) {
        self.failed(SNAPSHOTS, name, message).await;
        self.event(name, reason, "").await;
    }

    /// Snapshots as the driver tells them.
    pub(super) async fn told(&self) -> Vec<Snapshot> {
        let socket = self.driver_socket();
        Driver::connect(&socket).await.unwrap().snapshots().await.unwrap()
    }

    /// Makes a volume of the driver and a claim that is bound to it, as provisioners do.
    pub(super) async fn driver_volume(&self, name: &str, backend: &str) {
        let socket = self.driver_socket();
        let driver = Driver::connect(&socket).await.unwrap();
        let mode = AccessMode { mode: access_mode::Mode::SingleNodeWriter.into() };
        let capability = VolumeCapability {
            access_mode: Some(mode),
            access_type: Some(AccessType::Mount(MountVolume::default())),
        };
        let request = CreateVolumeRequest {
            name: name.into(),
            capacity_range: Some(CapacityRange { required_bytes: 16 << 20, limit_bytes: 0 }),
            volume_capabilities: vec![capability],
            parameters: [("backend".into(), backend.into())].into(),
            ..Default::default()
        };
        let volume = driver.client.create_volume(request).await.unwrap().volume.unwrap();
        let topology = &volume.accessible_topology[0].segments;
        let terms: Vec<Value> = topology
            .iter()
            .map(|(key, value)| json!({"key": key, "operator": "In", "values": [value]}))
            .collect();
        let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": terms}]}});
        self.bound_claim(name, DRIVER, &volume.volume_id, json!({"nodeAffinity": affinity})).await;
    }

    /// What the driver calls a claim's volume.
    pub(super) async fn handle(&self, claim: &str) -> String {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let volume = volumes.get(&format!("pv-{claim}")).await.unwrap();
        volume.spec.unwrap().csi.unwrap().volume_handle
    }

    /// Makes a PersistentVolume and a claim, bound to each other.
    pub(super) async fn bound_claim(&self, name: &str, driver: &str, handle: &str, more: Value) {
        let claim =
            self.claim(name, json!({"storageClassName": "", "volumeName": format!("pv-{name}")})).await;
        let mut spec = json!({"capacity": {"storage": "16Mi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "",
            "csi": {"driver": driver, "volumeHandle": handle},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "namespace": "default",
                "uid": claim.metadata.uid}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.make::<PersistentVolume>(json!({"metadata": {"name": format!("pv-{name}")}, "spec": spec}))
            .await;
        let status = json!({"status": {"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "16Mi"}}});
        let claims: Api<PersistentVolumeClaim> = self.objects_of("");
        claims.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }

    /// Makes a claim, with a label `app` of its own name's first letter.
    pub(super) async fn claim(&self, name: &str, more: Value) -> PersistentVolumeClaim {
        let mut spec =
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.make_here(json!({"metadata": {"name": name, "labels": {"app": name[..1]}}, "spec": spec})).await
    }

    /// Deletes a claim and its finalizers.
    pub(super) async fn forget_claim(&self, name: &str) {
        let claims: Api<PersistentVolumeClaim> = self.objects_of("");
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        claims.delete(name, &DeleteParams::default()).await.unwrap();
        let _gone_already = claims.patch(name, &PatchParams::default(), &free).await;
    }

    /// Waits until a claim is not held for snapshots.
    pub(super) async fn claim_is_free(&self, name: &str) {
        self.until(&format!("claim {name} is not held"), async |rig| {
            let held = rig.finalizers(CLAIMS, name).await;
            (!held.iter().any(|held| held == "snapshot.storage.kubernetes.io/pvc-as-source-protection"))
                .then_some(())
        })
        .await;
    }
}
