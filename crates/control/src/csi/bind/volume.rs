//! One volume.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, Patch, PatchParams};
use kube::{Error, ResourceExt as _};
use serde_json::json;

use super::{Binder, VOLUME, claim_of};
use crate::cache::Name;
use crate::csi::{finalizers, names};
use crate::queue::Next;

impl Binder {
    pub(super) async fn look_at_volume(&self, name: &Name) -> Next {
        let Some(volume) = self.context.volumes.get(name) else { return Next::Done };
        self.volume_step(&volume).await.map_or(Next::Again, |()| Next::Done)
    }

    async fn volume_step(&self, volume: &PersistentVolume) -> Result<(), Error> {
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let is_going = volume.metadata.deletion_timestamp.is_some();
        let should = self.should_be(volume).await?;
        // Nobody but a person takes a volume back that was released.
        let is_stuck = should != "Available" && should != "Bound" && matches!(phase, "Released" | "Failed");
        if should != phase && !should.is_empty() && !is_stuck {
            let patch = json!({"metadata": {"uid": volume.uid()}, "status": {"phase": should}});
            api.patch_status(&volume.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        if is_going && should != "Bound" && !should.is_empty() && finalizers::has(volume, VOLUME) {
            finalizers::remove(&api, volume, VOLUME, &[]).await?;
        }
        Ok(())
    }

    /// The phase that a volume should be in; nothing while its claim is about to have it.
    async fn should_be(&self, volume: &PersistentVolume) -> Result<&'static str, Error> {
        let uid =
            volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.clone());
        let (Some(name), Some(uid)) = (claim_of(volume), uid) else { return Ok("Available") };
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
        let Some(claim) = claim else { return Ok("Released") };
        match names::volume(&claim) {
            Some(bound) if *bound == volume.name_any() => Ok("Bound"),
            Some(_) => Ok("Released"),
            None if claim.metadata.deletion_timestamp.is_some() => Ok(""),
            None => {
                self.claims.add(name);
                Ok("")
            }
        }
    }
}
