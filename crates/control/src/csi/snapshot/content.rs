//! VolumeSnapshotContents: their drivers cut snapshots, tell of them, and delete them.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::Name;
use client::queue::Next;
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::{CreateSnapshotRequest, DeleteSnapshotRequest, Snapshot};
use serde_json::{Value, json};

use super::contents::{self, Content, may_go};
use super::names::{self, CONTENT_IS_BOUND, GROUP_HANDLE};
use super::types::{DeletionPolicy, VolumeSnapshotClass, VolumeSnapshotContent, VolumeSnapshotContentStatus};
use super::write::{self, Trouble};
use super::{Snapshots, calls};
use crate::csi::failure::Failure;
use crate::csi::finalizers;
use crate::csi::secrets::{self, Use};

impl Snapshots {
    /// Does the next thing for a content.
    pub(super) async fn look_at_content(&self, content: &VolumeSnapshotContent) -> Result<Next, Trouble> {
        if is_settled(content) {
            return Ok(Next::Done);
        }
        let Some((content, driver)) = self.held(content).await? else { return Ok(Next::Done) };
        // What was told by a call is known, though who made it has ended before that was noted.
        let content = if content.is_ready() { self.unmark(content).await? } else { content };
        if may_go(&content) {
            return self.delete(content, &driver).await;
        }
        if content.is_ready() {
            return Ok(Next::Done);
        }
        if let Some(handle) = content.spec.source.snapshot_handle.clone() {
            return self.ask(content, &driver, &handle).await;
        }
        if is_member(&content) {
            let handle = content.status.as_ref().and_then(|status| status.snapshot_handle.clone());
            // Until its group tells its handle, there is nothing to ask.
            return match handle {
                Some(handle) => self.ask(content, &driver, &handle).await,
                None => Ok(Next::Done),
            };
        }
        self.cut(content, &driver).await
    }

    /// Has the driver cut the snapshot, or tell how far the one is that it has cut.
    async fn cut(&self, content: VolumeSnapshotContent, driver: &Driver) -> Result<Next, Trouble> {
        let request = match self.request(&content, driver).await {
            Ok(request) => request,
            Err(message) => return self.fail(&content, VolumeSnapshotContent::NOT_CREATED, &message).await,
        };
        // One that is cut already, too: a call that comes late, after the snapshot was deleted, would cut another.
        let Some(mut content) = self.mark(content).await? else { return Ok(Next::Done) };
        let answer =
            driver.client.create_snapshot(request).await.map_err(Failure::Driver).and_then(|answer| {
                let found = answer.snapshot.filter(|snapshot| !snapshot.snapshot_id.is_empty());
                found.ok_or_else(|| {
                    Failure::Other(format!(
                        "driver {} answered CreateSnapshot without a snapshot",
                        driver.name
                    ))
                })
            });
        match answer {
            Ok(snapshot) => {
                // The handle first: without it, nobody could delete the snapshot.
                let next = self.tell_content(&mut content, &snapshot).await?;
                let content = self.unmark(content).await?;
                // Nothing else would have it looked at that was to go meanwhile, and only waited for this.
                if may_go(&content) { self.delete(content, driver).await } else { Ok(next) }
            }
            Err(failure) => self.not_created(content, &failure).await,
        }
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
        let uid = content.user();
        if uid.is_empty() {
            return Err(format!(
                "spec.volumeSnapshotRef.uid of {name} is not set: nobody has asked for the snapshot"
            ));
        }
        let Some(class) = self.class_of_content(content)? else {
            return Err(format!("spec.volumeSnapshotClassName of {name} is not set"));
        };
        Ok(CreateSnapshotRequest {
            source_volume_id: content.spec.source.volume_handle.clone().unwrap_or_default(),
            name: names::snapshot(uid),
            parameters: secrets::own_parameters(class.parameters.as_ref(), secrets::is_of_snapshots)?,
            secrets: self.secrets(content).await?,
        })
    }

    fn class_of_content(
        &self,
        content: &VolumeSnapshotContent,
    ) -> Result<Option<Arc<VolumeSnapshotClass>>, String> {
        let Some(class) = content.class() else { return Ok(None) };
        let found = self.classes.get(&Name::global(class));
        found.map(Some).ok_or_else(|| format!("VolumeSnapshotClass {class} is not there"))
    }

