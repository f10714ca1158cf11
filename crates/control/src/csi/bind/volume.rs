//! One volume.

use client::cache::Name;
use client::queue::Next;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::{BY_CONTROLLER, Binder, VOLUME, claim_of, told};
use crate::csi::{finalizers, names};

impl Binder {
    pub(super) async fn look_at_volume(&self, name: &Name) -> Next {
        let Some(volume) = self.context.volumes.get(name) else { return Next::Done };
        told("volume", name, self.volume_step(&volume).await)
    }

    async fn volume_step(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let is_going = volume.metadata.deletion_timestamp.is_some();
        let should = match self.should_be(volume).await? {
            Should::Be(should) => should,
            Should::Wait => return Ok(()),
            Should::Free => return self.free(&api, volume).await,
        };
        // Nobody but a person takes a volume back that was released.
        let is_stuck = should == "Released" && matches!(phase, "Released" | "Failed");
        if should != phase && !is_stuck {
            // Of the volume that was looked at: what is said to be released, its driver may delete.
            let metadata = json!({"uid": volume.uid(), "resourceVersion": volume.resource_version()});
            let patch = Patch::Merge(json!({"metadata": metadata, "status": {"phase": should}}));
            // The change comes back, and the volume is looked at again.
            return api.patch_status(&volume.name_any(), &PatchParams::default(), &patch).await.map(drop);
        }
        if is_going && should != "Bound" && finalizers::has(volume, VOLUME) {
            // Not if it has changed: somebody may have taken it.
            let mut held = volume.metadata.finalizers.clone().unwrap_or_default();
            held.retain(|finalizer| finalizer != VOLUME);
            finalizers::patch(&api, volume, json!({"finalizers": held})).await?;
        }
        Ok(())
    }

    /// Frees a volume that was meant for a claim which has got another one: for everybody, or, where a person has chosen the claim, for
    /// a claim of that name.
    async fn free(&self, api: &Api<PersistentVolume>, volume: &PersistentVolume) -> Result<(), Error> {
        let claim_ref = match volume.annotations().contains_key(BY_CONTROLLER) {
            true => json!(null),
            false => json!({"uid": null, "resourceVersion": null}),
        };
        let metadata = json!({
            "uid": volume.uid(), "resourceVersion": volume.resource_version(), "annotations": {BY_CONTROLLER: null},
        });
        let patch = Patch::Merge(json!({"metadata": metadata, "spec": {"claimRef": claim_ref}}));
        api.patch(&volume.name_any(), &PatchParams::default(), &patch).await.map(drop)
    }

    async fn should_be(&self, volume: &PersistentVolume) -> Result<Should, Error> {
        let uid =
            volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.clone());
        let (Some(name), Some(uid)) = (claim_of(volume), uid) else { return Ok(Should::Be("Available")) };
        let is_its = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_ref() == Some(&uid);
        let claim = match self.context.claims.get(&name).filter(|claim| is_its(claim)) {
            Some(claim) => Some((*claim).clone()),
            // What is released may be deleted, so the cache is not enough.
            None => {
                let api: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.context.client.clone(), &name.namespace);
                api.get_opt(&name.name).await?.filter(is_its)
            }
        };
        let Some(claim) = claim else { return Ok(Should::Be("Released")) };
        Ok(match names::volume(&claim) {
            Some(bound) if *bound == volume.name_any() => Should::Be("Bound"),
            // What was made for the claim is nobody else's; what was there already holds what it held.
            Some(_) if volume.annotations().contains_key(names::PROVISIONED_BY) => Should::Be("Released"),
            Some(_) => Should::Free,
            None if claim.metadata.deletion_timestamp.is_some() => Should::Wait,
            None => {
                self.claims.add(name);
                Should::Wait
            }
        })
    }
}

/// What is to become of a volume.
enum Should {
    /// In this phase.
    Be(&'static str),
    /// Nothing, while its claim is about to have it.
    Wait,
    /// Free again.
    Free,
}
