//! VolumeGroupSnapshots: each gets a content for the volumes of the claims that it selects, and a VolumeSnapshot for each of them.

use client::cache::Name;
use client::queue::Next;
use kube::api::{DeleteParams, ListParams};
use kube::core::{Selector, SelectorExt as _};
use serde_json::{Value, json};

use super::names::{self, GROUP_CONTENT_IS_BOUND, GROUP_IS_BOUND};
use super::types::{VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeGroupSnapshotStatus};
use super::volume_snapshot::of_error;
use super::write::{self, Trouble};
use super::{SOON, Snapshots, is_for, member, points_at, source};
use crate::csi::finalizers;
use crate::csi::secrets::{Use, of_content};

/// A reason and what it means for this object.
type Refusal = (&'static str, String);

impl Snapshots {
    /// Does the next thing for a VolumeGroupSnapshot.
    pub(super) async fn look_at_group(&self, group: &VolumeGroupSnapshot) -> Result<Next, Trouble> {
        if write::is_deleted(group) {
            return self.remove_group(group).await;
        }
        let wanted = &group.spec.source;
        if wanted.selector.is_some() == wanted.volume_group_snapshot_content_name.is_some() {
            let text = "spec.source: exactly one of selector and volumeGroupSnapshotContentName must be set";
            self.refuse_group(group, &("GroupSnapshotValidationError", text.into())).await?;
            return Ok(Next::Done);
        }
        let api = self.groups_beside(group);
        // Before the content is there: a group that goes must find it.
        let group = write::hold(&api, group.clone(), GROUP_IS_BOUND).await?;
        match self.content_of_group(&group).await? {
            Ok(Some(content)) => self.tell_group(group, &content).await,
            Ok(None) => Ok(Next::After(SOON)),
            Err(refusal) => {
                self.refuse_group(&group, &refusal).await?;
                Ok(if bound(&group).is_some() { Next::Done } else { Next::Again })
            }
        }
    }

    /// The content of a group, bound to it; `None` where it has been made just now.
    async fn content_of_group(
        &self,
        group: &VolumeGroupSnapshot,
    ) -> Result<Result<Option<VolumeGroupSnapshotContent>, Refusal>, Trouble> {
        let api = self.group_contents_api();
        let named = group.spec.source.volume_group_snapshot_content_name.clone();
        let is_named = named.is_some();
        let name = bound(group).map(str::to_owned).or(named);
        let name = name.unwrap_or_else(|| names::group_content(write::uid(group)));
        let content = match self.group_contents.cache.get(&Name::global(&name)) {
            Some(content) => Some((*content).clone()),
            None => api.get_opt(&name).await?,
        };
        let Some(content) = content else {
            if is_named || bound(group).is_some() {
                let text = format!("VolumeGroupSnapshotContent {name} is not there");
                return Ok(Err(("GroupSnapshotContentMissing", text)));
            }
            return self.make_group_content(group, &name).await;
        };
        let spec = &content.spec;
        let reference = &spec.volume_group_snapshot_ref;
        if spec.source.group_snapshot_handles.is_some() != is_named {
            let text = if is_named {
                "is of a group that is cut of volumes"
            } else {
                "is of a group that was there before"
            };
            return Ok(Err((
                "GroupSnapshotContentMismatch",
                format!("VolumeGroupSnapshotContent {name} {text}"),
            )));
        }
        if points_at(reference, group) {
            return Ok(Ok(Some(content)));
        }
        if !is_named || !is_for(reference, group) || !reference.uid.is_empty() {
            let text = format!("VolumeGroupSnapshotContent {name} is for another VolumeGroupSnapshot");
            return Ok(Err(("GroupSnapshotContentMisbound", text)));
        }
        let mut change = json!({"spec": {"volumeGroupSnapshotRef": {"uid": write::uid(group)}}});
        if let (Some(class), None) =
            (&group.spec.volume_group_snapshot_class_name, &spec.volume_group_snapshot_class_name)
        {
            change["spec"]["volumeGroupSnapshotClassName"] = json!(class);
        }
        Ok(Ok(Some(write::patch(&api, &content, change).await?)))
    }

    /// Makes the content of a group of claims.
    async fn make_group_content(
        &self,
        group: &VolumeGroupSnapshot,
        name: &str,
    ) -> Result<Result<Option<VolumeGroupSnapshotContent>, Refusal>, Trouble> {
        let failed = |text: String| Ok(Err(("GroupSnapshotContentCreationFailed", text)));
        let found = self.volumes_of_group(group).and_then(|(driver, sources)| {
            let named = group.spec.volume_group_snapshot_class_name.as_deref();
            let class = source::class(&self.group_classes, named, &driver)?;
            let of = (write::namespace(group), write::name(group));
            let secret = of_content(Use::GroupSnapshotter, class.parameters.as_ref(), name, Some(of))?;
            Ok((sources, class, secret))
        });
        let (sources, class, secret) = match found {
            Ok(found) => found,
            Err(text) => return failed(text),
        };
        if group.spec.volume_group_snapshot_class_name.as_deref() != Some(write::name(&*class)) {
            let change = json!({"spec": {"volumeGroupSnapshotClassName": write::name(&*class)}});
            write::patch(&self.groups_beside(group), group, change).await?;
            return Ok(Ok(None));
        }
        let handles: Vec<&str> = sources.iter().map(|source| source.handle.as_str()).collect();
        let mut object = json!({
            "metadata": {"name": name, "finalizers": [GROUP_CONTENT_IS_BOUND]},
            "spec": {
                "volumeGroupSnapshotRef": {"apiVersion": <VolumeGroupSnapshot as kube::Resource>::api_version(&()),
                    "kind": "VolumeGroupSnapshot", "name": write::name(group), "namespace": write::namespace(group),
                    "uid": write::uid(group)},
                "source": {"volumeHandles": handles},
                "volumeGroupSnapshotClassName": write::name(&*class),
                "deletionPolicy": class.deletion_policy.name(),
                "driver": class.driver,
            },
        });
        if let Some(source) = sources.first()
            && let Some(node) = self.node_of(&source.volume)
        {
            object["metadata"]["labels"] = json!({names::MANAGED_BY: node});
        }
        if let Some(secret) = secret {
            let [name, namespace] = names::GROUP_SECRET;
            object["metadata"]["annotations"] = json!({name: secret.name, namespace: secret.namespace});
        }
        match write::create::<VolumeGroupSnapshotContent>(&self.context.client, None, object).await {
            Ok(_) => {
                let text = format!("the driver is asked for snapshots of {} volumes", sources.len());
                self.context.events.normal(group, "CreatingGroupSnapshot", text).await;
                Ok(Ok(None))
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Ok(None)),
            Err(error) => failed(format!("cannot make VolumeGroupSnapshotContent {name}: {error}")),
        }
    }

    /// The driver and the volumes of the claims that a group selects.
    fn volumes_of_group(&self, group: &VolumeGroupSnapshot) -> Result<(String, Vec<source::Source>), String> {
        let selector = group.spec.source.selector.clone().unwrap_or_default();
        let selector: Selector =
            selector.try_into().map_err(|error| format!("spec.source.selector cannot be used: {error}"))?;
        let claims = self.context.claims.find(|claim| {
            let labels = claim.metadata.labels.clone().unwrap_or_default();
            write::namespace(claim) == write::namespace(group) && selector.matches(&labels)
        });
        let sources: Result<Vec<_>, String> = claims.iter().map(|claim| self.volume_of(claim)).collect();
        let sources = sources?;
        let Some(first) = sources.first() else {
            return Err("no claim has the labels of spec.source.selector".into());
        };
        let driver = first.driver.clone();
        match sources.iter().find(|source| source.driver != driver) {
            Some(other) => {
                let names = [write::name(&*first.volume), write::name(&*other.volume)].join(" and ");
                Err(format!("volumes {names} are of two drivers, {driver} and {}", other.driver))
            }
            None => Ok((driver, sources)),
        }
    }

    /// Makes a group's members, and has the group say what its content says.
    async fn tell_group(
        &self,
        group: VolumeGroupSnapshot,
        content: &VolumeGroupSnapshotContent,
    ) -> Result<Next, Trouble> {
        if let Some(status) = &content.status
            && let Some(handle) = &status.volume_group_snapshot_handle
        {
            for info in &status.volume_snapshot_info_list {
                self.make_member(&group, content, handle, info).await?;
            }
        }
        let Some(status) = told(group.status.as_ref(), content) else { return Ok(Next::Done) };
        let new = write::patch_status(&self.groups_beside(&group), &group, status).await?;
        let (was, is) = (group.status.unwrap_or_default(), new.status.clone().unwrap_or_default());
        if is.creation_time.is_some() && was.creation_time.is_none() {
            let text = format!("driver {} has cut the snapshots", content.spec.driver);
            self.context.events.normal(&new, "GroupSnapshotCreated", text).await;
        }
        if is.ready_to_use == Some(true) && was.ready_to_use != Some(true) {
            self.context
                .events
                .normal(&new, "GroupSnapshotReady", "volumes can be made of the snapshots")
                .await;
        }
        Ok(Next::Done)
    }

    async fn refuse_group(
        &self,
        group: &VolumeGroupSnapshot,
        (reason, text): &Refusal,
    ) -> Result<(), Trouble> {
        let told = group.status.as_ref().and_then(|status| status.error.as_ref());
        let (api, events) = (self.groups_beside(group), &self.context.events);
        write::fail(events, &api, group, told, (*reason, text)).await
    }

    /// Does the next thing for a group that is to go: its content goes or stays, its members go after it.
    async fn remove_group(&self, group: &VolumeGroupSnapshot) -> Result<Next, Trouble> {
        if !finalizers::has(group, GROUP_IS_BOUND) {
            return Ok(Next::Done);
        }
        // The cache may lack what was made a moment ago.
        let snapshots = self.snapshots_beside(group);
        let mut members = snapshots.list(&ListParams::default()).await?.items;
        members.retain(|snapshot| member::is_of(snapshot, group));
        for snapshot in &members {
            if let Some(claim) = self.restoring(snapshot) {
                let name = write::name(snapshot);
                let text = format!(
                    "{claim} is being restored from snapshot {name} of the group, which stays until that is done"
                );
                self.context.events.warning(group, "SnapshotDeletePending", text).await;
                return Ok(Next::Again);
            }
        }
        let named = group.spec.source.volume_group_snapshot_content_name.clone();
        let name = bound(group).map(str::to_owned).or(named);
        let name = name.unwrap_or_else(|| names::group_content(write::uid(group)));
        let contents = self.group_contents_api();
        let content = contents.get_opt(&name).await?;
        let content = content.filter(|content| points_at(&content.spec.volume_group_snapshot_ref, group));
        let goes = match content {
            Some(content) => self.give_up(&content).await?,
            None => false,
        };
        for snapshot in members.iter().filter(|snapshot| !write::is_deleted(*snapshot)) {
            match snapshots.delete(write::name(snapshot), &DeleteParams::default()).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                done => drop(done?),
            }
        }
        if !goes {
            write::release(&self.groups_beside(group), group, &[GROUP_IS_BOUND]).await?;
        }
        Ok(Next::Done)
    }
}