    /// Asks the driver of a snapshot that it has.
    async fn ask(
        &self,
        mut content: VolumeSnapshotContent,
        driver: &Driver,
        handle: &str,
    ) -> Result<Next, Trouble> {
        let failure = match self.find(&content, driver, handle).await {
            Ok(Some(snapshot)) => return self.tell_content(&mut content, &snapshot).await,
            Ok(None) => format!("driver {} has no snapshot {handle}", driver.name),
            Err(failure) => failure.message(),
        };
        self.fail(&content, VolumeSnapshotContent::NOT_TOLD, &failure).await
    }

    async fn find(
        &self,
        content: &VolumeSnapshotContent,
        driver: &Driver,
        handle: &str,
    ) -> Result<Option<Snapshot>, Failure> {
        calls::find(driver, handle, self.secrets_to_list(content).await?).await
    }

    async fn secrets_to_list(
        &self,
        content: &VolumeSnapshotContent,
    ) -> Result<BTreeMap<String, String>, String> {
        if is_member(content) {
            return self.secrets(content).await;
        }
        let Some(class) = self.class_of_content(content)? else { return Ok(BTreeMap::new()) };
        let name = write::name(content);
        self.secrets_to_ask(Use::SnapshotterList, class.parameters.as_ref(), name).await
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

    /// Has the driver delete the snapshot, if it is to go, and lets the content go.
    async fn delete(&self, mut content: VolumeSnapshotContent, driver: &Driver) -> Result<Next, Trouble> {
        if let Some(handle) = unknown(&content) {
            match self.find(&content, driver, &handle).await {
                // Not as a user told it alone: a member of a group goes with that.
                Ok(Some(snapshot)) => drop(self.tell_content(&mut content, &snapshot).await?),
                Ok(None) => {}
                Err(why) => return Ok(self.not_deleted(&content, &format!("snapshot {handle}"), &why).await),
            }
        }
        if let Some(handle) = to_delete(&content) {
            let done = match self.secrets(&content).await {
                Ok(secrets) => {
                    let request = DeleteSnapshotRequest { snapshot_id: handle.clone(), secrets };
                    driver.client.delete_snapshot(request).await.map_err(Failure::Driver)
                }
                Err(message) => Err(message.into()),
            };
            if let Err(why) = done {
                return Ok(self.not_deleted(&content, &format!("snapshot {handle}"), &why).await);
            }
            let status = json!({"snapshotHandle": null, "readyToUse": null, "creationTime": null, "restoreSize": null});
            content = write::patch_status(&self.contents_api(), &content, status).await?;
        }
        self.let_go(&content).await
    }
}

/// The handle of the snapshot that goes with a content.
fn to_delete(content: &VolumeSnapshotContent) -> Option<String> {
    let goes = content.policy() == DeletionPolicy::Delete && !is_member(content);
    content.status.as_ref().filter(|_| goes)?.snapshot_handle.clone()
}

/// The handle of a snapshot that was there before and is to go, though its driver has not told of it: it was away, or has been told to
/// delete it.
fn unknown(content: &VolumeSnapshotContent) -> Option<String> {
    let is_told = content.status.as_ref().is_some_and(|status| status.snapshot_handle.is_some());
    let goes = content.policy() == DeletionPolicy::Delete && !is_member(content);
    let goes = goes && !is_told && finalizers::has(content, CONTENT_IS_BOUND);
    content.spec.source.snapshot_handle.clone().filter(|_| goes)
}

/// What of a content has to change for it to be worth another look: all but what is said here.
pub(super) fn matter(content: &VolumeSnapshotContent) -> impl PartialEq + use<> {
    // A member is told its handle by its group.
    let handle = content
        .status
        .as_ref()
        .filter(|_| is_member(content))
        .and_then(|status| status.snapshot_handle.clone());
    (contents::matter(content), handle)
}

/// Whether there is nothing to be done for a content, until it changes.
fn is_settled(content: &VolumeSnapshotContent) -> bool {
    content.is_ready()
        && !write::is_deleted(content)
        && write::annotation(content, names::BEING_CREATED).is_none()
        && (finalizers::has(content, CONTENT_IS_BOUND) || content.user().is_empty())
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
