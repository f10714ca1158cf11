//! One volume: when its claim is gone, its driver deletes it.

use std::collections::BTreeMap;

use client::cache::{Cache, Name};
use client::queue::Next;
use csi::caller::Driver;
use csi::contract::v1::DeleteVolumeRequest;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::{Client, Error, ResourceExt as _};
use serde_json::json;

use super::topology::Place;
use super::{Provisioner, has_topology};
use crate::csi::reach::reaches;
use crate::csi::secrets::{Use, of_claim};
use crate::csi::{finalizers, names};

impl Provisioner {
    /// Does the next thing for a volume.
    pub(super) async fn look_at_volume(&self, name: &Name) -> Next {
        let Some(volume) = self.context.volumes.get(name) else { return Next::Done };
        let Some(driver) = driver_of(&volume).and_then(|name| self.driver(name)) else { return Next::Done };
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        if protect(&api, &volume).await.is_err() {
            return Next::Again;
        }
        if !is_due(&volume) {
            return Next::Done;
        }
        // What is deleted is never had again: the cache may be behind.
        let volume = match finalizers::again(&api, &*volume).await {
            Ok(Some(volume)) if is_due(&volume) => volume,
            Ok(_) => return Next::Done,
            Err(_) => return Next::Again,
        };
        match self.delete(&api, &volume, &driver).await {
            Ok(()) => Next::Done,
            Err(text) => {
                self.context.events.warning(&volume, "VolumeFailedDelete", text.clone()).await;
                // The phase stays Released: only of that one the sidecars, which may come after us, delete.
                let status = json!({"status": {"reason": "VolumeFailedDelete", "message": text}});
                let patch = Patch::Merge(status);
                let _ = api.patch_status(&volume.name_any(), &PatchParams::default(), &patch).await;
                Next::Again
            }
        }
    }

    async fn delete(
        &self,
        api: &Api<PersistentVolume>,
        volume: &PersistentVolume,
        driver: &Driver,
    ) -> Result<(), String> {
        let name = volume.name_any();
        let spec = volume.spec.clone().unwrap_or_default();
        let volume_id = spec.csi.map(|csi| csi.volume_handle).unwrap_or_default();
        if volume_id.is_empty() {
            return Err("spec.csi.volumeHandle: it is empty, so the driver has no volume to delete".into());
        }
        if self.context.setup.node.is_some() && has_topology(driver) {
            let places = self.places(driver).await.map_err(|failure| failure.text().to_owned())?;
            let is_here = |place: &Place| reaches(spec.node_affinity.as_ref(), &place.node, &place.labels);
            if !places.iter().any(is_here) {
                return Ok(());
            }
        }
        if let Some(claim) = self.holder(volume).await? {
            return Err(format!("claim {claim} still has the volume, though its phase is {}", phase(volume)));
        }
        if driver.controls(Call::PublishUnpublishVolume) {
            is_detached(&self.context.attachments, &self.context.client, &name).await?;
        }
        let secrets = self.deletion_secrets(volume).await?;
        let request = DeleteVolumeRequest { volume_id, secrets };
        driver.client.delete_volume(request).await.map_err(|error| error.to_string())?;
        let only = Preconditions { uid: volume.uid(), ..Default::default() };
        match api.delete(&name, &DeleteParams { preconditions: Some(only), ..Default::default() }).await {
            Err(Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            done => drop(done.map_err(|error| format!("cannot delete the volume's object: {error}"))?),
        }
        let freed = finalizers::remove(api, volume, names::VOLUME, &[]).await;
        freed.map_err(|error| format!("cannot take the finalizer from the volume: {error}"))
    }

    /// The claim that a volume belongs to, if it is there and has no other volume. Who says that a volume is released, and who gives it
    /// to a claim again, are not the same; what is deleted is never had again.
    async fn holder(&self, volume: &PersistentVolume) -> Result<Option<Name>, String> {
        let of = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let name = Name::new(of.namespace.unwrap_or_default(), of.name.unwrap_or_default());
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), &name.namespace);
        let claim =
            api.get_opt(&name.name).await.map_err(|error| format!("cannot read claim {name}: {error}"))?;
        let has_it = |claim: &PersistentVolumeClaim| {
            claim.uid() == of.uid && names::volume(claim).is_none_or(|its| *its == volume.name_any())
        };
        Ok(claim.filter(has_it).map(|_| name))
    }

    /// The secret that a volume names, or its class if it names none. One that is gone keeps nothing from being deleted: the driver says
    /// whether it needs it.
    async fn deletion_secrets(&self, volume: &PersistentVolume) -> Result<BTreeMap<String, String>, String> {
        let annotations = volume.annotations();
        let [name, namespace] = names::DELETION_SECRET.map(|key| annotations.get(key));
        let (name, namespace) = match (name, namespace) {
            (Some(name), Some(namespace)) => (name.clone(), namespace.clone()),
            _ => {
                let spec = volume.spec.clone().unwrap_or_default();
                let class =
                    spec.storage_class_name.and_then(|class| self.context.classes.get(&Name::global(class)));
                let (Some(class), Some(of)) = (class, spec.claim_ref) else { return Ok(BTreeMap::new()) };
                let mut claim = PersistentVolumeClaim::default();
                (claim.metadata.name, claim.metadata.namespace) = (of.name, of.namespace);
                match of_claim(Use::Provision, &class, &volume.name_any(), &claim)? {
                    Some(secret) => (secret.name, secret.namespace),
                    None => return Ok(BTreeMap::new()),
                }
            }
        };
        if name.is_empty() || namespace.is_empty() {
            return Ok(BTreeMap::new());
        }
        Ok(self.context.secret(&namespace, &name).await.unwrap_or_default())
    }
}

