//! VolumeGroupSnapshotContents: their drivers cut groups of snapshots, tell of them, and delete them.

use std::collections::BTreeMap;

use csi::caller::Driver;
use csi::contract::v1::plugin_capability::service::Type as Service;
use csi::contract::v1::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotRequest,
    VolumeGroupSnapshot as Told,
};
use serde_json::{Value, json};

use super::calls::Failed;
use super::names::{self, GROUP_BEING_CREATED, GROUP_BEING_DELETED, GROUP_CONTENT_IS_BOUND};
use super::types::{
    DeletionPolicy, GroupSnapshotHandles, VolumeGroupSnapshotContent, VolumeGroupSnapshotContentStatus,
};
use super::write::{self, Trouble};
use super::{Snapshots, source};
use crate::cache::Name;
use crate::queue::Next;

impl Snapshots {
    /// Does the next thing for the content of a group.
    pub(super) async fn look_at_group_content(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<Next, Trouble> {
        let api = self.group_contents_api();
        let Some(mut content) = api.get_opt(write::name(content)).await? else { return Ok(Next::Done) };
        let spec = &content.spec;
        if spec.source.volume_handles.is_empty() == spec.source.group_snapshot_handles.is_none() {
            let text = "spec.source: exactly one of volumeHandles and groupSnapshotHandles must be set";
            self.context.events.warning(&content, "GroupContentValidationError", text).await;
            return Ok(Next::Done);
        }
        if self.context.setup.snapshot_controller
            && !spec.volume_group_snapshot_ref.uid.is_empty()
            && !write::is_deleted(&content)
            && let Some(finalizers) = write::with(&content, &[GROUP_CONTENT_IS_BOUND])
        {
            content = write::patch(&api, &content, json!({"metadata": {"finalizers": finalizers}})).await?;
        }
        let Some(driver) = self.driver_for(&content, &content.spec.driver) else { return Ok(Next::Done) };
        if may_go(&content) {
            return self.delete_group(content, &driver).await;
        }
        if content.status.as_ref().is_some_and(|status| status.ready_to_use == Some(true)) {
            self.unmark_group(content).await?;
            return Ok(Next::Done);
        }
        if !driver.has(Service::GroupControllerService) {
            let text = format!("driver {} cannot take snapshots of groups", driver.name);
            return self.fail_group(&content, "GroupSnapshotCreationFailed", &text).await;
        }
        match content.spec.source.group_snapshot_handles.clone() {
            Some(handles) => self.ask_for_group(content, &driver, handles).await,
            None => self.cut_group(content, &driver).await,
        }
    }

    /// Has the driver cut the group, or tell how far the one is that it has cut.
    async fn cut_group(
        &self,
        mut content: VolumeGroupSnapshotContent,
        driver: &Driver,
    ) -> Result<Next, Trouble> {
        let reason = "GroupSnapshotCreationFailed";
        let request = match self.group_request(&content).await {
            Ok(request) => request,
            Err(message) => return self.fail_group(&content, reason, &message).await,
        };
        let finalizers = write::with(&content, &[GROUP_CONTENT_IS_BOUND]);
        let is_marked = write::annotation(&content, GROUP_BEING_CREATED).is_some();
        if finalizers.is_some() && write::is_deleted(&content) {
            return Ok(Next::Done);
        }
        if finalizers.is_some() || !is_marked {
            let mut change = json!({"metadata": {"annotations": {GROUP_BEING_CREATED: "yes"}}});
            if let Some(finalizers) = finalizers {
                change["metadata"]["finalizers"] = json!(finalizers);
            }
            content = write::patch(&self.group_contents_api(), &content, change).await?;
        }
        let answer = match driver.client.create_volume_group_snapshot(request).await {
            Ok(answer) => {
                answer.group_snapshot.filter(|group| !group.group_snapshot_id.is_empty()).ok_or_else(|| {
                    let name = &driver.name;
                    Failed::before(format!(
                        "driver {name} answered CreateVolumeGroupSnapshot without a group"
                    ))
                })
            }
            Err(error) => Err(error.into()),
        };
        match answer {
            Ok(group) => {
                content = self.tell_group_content(content, &group).await?;
                self.unmark_group(content).await?;
                Ok(if group.ready_to_use { Next::Done } else { Next::Again })
            }
            Err(failed) => {
                if failed.is_final {
                    content = self.unmark_group(content).await?;
                }
                self.fail_group(&content, reason, &failed.message).await?;
                Ok(failed.next(write::uid(&content)))
            }
        }
    }

    async fn group_request(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<CreateVolumeGroupSnapshotRequest, String> {
        let uid = &content.spec.volume_group_snapshot_ref.uid;
        if uid.is_empty() {
            return Err(
                "spec.volumeGroupSnapshotRef.uid is not set: nobody has asked for the snapshots".into()
            );
        }
        Ok(CreateVolumeGroupSnapshotRequest {
            name: names::group(uid),
            source_volume_ids: content.spec.source.volume_handles.clone(),
            parameters: names::for_driver(&self.group_parameters(content)?)?,
            secrets: self.secrets(content, names::GROUP_SECRET).await?,
        })
    }

    /// Parameters of the class of a group.
    fn group_parameters(
        &self,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<BTreeMap<String, String>, String> {
        let Some(class) = &content.spec.volume_group_snapshot_class_name else {
            return Err("spec.volumeGroupSnapshotClassName is not set".into());
        };
        let found = self.group_classes.get(&Name::global(class));
        let class = found.ok_or_else(|| format!("VolumeGroupSnapshotClass {class} is not there"))?;
        Ok(source::parameters(class.parameters.as_ref()))
    }

    /// Asks the driver of a group that was there before.
    async fn ask_for_group(
        &self,
        content: VolumeGroupSnapshotContent,
        driver: &Driver,
        handles: GroupSnapshotHandles,
    ) -> Result<Next, Trouble> {
        let secrets = match &content.spec.volume_group_snapshot_class_name {
            None => Ok(BTreeMap::new()),
            Some(_) => match self.group_parameters(&content).and_then(|parameters| {
                names::secret(&parameters, names::Use::GroupSnapshotterGet, write::name(&content), None)
            }) {
                Ok(Some(place)) => self.context.secret(&place.namespace, &place.name).await,
                Ok(None) => Ok(BTreeMap::new()),
                Err(message) => Err(message),
            },
        };
        let answer = match secrets {
            Ok(secrets) => {
                let request = GetVolumeGroupSnapshotRequest {
                    group_snapshot_id: handles.volume_group_snapshot_handle.clone(),
                    snapshot_ids: handles.volume_snapshot_handles,
                    secrets,
                };
                driver.client.get_volume_group_snapshot(request).await.map_err(|error| error.to_string())
            }
            Err(message) => Err(message),
        };
        let answer = answer
            .and_then(|answer| answer.group_snapshot.ok_or("the driver answered without a group".into()));
        match answer {
            Ok(mut group) => {
                // Who has the handles has the contents of its members, too, as the user wrote them.
                group.snapshots.clear();
                group.group_snapshot_id = handles.volume_group_snapshot_handle;
                self.tell_group_content(content, &group).await?;
                Ok(if group.ready_to_use { Next::Done } else { Next::Again })
            }
            Err(message) => {
                self.fail_group(&content, "GroupSnapshotContentCheckandUpdateFailed", &message).await
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

    async fn unmark_group(
        &self,
        content: VolumeGroupSnapshotContent,
    ) -> Result<VolumeGroupSnapshotContent, Trouble> {
        if write::annotation(&content, GROUP_BEING_CREATED).is_none() {
            return Ok(content);
        }
        let change = json!({"metadata": {"annotations": {GROUP_BEING_CREATED: null}}});
        write::patch(&self.group_contents_api(), &content, change).await
    }

    async fn fail_group(
        &self,
        content: &VolumeGroupSnapshotContent,
        reason: &str,
        message: &str,
    ) -> Result<Next, Trouble> {
        let told = content.status.as_ref().and_then(|status| status.error.as_ref());
        if told.and_then(|error| error.message.as_deref()) != Some(message) {
            let status = json!({"readyToUse": false, "error": write::error(message)});
            write::patch_status(&self.group_contents_api(), content, status).await?;
            self.context.events.warning(content, reason, message).await;
        }
        Ok(Next::Again)
    }

    /// Has the driver delete the group, if it is to go, and lets the content go.
    async fn delete_group(
        &self,
        mut content: VolumeGroupSnapshotContent,
        driver: &Driver,
    ) -> Result<Next, Trouble> {
        let api = self.group_contents_api();
        let status = content.status.clone().unwrap_or_default();
        if let (DeletionPolicy::Delete, Some(handle)) =
            (content.spec.deletion_policy, status.volume_group_snapshot_handle)
        {
            let told = status.volume_snapshot_info_list.into_iter().map(|info| info.snapshot_handle);
            let said = content.spec.source.group_snapshot_handles.iter();
            let said = said.flat_map(|handles| handles.volume_snapshot_handles.clone());
            let snapshot_ids = told.chain(said).collect();
            let done = match self.secrets(&content, names::GROUP_SECRET).await {
                Ok(secrets) => {
                    let group_snapshot_id = handle.clone();
                    let request =
                        DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets };
                    let done = driver.client.delete_volume_group_snapshot(request).await;
                    done.map(drop).map_err(|error| error.to_string())
                }
                Err(message) => Err(message),
            };
            if let Err(message) = done {
                let text = format!("cannot delete the group of snapshots {handle}: {message}");
                self.context.events.warning(&content, "GroupSnapshotDeleteError", text).await;
                return Ok(Next::Again);
            }
        }
        if let Some(finalizers) = write::without(&content, &[GROUP_CONTENT_IS_BOUND]) {
            content = write::patch(&api, &content, json!({"metadata": {"finalizers": finalizers}})).await?;
        }
        drop(content);
        Ok(Next::Done)
    }
}

/// What of a content has to change for it to be worth another look: all but what is said here.
pub(super) fn matter(content: &VolumeGroupSnapshotContent) -> impl PartialEq + use<> {
    let spec = &content.spec;
    let class = spec.volume_group_snapshot_class_name.clone();
    let of = (spec.volume_group_snapshot_ref.uid.clone(), class, spec.deletion_policy);
    (write::matter(content, GROUP_BEING_CREATED), of)
}

/// Whether a content that is to go may go, as with [that of one snapshot](super::content).
fn may_go(content: &VolumeGroupSnapshotContent) -> bool {
    let spec = &content.spec;
    let is_nobodys =
        spec.source.group_snapshot_handles.is_some() && spec.volume_group_snapshot_ref.uid.is_empty();
    let is_told = write::annotation(content, GROUP_BEING_DELETED).is_some();
    let is_known = write::annotation(content, GROUP_BEING_CREATED).is_none();
    write::is_deleted(content) && (is_nobodys || is_told && is_known)
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
