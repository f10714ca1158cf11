//! VolumeGroupSnapshotContents: their drivers cut groups of snapshots, tell of them, and delete them.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::cache::Name;
use client::queue::Next;
use csi::caller::Driver;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotRequest,
    VolumeGroupSnapshot as Told,
};
use serde_json::{Value, json};

use super::Snapshots;
use super::contents::{Content, may_go};
use super::names::{self, GROUP_CONTENT_IS_BOUND};
use super::types::{
    DeletionPolicy, GroupSnapshotHandles, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent,
    VolumeGroupSnapshotContentStatus,
};
use super::write::{self, Trouble};
use crate::csi::failure::Failure;
use crate::csi::finalizers;
use crate::csi::secrets::{self, Use};

impl Snapshots {
    /// Does the next thing for the content of a group.
    pub(super) async fn look_at_group_content(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<Next, Trouble> {
        let Some((content, driver)) = self.held(content).await? else { return Ok(Next::Done) };
        let content = if content.is_ready() { self.unmark(content).await? } else { content };
        if may_go(&content) {
            return self.delete_group(content, &driver).await;
        }
        if content.is_ready() {
            return Ok(Next::Done);
        }
        if !driver.has(Service::GroupControllerService) {
            let text = format!("driver {} cannot take snapshots of groups", driver.name);
            return self.fail(&content, VolumeGroupSnapshotContent::NOT_CREATED, &text).await;
        }
        match content.spec.source.group_snapshot_handles.clone() {
            Some(handles) => self.ask_for_group(content, &driver, handles).await,
            None => self.cut_group(content, &driver).await,
        }
    }

    /// Has the driver cut the group, or tell how far the one is that it has cut.
    async fn cut_group(&self, content: VolumeGroupSnapshotContent, driver: &Driver) -> Result<Next, Trouble> {
        let request = match self.group_request(&content).await {
            Ok(request) => request,
            Err(message) => {
                return self.fail(&content, VolumeGroupSnapshotContent::NOT_CREATED, &message).await;
            }
        };
        let Some(content) = self.mark(content).await? else { return Ok(Next::Done) };
        let answer = driver.client.create_volume_group_snapshot(request).await.map_err(Failure::Driver);
        let answer = answer.and_then(|answer| {
            let found = answer.group_snapshot.filter(|group| !group.group_snapshot_id.is_empty());
            found.ok_or_else(|| {
                let name = &driver.name;
                Failure::Other(format!("driver {name} answered CreateVolumeGroupSnapshot without a group"))
            })
        });
        match answer {
            Ok(group) => {
                let content = self.tell_group_content(content, &group).await?;
                let content = self.unmark(content).await?;
                if may_go(&content) {
                    return self.delete_group(content, driver).await;
                }
                Ok(if group.ready_to_use { Next::Done } else { Next::Again })
            }
            Err(failure) => self.not_created(content, &failure).await,
        }
    }

    async fn group_request(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<CreateVolumeGroupSnapshotRequest, String> {
        let uid = content.user();
        if uid.is_empty() {
            return Err(
                "spec.volumeGroupSnapshotRef.uid is not set: nobody has asked for the snapshots".into()
            );
        }
        let Some(class) = self.class_of_group_content(content)? else {
            return Err("spec.volumeGroupSnapshotClassName is not set".into());
        };
        Ok(CreateVolumeGroupSnapshotRequest {
            name: names::group(uid),
            source_volume_ids: content.spec.source.volume_handles.clone(),
            parameters: secrets::own_parameters(class.parameters.as_ref(), secrets::is_of_snapshots)?,
            secrets: self.secrets(content).await?,
        })
    }

    fn class_of_group_content(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<Option<Arc<VolumeGroupSnapshotClass>>, String> {
        let Some(class) = content.class() else { return Ok(None) };
        let found = self.group_classes.get(&Name::global(class));
        found.map(Some).ok_or_else(|| format!("VolumeGroupSnapshotClass {class} is not there"))
    }

    async fn secrets_to_get(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<BTreeMap<String, String>, String> {
        let Some(class) = self.class_of_group_content(content)? else { return Ok(BTreeMap::new()) };
        let name = write::name(content);
        self.secrets_to_ask(Use::GroupSnapshotterGet, class.parameters.as_ref(), name).await
    }

    /// Asks the driver of a group that was there before.
    async fn ask_for_group(
        &self,
        content: VolumeGroupSnapshotContent,
        driver: &Driver,
        handles: GroupSnapshotHandles,
    ) -> Result<Next, Trouble> {
        let answer = match self.secrets_to_get(&content).await {
            Ok(secrets) => {
                let request = GetVolumeGroupSnapshotRequest {
                    group_snapshot_id: handles.volume_group_snapshot_handle.clone(),
                    snapshot_ids: handles.volume_snapshot_handles,
                    secrets,
                };
                driver.client.get_volume_group_snapshot(request).await.map_err(Failure::Driver)
            }
            Err(message) => Err(message.into()),
        };
        let answer = answer.and_then(|answer| {
            answer.group_snapshot.ok_or(Failure::Other("the driver answered without a group".into()))
        });
        match answer {
            Ok(mut group) => {
                // Who has the handles has the contents of its members, too, as the user wrote them.
                group.snapshots.clear();
                group.group_snapshot_id = handles.volume_group_snapshot_handle;
                self.tell_group_content(content, &group).await?;
                Ok(if group.ready_to_use { Next::Done } else { Next::Again })
            }
            Err(failure) => {
                self.fail(&content, VolumeGroupSnapshotContent::NOT_TOLD, &failure.message()).await
            }
        }
    }

    async fn tell_group_content(
        &self,
        content: VolumeGroupSnapshotContent,
        told: &Told,
    ) -> Result<VolumeGroupSnapshotContent, Trouble> {
        match status(content.status.as_ref(), told) {
            Some(status) => write::patch_status(&self.group_contents_api(), &content, status).await,
            None => Ok(content),
        }
    }

    /// Has the driver delete the group, if it is to go, and lets the content go.
    async fn delete_group(
        &self,
        content: VolumeGroupSnapshotContent,
        driver: &Driver,
    ) -> Result<Next, Trouble> {
        if let Some((handle, snapshot_ids)) = to_delete(&content) {
            let done = match self.secrets(&content).await {
                Ok(secrets) => {
                    let group_snapshot_id = handle.clone();
                    let request =
                        DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets };
                    driver.client.delete_volume_group_snapshot(request).await.map_err(Failure::Driver)
                }
                Err(message) => Err(message.into()),
            };
            if let Err(why) = done {
                return Ok(self
                    .not_deleted(&content, &format!("the group of snapshots {handle}"), &why)
                    .await);
            }
        }
        self.let_go(&content).await
    }
}

/// The handles of the group that goes with a content, and of its members, as with [that of one snapshot](super::content).
fn to_delete(content: &VolumeGroupSnapshotContent) -> Option<(String, Vec<String>)> {
    if content.policy() != DeletionPolicy::Delete {
        return None;
    }
    let status = content.status.clone().unwrap_or_default();
    let said = content.spec.source.group_snapshot_handles.as_ref();
    let handle = status.volume_group_snapshot_handle.or_else(|| {
        let said = said.filter(|_| finalizers::has(content, GROUP_CONTENT_IS_BOUND));
        said.map(|said| said.volume_group_snapshot_handle.clone())
    })?;
    let members = status.volume_snapshot_info_list.into_iter().map(|info| info.snapshot_handle);
    let said = said.into_iter().flat_map(|said| said.volume_snapshot_handles.clone());
    Some((handle, members.chain(said).collect()))
}

/// What a content's status lacks of what a driver says; `None` if it lacks nothing.
fn status(old: Option<&VolumeGroupSnapshotContentStatus>, told: &Told) -> Option<Value> {
    let none = VolumeGroupSnapshotContentStatus::default();
    let old = old.unwrap_or(&none);
    let mut change = serde_json::Map::new();
    if old.volume_group_snapshot_handle.is_none() {
        change.insert("volumeGroupSnapshotHandle".into(), json!(told.group_snapshot_id));
    }
    if old.ready_to_use != Some(told.ready_to_use) {
        change.insert("readyToUse".into(), json!(told.ready_to_use));
    }
    if old.creation_time.is_none() {
        change.insert("creationTime".into(), json!(write::time(write::nanoseconds(told.creation_time))));
    }
    if old.volume_snapshot_info_list.is_empty() && !told.snapshots.is_empty() {
        let of = |snapshot: &csi::contract::v1::Snapshot| {
            let size = Some(snapshot.size_bytes).filter(|size| *size > 0);
            json!({"volumeHandle": snapshot.source_volume_id, "snapshotHandle": snapshot.snapshot_id,
                "creationTime": write::nanoseconds(snapshot.creation_time), "restoreSize": size,
                "readyToUse": snapshot.ready_to_use})
        };
        change.insert("volumeSnapshotInfoList".into(), told.snapshots.iter().map(of).collect());
    }
    if old.error.is_some() {
        change.insert("error".into(), Value::Null);
    }
    (!change.is_empty()).then_some(Value::Object(change))
}
