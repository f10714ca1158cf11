//! VolumeSnapshotContents: their drivers cut snapshots, tell of them, and delete them.

use std::collections::BTreeMap;
use std::sync::Arc;

use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{CreateSnapshotRequest, DeleteSnapshotRequest, Snapshot};
use serde_json::{Value, json};

use super::calls::{self, Failed};
use super::names::{self, BEING_CREATED, BEING_DELETED, CONTENT_IS_BOUND, GROUP_HANDLE};
use super::types::{DeletionPolicy, VolumeSnapshotContent, VolumeSnapshotContentStatus};
use super::write::{self, Trouble};
use super::{Snapshots, source};
use crate::cache::Name;
use crate::queue::Next;

impl Snapshots {
    /// Does the next thing for a content.
    pub(super) async fn look_at_content(&self, content: &VolumeSnapshotContent) -> Result<Next, Trouble> {
        if is_settled(content) {
            return Ok(Next::Done);
        }
        let api = self.contents_api();
        // What is done to a driver is done by what holds now.
        let Some(mut content) = api.get_opt(write::name(content)).await? else { return Ok(Next::Done) };
        let spec = &content.spec;
        if spec.source.volume_handle.is_some() == spec.source.snapshot_handle.is_some() {
            let text = "spec.source: exactly one of volumeHandle and snapshotHandle must be set";
            self.context.events.warning(&content, "ContentValidationError", text).await;
            return Ok(Next::Done);
        }
        if self.context.setup.snapshot_controller
            && !spec.volume_snapshot_ref.uid.is_empty()
            && !write::is_deleted(&content)
            && let Some(finalizers) = write::with(&content, &[CONTENT_IS_BOUND])
        {
            content = write::patch(&api, &content, json!({"metadata": {"finalizers": finalizers}})).await?;
        }
        let Some(driver) = self.driver_for(&content, &content.spec.driver) else { return Ok(Next::Done) };
        if may_go(&content) {
            return self.delete(content, &driver).await;
        }
        let status = content.status.as_ref();
        if status.is_some_and(|status| status.ready_to_use == Some(true)) {
            self.unmark(content).await?;
            return Ok(Next::Done);
        }
        let handle = content.spec.source.snapshot_handle.clone();
        if let Some(handle) = handle {
            return self.ask(content, &driver, &handle).await;
        }
        if is_member(&content) {
            let handle = status.and_then(|status| status.snapshot_handle.clone());
            // Until its group tells its handle, there is nothing to ask.
            return match handle {
                Some(handle) => self.ask(content, &driver, &handle).await,
                None => Ok(Next::Done),
            };
        }
        self.cut(content, &driver).await
    }

    /// The driver of an object, if it is there, and the object is this process's.
    pub(super) fn driver_for<K: kube::Resource>(&self, object: &K, name: &str) -> Option<Arc<Driver>> {
        let labels = object.meta().labels.as_ref();
        let is_ours = self.context.setup.node.as_ref().is_none_or(|node| {
            labels.and_then(|labels| labels.get(names::MANAGED_BY)).is_some_and(|of| of == node)
        });
        self.context.drivers.get(name).filter(|_| is_ours)
    }

    /// Has the driver cut the snapshot, or tell how far the one is that it has cut.
    async fn cut(&self, content: VolumeSnapshotContent, driver: &Driver) -> Result<Next, Trouble> {
        let reason = "SnapshotCreationFailed";
        let request = match self.request(&content, driver).await {
            Ok(request) => request,
            Err(message) => return self.fail(&content, reason, &message).await,
        };
        let api = self.contents_api();
        let mut change = json!({"metadata": {"annotations": {BEING_CREATED: "yes"}}});
        let finalizers = write::with(&content, &[CONTENT_IS_BOUND]);
        // One that is cut already is only asked for.
        let is_marked = write::annotation(&content, BEING_CREATED).is_some()
            || content.status.as_ref().is_some_and(|status| status.snapshot_handle.is_some());
        if finalizers.is_some() && write::is_deleted(&content) {
            // Nothing holds it, so nothing must come of it.
            return Ok(Next::Done);
        }
        let mut content = content;
        if finalizers.is_some() || !is_marked {
            if let Some(finalizers) = finalizers {
                change["metadata"]["finalizers"] = json!(finalizers);
            }
            content = write::patch(&api, &content, change).await?;
        }
        let answer = match driver.client.create_snapshot(request).await {
            Ok(answer) => {
                answer.snapshot.filter(|snapshot| !snapshot.snapshot_id.is_empty()).ok_or_else(|| {
                    Failed::before(format!(
                        "driver {} answered CreateSnapshot without a snapshot",
                        driver.name
                    ))
                })
            }
            Err(error) => Err(error.into()),
        };
        match answer {
            Ok(snapshot) => {
                // The handle first: without it, nobody could delete the snapshot.
                let next = self.tell_content(&mut content, &snapshot).await?;
                self.unmark(content).await?;
                Ok(next)
            }
            Err(failed) => {
                if failed.is_final {
                    content = self.unmark(content).await?;
                }
                self.fail(&content, reason, &failed.message).await?;
                Ok(failed.next(write::uid(&content)))
            }
        }
    }