/// Fails where an attachment names a volume. One that comes needs no call; that there is none, the cache may say too early.
async fn is_detached(
    attachments: &Cache<VolumeAttachment>,
    client: &Client,
    volume: &str,
) -> Result<(), String> {
    let of = |one: &VolumeAttachment| one.spec.source.persistent_volume_name.as_deref() == Some(volume);
    let mut attached = attachments.find(of).first().map(|one| one.spec.node_name.clone());
    if attached.is_none() {
        let api: Api<VolumeAttachment> = Api::all(client.clone());
        let all = api.list(&ListParams::default()).await;
        let all = all.map_err(|error| format!("cannot list attachments: {error}"))?;
        attached = all.into_iter().find(of).map(|one| one.spec.node_name);
    }
    match attached {
        Some(node) => Err(format!("the volume is still attached to node {node}")),
        None => Ok(()),
    }
}

/// Who made a volume, or, where a person did, whose it is.
pub(super) fn driver_of(volume: &PersistentVolume) -> Option<&str> {
    let made = volume.annotations().get(names::PROVISIONED_BY).map(String::as_str);
    made.or_else(|| Some(volume.spec.as_ref()?.csi.as_ref()?.driver.as_str()))
}

fn policy(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref()).unwrap_or("Retain")
}

fn phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Whether the driver is to delete a volume.
fn is_due(volume: &PersistentVolume) -> bool {
    let is_held = finalizers::has(volume, names::VOLUME);
    let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    // One that was nobody's, or is kept for a claim that has not had it yet, is not released, whatever its phase says still. Without
    // the finalizer, one that is going has been deleted already.
    policy(volume) == "Delete"
        && claim.is_some_and(|claim| claim.uid.is_some())
        && matches!(phase(volume), "Released" | "Failed")
        && (is_held || volume.metadata.deletion_timestamp.is_none())
}

/// The object of a volume that is to be deleted with it is held until then, and one of a volume that is to stay is not.
async fn protect(api: &Api<PersistentVolume>, volume: &PersistentVolume) -> Result<(), Error> {
    let is_held = finalizers::has(volume, names::VOLUME);
    match policy(volume) {
        "Delete" if !is_held && volume.metadata.deletion_timestamp.is_none() && phase(volume) == "Bound" => {
            finalizers::add(api, volume, names::VOLUME).await.map(drop)
        }
        "Retain" | "Recycle" if is_held => finalizers::remove(api, volume, names::VOLUME, &[]).await,
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
