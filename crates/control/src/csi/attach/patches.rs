//! What is written into attachments and volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::finalizers;
use super::super::volume::now;
use super::{Attacher, NODE_ID, finalizer, is_attached};

impl Attacher {
    fn attachments_api(&self) -> Api<VolumeAttachment> {
        Api::all(self.context.client.clone())
    }

    async fn patch_status(&self, attachment: &VolumeAttachment, status: Value) -> Result<(), Failure> {
        let name = attachment.metadata.name.as_deref().unwrap_or_default();
        let patch = Patch::Merge(json!({ "metadata": { "uid": attachment.metadata.uid }, "status": status }));
        let answer = self.attachments_api().patch_status(name, &PatchParams::default(), &patch).await;
        answer.map(drop).map_err(|error| failed("attachment", attachment, &error))
    }

    /// Keeps a volume's object, which detaching needs.
    pub(super) async fn hold_volume(
        &self,
        volume: &PersistentVolume,
        finalizer: &str,
    ) -> Result<(), Failure> {
        if finalizers::has(volume, finalizer) {
            return Ok(());
        }
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let added = finalizers::add(&api, volume, finalizer).await;
        added.map(drop).map_err(|error| failed("volume", volume, &error))
    }

    /// Lets it go.
    pub(super) async fn release_volume(
        &self,
        volume: &PersistentVolume,
        finalizer: &str,
    ) -> Result<(), Failure> {
        let api: Api<PersistentVolume> = Api::all(self.context.client.clone());
        let removed = finalizers::remove(&api, volume, finalizer, &[]).await;
        removed.map_err(|error| failed("volume", volume, &error))
    }

    /// Keeps an attachment while its volume may be attached, and what detaching needs of its node.
    pub(super) async fn hold(&self, attachment: &VolumeAttachment, node: &str) -> Result<(), Failure> {
        let finalizer = finalizer(&attachment.spec.attacher);
        let is_held = finalizers::has(attachment, &finalizer);
        let remembered = attachment.metadata.annotations.iter().find_map(|all| all.get(NODE_ID));
        if is_held && remembered.is_some_and(|remembered| remembered == node) {
            return Ok(());
        }
        let mut all = attachment.metadata.finalizers.clone().unwrap_or_default();
        if !is_held {
            all.push(finalizer);
        }
        let metadata = json!({ "finalizers": all, "annotations": { NODE_ID: node } });
        let held = finalizers::patch(&self.attachments_api(), attachment, metadata).await;
        held.map(drop).map_err(|error| failed("attachment", attachment, &error))
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
        let finalizer = finalizer(&attachment.spec.attacher);
        if !finalizers::has(attachment, &finalizer) && !is_attached(attachment) {
            return Ok(());
        }
        let removed = finalizers::remove(&self.attachments_api(), attachment, &finalizer, &[]).await;
        removed.map_err(|error| failed("attachment", attachment, &error))?;
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

fn failed<K: Resource>(kind: &str, object: &K, error: &kube::Error) -> Failure {
    let name = object.meta().name.as_deref().unwrap_or_default();
    Failure::of(format_args!("change {kind} {name}"), error)
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
