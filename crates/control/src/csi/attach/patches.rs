//! What is written into attachments and volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::volume::now;
use super::{Attacher, NODE_ID, finalizer, is_attached};

impl Attacher {
    fn attachments_api(&self) -> Api<VolumeAttachment> {
        Api::all(self.context.client.clone())
    }

    async fn patch(&self, attachment: &VolumeAttachment, patch: Value) -> Result<(), Failure> {
        let name = attachment.metadata.name.as_deref().unwrap_or_default();
        let answer = self.attachments_api().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change attachment {name}"), &error))
    }

    async fn patch_status(&self, attachment: &VolumeAttachment, status: Value) -> Result<(), Failure> {
        let name = attachment.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(json!({ "metadata": { "uid": attachment.metadata.uid }, "status": status }));
        let answer = self.attachments_api().patch_status(name, &PatchParams::default(), &patch).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change attachment {name}"), &error))
    }

    async fn patch_volume(&self, volume: &PersistentVolume, patch: Value) -> Result<(), Failure> {
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let answer = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.map(drop).map_err(|error| Failure::of(format_args!("change volume {name}"), &error))
    }

    /// Keeps a volume's object, which detaching needs.
    pub(super) async fn hold_volume(
        &self,
        volume: &PersistentVolume,
        finalizer: &str,
    ) -> Result<(), Failure> {
        match with_finalizer(&volume.metadata, finalizer) {
            Some(metadata) => self.patch_volume(volume, json!({ "metadata": metadata })).await,
            None => Ok(()),
        }
    }

    /// Lets it go.
    pub(super) async fn release_volume(
        &self,
        volume: &PersistentVolume,
        finalizer: &str,
    ) -> Result<(), Failure> {
        match without_finalizer(&volume.metadata, finalizer) {
            Some(metadata) => match self.patch_volume(volume, json!({ "metadata": metadata })).await {
                Err(Failure::Stale)
                    if self.context.volumes.get(&crate::cache::Name::of(volume)).is_none() =>
                {
                    Ok(())
                }
                outcome => outcome,
            },
            None => Ok(()),
        }
    }

    /// Keeps an attachment while its volume may be attached, and what detaching needs of its node.
    pub(super) async fn hold(&self, attachment: &VolumeAttachment, node: &str) -> Result<(), Failure> {
        let metadata = &attachment.metadata;
        let held = with_finalizer(metadata, &finalizer(&attachment.spec.attacher));
        let remembered = metadata.annotations.as_ref().and_then(|annotations| annotations.get(NODE_ID));
        if held.is_none() && remembered.is_some_and(|remembered| remembered == node) {
            return Ok(());
        }
        let mut patch = held.unwrap_or_else(|| json!({ "resourceVersion": metadata.resource_version }));
        patch["annotations"] = json!({ NODE_ID: node });
        self.patch(attachment, json!({ "metadata": patch })).await
    }

    pub(super) async fn mark_attached(
        &self,
        attachment: &VolumeAttachment,
        context: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let before = attachment.status.as_ref().and_then(|status| status.attachment_metadata.as_ref());
        let status =
            json!({ "attached": true, "attachError": null, "attachmentMetadata": replaced(before, context) });
        self.patch_status(attachment, status).await
    }

    /// What was detached: without the finalizer first. An attachment that says `attached: false` and still has it would have to be
    /// detached once more.
    pub(super) async fn let_go(&self, attachment: &VolumeAttachment) -> Result<(), Failure> {
        let metadata = &attachment.metadata;
        if let Some(metadata) = without_finalizer(metadata, &finalizer(&attachment.spec.attacher)) {
            self.patch(attachment, json!({ "metadata": metadata })).await?;
        } else if !is_attached(attachment) {
            return Ok(());
        }
        let status = json!({ "attached": false, "detachError": null, "attachmentMetadata": null });
        match self.patch_status(attachment, status).await {
            // It went with its last finalizer.
            Err(Failure::Stale) => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes down why attaching or detaching failed.
    pub(super) async fn tell(&self, attachment: &VolumeAttachment, field: &str, failure: &Failure) {
        let mut error = json!({ "time": now(), "message": failure.message() });
        if let Some(code) = failure.code() {
            error["errorCode"] = json!(code as i32);
        }
        // Whatever comes of it: the failure is told again with the next one.
        let _ = self.patch_status(attachment, json!({ field: error })).await;
    }
}

/// The metadata of a patch that adds a finalizer to exactly what was read; nothing, where it is there.
pub(super) fn with_finalizer(metadata: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|name| name == finalizer) {
        return None;
    }
    finalizers.push(finalizer.to_owned());
    Some(json!({ "resourceVersion": metadata.resource_version, "finalizers": finalizers }))
}

/// The metadata of a patch that takes a finalizer from exactly what was read; nothing, where it is not there.
pub(super) fn without_finalizer(metadata: &ObjectMeta, finalizer: &str) -> Option<Value> {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    let before = finalizers.len();
    finalizers.retain(|name| name != finalizer);
    let is_other = finalizers.len() != before;
    is_other.then(|| json!({ "resourceVersion": metadata.resource_version, "finalizers": finalizers }))
}

/// A merge patch that leaves nothing of a map but what is in the new one.
pub(super) fn replaced(before: Option<&BTreeMap<String, String>>, new: BTreeMap<String, String>) -> Value {
    if new.is_empty() {
        return Value::Null;
    }
    let gone = before.into_iter().flat_map(BTreeMap::keys).filter(|key| !new.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null)).collect::<Vec<_>>();
    let all = new.into_iter().map(|(key, value)| (key, Value::String(value)));
    Value::Object(all.chain(gone).collect())
}
