//! Volumes and claims as if they had been provisioned and bound: what looks at those that are is tested without what makes them.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::rig::Rig;

impl Rig {
    /// Makes a volume of a driver, of 1 GiB, with more or other fields in `spec`.
    pub(crate) async fn volume(&self, name: &str, driver: &str, fields: Value) -> PersistentVolume {
        let mut spec = json!({
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "hand",
            "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": driver, "volumeHandle": name},
        });
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.make(json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// Makes a claim and its volume, of the same name and 1 GiB; they are bound to each other.
    pub(crate) async fn bound(&self, name: &str, driver: &str, handle: &str) -> PersistentVolumeClaim {
        let claim: PersistentVolumeClaim = self
            .make_here(json!({"metadata": {"name": name}, "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "hand", "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}}}}))
            .await;
        let owner = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": name,
            "uid": claim.metadata.uid});
        let source = json!({"driver": driver, "volumeHandle": handle});
        self.volume(name, driver, json!({"claimRef": owner, "csi": source})).await;
        let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}, "status": {
            "phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
        let api: Api<PersistentVolumeClaim> = self.objects_of("");
        let patch = |what: Value| Patch::Merge(what);
        api.patch_status(name, &PatchParams::default(), &patch(bound)).await.unwrap();
        let phase = json!({"status": {"phase": "Bound"}});
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        volumes.patch_status(name, &PatchParams::default(), &patch(phase)).await.unwrap();
        claim
    }

    /// Changes a claim's spec.
    pub(crate) async fn change_claim(&self, name: &str, spec: Value) {
        let api: Api<PersistentVolumeClaim> = self.objects_of("");
        let patch = Patch::Merge(json!({"spec": spec}));
        api.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Waits until a claim is as wanted; the claim.
    pub(crate) async fn claim_is(
        &self,
        name: &str,
        what: &str,
        is: impl Fn(&Value) -> bool,
    ) -> PersistentVolumeClaim {
        self.until(&format!("claim {name}: {what}"), async |rig: &Rig| {
            let claim = rig.objects_of::<PersistentVolumeClaim>("").get(name).await.ok()?;
            is(&serde_json::to_value(&claim).unwrap()).then_some(claim)
        })
        .await
    }
}

/// Numbers by chance; what they began with is printed.
pub(crate) fn chance() -> impl FnMut() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut state = u64::from(since.subsec_nanos()) | 1;
    println!("chance begins with {state}");
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state >> 16
    }
}