    /// Notes that no call of the driver may still cut the snapshot.
    async fn unmark(&self, content: VolumeSnapshotContent) -> Result<VolumeSnapshotContent, Trouble> {
        if write::annotation(&content, BEING_CREATED).is_none() {
            return Ok(content);
        }
        write::patch(
            &self.contents_api(),
            &content,
            json!({"metadata": {"annotations": {BEING_CREATED: null}}}),
        )
        .await
    }

    async fn request(
        &self,
        content: &VolumeSnapshotContent,
        driver: &Driver,
    ) -> Result<CreateSnapshotRequest, String> {
        let name = write::name(content);
        if !driver.controls(Call::CreateDeleteSnapshot) {
            return Err(format!("driver {} cannot take snapshots", driver.name));
        }
        let uid = &content.spec.volume_snapshot_ref.uid;
        if uid.is_empty() {
            return Err(format!(
                "spec.volumeSnapshotRef.uid of {name} is not set: nobody has asked for the snapshot"
            ));
        }
        let Some(class) = &content.spec.volume_snapshot_class_name else {
            return Err(format!("spec.volumeSnapshotClassName of {name} is not set"));
        };
        let class = self
            .classes
            .get(&Name::global(class))
            .ok_or(format!("VolumeSnapshotClass {class} is not there"))?;
        Ok(CreateSnapshotRequest {
            source_volume_id: content.spec.source.volume_handle.clone().unwrap_or_default(),
            name: names::snapshot(uid),
            parameters: names::for_driver(&source::parameters(class.parameters.as_ref()))?,
            secrets: self.secrets(content, names::SECRET).await?,
        })
    }

    /// Asks the driver of a snapshot that it has.
    async fn ask(
        &self,
        mut content: VolumeSnapshotContent,
        driver: &Driver,
        handle: &str,
    ) -> Result<Next, Trouble> {
        let answer = match self.secrets_to_list(&content).await {
            Ok(secrets) => calls::find(driver, handle, secrets).await,
            Err(message) => Err(Failed::before(message)),
        };
        match answer {
            Ok(snapshot) => self.tell_content(&mut content, &snapshot).await,
            Err(failed) => self.fail(&content, "SnapshotContentCheckandUpdateFailed", &failed.message).await,
        }
    }

    async fn secrets_to_list(
        &self,
        content: &VolumeSnapshotContent,
    ) -> Result<BTreeMap<String, String>, String> {
        if is_member(content) {
            return self.secrets(content, names::SECRET).await;
        }
        let Some(class) = &content.spec.volume_snapshot_class_name else { return Ok(BTreeMap::new()) };
        let class = self
            .classes
            .get(&Name::global(class))
            .ok_or(format!("VolumeSnapshotClass {class} is not there"))?;
        let parameters = source::parameters(class.parameters.as_ref());
        match names::secret(&parameters, names::Use::SnapshotterList, write::name(content), None)? {
            Some(place) => self.context.secret(&place.namespace, &place.name).await,
            None => Ok(BTreeMap::new()),
        }
    }

    /// Has a content say what its driver says. One that is not ready is asked for again.
    async fn tell_content(
        &self,
        content: &mut VolumeSnapshotContent,
        told: &Snapshot,
    ) -> Result<Next, Trouble> {
        if let Some(status) = status(content.status.as_ref(), told) {
            *content = write::patch_status(&self.contents_api(), content, status).await?;
        }
        Ok(if told.ready_to_use { Next::Done } else { Next::Again })
    }

    /// Says what has failed, once, and tries again.
    async fn fail(
        &self,
        content: &VolumeSnapshotContent,
        reason: &str,
        message: &str,
    ) -> Result<Next, Trouble> {
        let told = content.status.as_ref().and_then(|status| status.error.as_ref());
        if told.and_then(|error| error.message.as_deref()) != Some(message) {
            let status = json!({"readyToUse": false, "error": write::error(message)});
            write::patch_status(&self.contents_api(), content, status).await?;
            self.context.events.warning(content, reason, message).await;
        }
        Ok(Next::Again)
    }