/// What of a group has to change for it to be worth another look, as with [that of one snapshot](super::volume_snapshot).
pub(super) fn matter(group: &VolumeGroupSnapshot) -> impl PartialEq + use<> {
    let mut status = group.status.clone().unwrap_or_default();
    (status.error, status.ready_to_use) = (None, status.ready_to_use.filter(|is_ready| *is_ready));
    (write::matter(group, ""), group.metadata.finalizers.clone(), group.spec.clone(), status)
}

/// The content that a group is bound to.
pub(super) fn bound(group: &VolumeGroupSnapshot) -> Option<&str> {
    group.status.as_ref()?.bound_volume_group_snapshot_content_name.as_deref()
}

/// What a group's status lacks of what its content says; `None` if it lacks nothing.
fn told(status: Option<&VolumeGroupSnapshotStatus>, content: &VolumeGroupSnapshotContent) -> Option<Value> {
    let none = VolumeGroupSnapshotStatus::default();
    let old = status.unwrap_or(&none);
    let new = content.status.as_ref();
    let mut change = serde_json::Map::new();
    if old.bound_volume_group_snapshot_content_name.is_none() {
        change.insert("boundVolumeGroupSnapshotContentName".into(), json!(write::name(content)));
    }
    let is_ready = new.and_then(|new| new.ready_to_use).unwrap_or(false);
    if old.ready_to_use != Some(is_ready) {
        change.insert("readyToUse".into(), json!(is_ready));
    }
    if let (None, Some(time)) = (&old.creation_time, new.and_then(|new| new.creation_time.as_ref())) {
        change.insert("creationTime".into(), json!(time));
    }
    let error = new.and_then(|new| new.error.as_ref()).filter(|_| !is_ready);
    if old.error.as_ref() != error {
        change.insert("error".into(), error.map_or(Value::Null, of_error));
    }
    (!change.is_empty()).then_some(Value::Object(change))
}
