//! Claims with their volumes, as what expands and modifies volumes looks at them.

use std::sync::Arc;

use csi::caller::Driver;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus, PersistentVolumeSpec,
    SecretReference,
};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::Context;
use super::failure::Failure;
use crate::cache::Name;
use crate::queue::Queue;

/// A claim that has a volume of a driver that is there.
pub(super) struct Bound {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    pub(super) volume: Arc<PersistentVolume>,
    pub(super) driver: Arc<Driver>,
}

impl Bound {
    /// The claim of this name with its volume, if both are bound to each other and the driver is there. What is missing comes with a
    /// change that has the claim looked at again ([`follow`]).
    pub(super) fn find(context: &Context, name: &Name) -> Option<Self> {
        let claim = context.claims.get(name)?;
        let volume = claim.spec.as_ref()?.volume_name.as_ref()?;
        let volume = context.volumes.get(&Name::global(volume))?;
        let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
        if claim.status.as_ref()?.phase.as_deref() != Some("Bound") || owner.uid != claim.metadata.uid {
            return None;
        }
        let driver = context.drivers.get(&volume.spec.as_ref()?.csi.as_ref()?.driver)?;
        Some(Self { claim, volume, driver })
    }

    /// The volume's spec.
    pub(super) fn spec(&self) -> Result<&PersistentVolumeSpec, Failure> {
        self.volume.spec.as_ref().ok_or_else(|| Failure::Other("the volume has no spec".into()))
    }

    pub(super) fn status(&self) -> PersistentVolumeClaimStatus {
        self.claim.status.clone().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> &str {
        self.claim.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn volume_name(&self) -> &str {
        self.volume.metadata.name.as_deref().unwrap_or_default()
    }

    /// Changes the claim's status by a strategic patch, in which conditions are merged by their type. Annotations go the same way.
    /// With `unchanged` only if the claim is still what was read.
    pub(super) async fn patch_claim(
        &self,
        context: &Context,
        unchanged: bool,
        annotations: Value,
        status: Value,
    ) -> Result<(), Failure> {
        let metadata = &self.claim.metadata;
        let mut patch =
            json!({ "metadata": { "uid": metadata.uid, "annotations": annotations }, "status": status });
        if unchanged {
            patch["metadata"]["resourceVersion"] = json!(metadata.resource_version);
        }
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), namespace);
        let answer = api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change claim {namespace}/{name}"), &error))
    }

    /// Changes the volume's object by a merge patch.
    pub(super) async fn patch_volume(&self, context: &Context, spec: Value) -> Result<(), Failure> {
        let patch = json!({ "metadata": { "uid": self.volume.metadata.uid }, "spec": spec });
        let name = self.volume_name();
        let api: Api<PersistentVolume> = Api::all(context.client.clone());
        let answer = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change volume {name}"), &error))
    }
}

/// Has all claims looked at whenever a driver has come, and a claim when its volume has come.
pub(super) async fn follow(context: &Context, queue: &Arc<Queue<Name>>) {
    let owners = queue.clone();
    context.volumes.listen(move |change| {
        let (None, Some(volume)) = (&change.old, &change.new) else { return };
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        owners.add_all(owner.map(|owner| {
            Name::new(owner.namespace.clone().unwrap_or_default(), owner.name.clone().unwrap_or_default())
        }));
    });
    let mut changes = context.drivers.changes();
    while changes.changed().await.is_ok() {
        queue.add_all(context.claims.all().iter().map(|claim| Name::of(&**claim)));
    }
}

/// What a secret holds that a volume's object names, or nothing.
pub(super) async fn secrets(
    context: &Context,
    reference: Option<&SecretReference>,
) -> Result<std::collections::BTreeMap<String, String>, String> {
    let Some(secret) = reference else { return Ok(std::collections::BTreeMap::new()) };
    let (namespace, name) = (secret.namespace.as_deref(), secret.name.as_deref());
    context.secret(namespace.unwrap_or_default(), name.unwrap_or_default()).await
}