    /// Has the driver delete the snapshot, if it is to go, and lets the content go.
    async fn delete(&self, mut content: VolumeSnapshotContent, driver: &Driver) -> Result<Next, Trouble> {
        let api = self.contents_api();
        let handle = content.status.as_ref().and_then(|status| status.snapshot_handle.clone());
        if let (DeletionPolicy::Delete, Some(handle), false) =
            (content.spec.deletion_policy, handle, is_member(&content))
        {
            let done = match self.secrets(&content, names::SECRET).await {
                Ok(secrets) => {
                    let request = DeleteSnapshotRequest { snapshot_id: handle.clone(), secrets };
                    driver.client.delete_snapshot(request).await.map(drop).map_err(|error| error.to_string())
                }
                Err(message) => Err(message),
            };
            if let Err(message) = done {
                let text = format!("cannot delete snapshot {handle}: {message}");
                self.context.events.warning(&content, "SnapshotDeleteError", text).await;
                return Ok(Next::Again);
            }
            let status = json!({"snapshotHandle": null, "readyToUse": null, "creationTime": null, "restoreSize": null});
            content = write::patch_status(&api, &content, status).await?;
        }
        if let Some(finalizers) = write::without(&content, &[CONTENT_IS_BOUND]) {
            write::patch(&api, &content, json!({"metadata": {"finalizers": finalizers}})).await?;
        }
        Ok(Next::Done)
    }
}

/// What of a content has to change for it to be worth another look: all but what is said here.
pub(super) fn matter(content: &VolumeSnapshotContent) -> impl PartialEq + use<> {
    let spec = &content.spec;
    // A member is told its handle by its group.
    let handle = content
        .status
        .as_ref()
        .filter(|_| is_member(content))
        .and_then(|status| status.snapshot_handle.clone());
    let of =
        (spec.volume_snapshot_ref.uid.clone(), spec.volume_snapshot_class_name.clone(), spec.deletion_policy);
    (write::matter(content, BEING_CREATED), of, handle)
}

/// Whether there is nothing to be done for a content, until it changes.
fn is_settled(content: &VolumeSnapshotContent) -> bool {
    let is_ready = content.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true));
    is_ready
        && !write::is_deleted(content)
        && write::annotation(content, BEING_CREATED).is_none()
        && (write::is_held(content, CONTENT_IS_BOUND) || content.spec.volume_snapshot_ref.uid.is_empty())
}

/// Whether a content that is to go may go: nobody has it, or who had it goes, and no call of its driver may still make it.
fn may_go(content: &VolumeSnapshotContent) -> bool {
    let spec = &content.spec;
    let is_nobodys = spec.source.snapshot_handle.is_some() && spec.volume_snapshot_ref.uid.is_empty();
    let is_told = write::annotation(content, BEING_DELETED).is_some();
    let is_known = write::annotation(content, BEING_CREATED).is_none();
    write::is_deleted(content) && (is_nobodys || is_told && is_known)
}

/// Whether it is of a group, which is cut and deleted as one.
fn is_member(content: &VolumeSnapshotContent) -> bool {
    let handle = content.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_ref());
    handle.is_some() || write::annotation(content, GROUP_HANDLE).is_some()
}

/// What a content's status lacks of what a driver says; `None` if it lacks nothing.
fn status(old: Option<&VolumeSnapshotContentStatus>, told: &Snapshot) -> Option<Value> {
    let none = VolumeSnapshotContentStatus::default();
    let old = old.unwrap_or(&none);
    let mut change = serde_json::Map::new();
    if old.snapshot_handle.is_none() {
        change.insert("snapshotHandle".into(), json!(told.snapshot_id));
    }
    if old.ready_to_use != Some(told.ready_to_use) {
        change.insert("readyToUse".into(), json!(told.ready_to_use));
    }
    if old.creation_time.is_none() {
        change.insert("creationTime".into(), json!(write::nanoseconds(told.creation_time)));
    }
    if old.restore_size.is_none() && told.size_bytes > 0 {
        change.insert("restoreSize".into(), json!(told.size_bytes));
    }
    if old.volume_group_snapshot_handle.is_none() && !told.group_snapshot_id.is_empty() {
        change.insert("volumeGroupSnapshotHandle".into(), json!(told.group_snapshot_id));
    }
    if old.error.is_some() {
        change.insert("error".into(), Value::Null);
    }
    (!change.is_empty()).then_some(Value::Object(change))
}

#[cfg(test)]
mod tests;
