//! VolumeSnapshots: each gets a content, is bound to it, and tells how far it has come.

use client::quantity;
use client::queue::Next;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::{Value, json};

use super::types::{
    DeletionPolicy, SnapshotError, VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotStatus,
};
use super::write::{self, Trouble};
use super::{SOON, Snapshots, bound, is_for, is_ready, member, names, points_at, source};
use crate::csi::finalizers;
use crate::csi::secrets::{Use, of_content};

/// What a VolumeSnapshot asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// A snapshot of a claim's volume.
    Of(&'a str),
    /// The snapshot that a content tells of.
    Content(&'a str),
}

/// Why a VolumeSnapshot cannot have what it asks for.
struct Refusal {
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// How far a look has come that is not refused.
enum Found {
    Content(Box<VolumeSnapshotContent>),
    /// What there is to be done by now is done.
    Waits(Next),
}

impl Snapshots {
    /// Does the next thing for a VolumeSnapshot.
    pub(super) async fn look_at_snapshot(&self, snapshot: &VolumeSnapshot) -> Result<Next, Trouble> {
        if write::is_deleted(snapshot) {
            return self.remove_snapshot(snapshot).await;
        }
        let asked = match asked(snapshot) {
            Ok(asked) => asked,
            Err(message) => {
                self.refuse(snapshot, &Refusal::new("SnapshotValidationError", message)).await?;
                return Ok(Next::Done);
            }
        };
        let api = self.snapshots_beside(snapshot);
        let snapshot = write::hold(&api, snapshot.clone(), names::SNAPSHOT_IS_SOURCE).await?;
        let found = match (bound(&snapshot), asked) {
            (Some(name), _) => self.bound_content(&snapshot, name).await?,
            (None, Asked::Content(name)) => self.bind(&snapshot, name).await?,
            // Its group binds it.
            (None, Asked::Of(_)) if member::group(&snapshot).is_some() => Ok(Found::Waits(Next::Done)),
            (None, Asked::Of(_)) => self.make_content(&snapshot).await?,
        };
        match found {
            Ok(Found::Content(content)) => self.tell(snapshot, &content).await,
            Ok(Found::Waits(next)) => Ok(next),
            Err(refusal) => {
                self.refuse(&snapshot, &refusal).await?;
                // A content that has gone for ever is told by no failure that ends.
                Ok(if bound(&snapshot).is_some() { Next::Done } else { Next::Again })
            }
        }
    }

    /// The content that a VolumeSnapshot is bound to.
    async fn bound_content(
        &self,
        snapshot: &VolumeSnapshot,
        name: &str,
    ) -> Result<Result<Found, Refusal>, Trouble> {
        let Some(content) = self.find_content(name).await? else {
            let message =
                format!("VolumeSnapshotContent {name}, which it was bound to, is not there any more");
            return Ok(Err(Refusal::new("SnapshotContentMissing", message)));
        };
        if !points_at(&content.spec.volume_snapshot_ref, snapshot) {
            let message = format!("VolumeSnapshotContent {name}, which it is bound to, is not bound to it");
            return Ok(Err(Refusal::new("SnapshotMisbound", message)));
        }
        Ok(Ok(Found::Content(Box::new((*content).clone()))))
    }

    /// Binds a content that was there before to the VolumeSnapshot that asks for it.
    async fn bind(&self, snapshot: &VolumeSnapshot, name: &str) -> Result<Result<Found, Refusal>, Trouble> {
        let Some(content) = self.find_content(name).await? else {
            let message = format!("VolumeSnapshotContent {name} is not there");
            return Ok(Err(Refusal::new("SnapshotContentMissing", message)));
        };
        let reference = &content.spec.volume_snapshot_ref;
        if content.spec.source.snapshot_handle.is_none() {
            let message = format!(
                "VolumeSnapshotContent {name} is of a snapshot that is cut of a volume, not of one that was there before"
            );
            return Ok(Err(Refusal::new("SnapshotContentMismatch", message)));
        }
        if !is_for(reference, snapshot) || !reference.uid.is_empty() && !points_at(reference, snapshot) {
            let of = super::of(reference);
            let message =
                format!("VolumeSnapshotContent {name} is for another VolumeSnapshot, {of} {}", reference.uid);
            return Ok(Err(Refusal::new("SnapshotContentMisbound", message.trim_end())));
        }
        if points_at(reference, snapshot) {
            return Ok(Ok(Found::Content(Box::new((*content).clone()))));
        }
        if write::is_deleted(&*content) {
            let message = format!("VolumeSnapshotContent {name} is being deleted");
            return Ok(Err(Refusal::new("SnapshotContentMisbound", message)));
        }
        let mut change = json!({"spec": {"volumeSnapshotRef": {"uid": write::uid(snapshot)}},
            "metadata": {"finalizers": finalizers::with(&*content, names::CONTENT_IS_BOUND)}});
        if let (Some(class), None) =
            (&snapshot.spec.volume_snapshot_class_name, &content.spec.volume_snapshot_class_name)
        {
            change["spec"]["volumeSnapshotClassName"] = json!(class);
        }
        let content = write::patch(&self.contents_api(), &*content, change).await?;
        Ok(Ok(Found::Content(Box::new(content))))
    }

    /// Finds or makes the content of a VolumeSnapshot of a claim.
    async fn make_content(&self, snapshot: &VolumeSnapshot) -> Result<Result<Found, Refusal>, Trouble> {
        let name = names::content(write::uid(snapshot));
        if let Some(content) = self.find_content(&name).await? {
            let spec = &content.spec;
            return Ok(if spec.source.volume_handle.is_none() {
                let message =
                    format!("VolumeSnapshotContent {name} is not of a snapshot that is cut of a volume");
                Err(Refusal::new("SnapshotContentMismatch", message))
            } else if !points_at(&spec.volume_snapshot_ref, snapshot) {
                let message = format!("VolumeSnapshotContent {name} is for another VolumeSnapshot");
                Err(Refusal::new("SnapshotContentMisbound", message))
            } else {
                Ok(Found::Content(Box::new((*content).clone())))
            });
        }
        let failed = |message: String| Refusal::new("SnapshotContentCreationFailed", message);
        let made = self.claim_of(snapshot).and_then(|claim| {
            let (object, class) = self.new_content(snapshot, &claim, &name)?;
            Ok((claim, object, class))
        });
        let (claim, object, class) = match made {
            Ok(made) => made,
            Err(message) => return Ok(Err(failed(message))),
        };
        if snapshot.spec.volume_snapshot_class_name.as_deref() != Some(class.as_str()) {
            // Which class was the default one then is told for later.
            let change = json!({"spec": {"volumeSnapshotClassName": class}});
            write::patch(&self.snapshots_beside(snapshot), snapshot, change).await?;
            return Ok(Ok(Found::Waits(Next::After(SOON))));
        }
        match self.hold_claim(&claim).await {
            Err(Trouble::Failed(message)) => return Ok(Err(failed(message))),
            done => done?,
        }
        match write::create::<VolumeSnapshotContent>(&self.context.client, None, object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                return Ok(Ok(Found::Waits(Next::After(SOON))));
            }
            Err(error) => {
                return Ok(Err(failed(format!("cannot make VolumeSnapshotContent {name}: {error}"))));
            }
        }
        let text = format!("the driver is asked for a snapshot of claim {}", write::name(&*claim));
        self.context.events.normal(snapshot, "CreatingSnapshot", text).await;
        let status = json!({"boundVolumeSnapshotContentName": name, "readyToUse": false});
        write::patch_status(&self.snapshots_beside(snapshot), snapshot, status).await?;
        Ok(Ok(Found::Waits(Next::Done)))
    }

    /// A new content for a VolumeSnapshot of a claim, and its class.
    fn new_content(
        &self,
        snapshot: &VolumeSnapshot,
        claim: &PersistentVolumeClaim,
        name: &str,
    ) -> Result<(Value, String), String> {
        let source = self.volume_of(claim)?;
        let named = snapshot.spec.volume_snapshot_class_name.as_deref();
        let class = source::class(&self.classes, named, &source.driver)?;
        let of = (write::namespace(snapshot), write::name(snapshot));
        let secret = of_content(Use::Snapshotter, class.parameters.as_ref(), name, Some(of))?;
        let mut object = json!({
            "metadata": {"name": name, "finalizers": [names::CONTENT_IS_BOUND]},
            "spec": {
                "volumeSnapshotRef": {
                    "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "name": write::name(snapshot),
                    "namespace": write::namespace(snapshot), "uid": write::uid(snapshot),
                    "resourceVersion": snapshot.metadata.resource_version,
                },
                "source": {"volumeHandle": source.handle},
                "volumeSnapshotClassName": write::name(&*class),
                "deletionPolicy": class.deletion_policy.name(),
                "driver": class.driver,
            },
        });
        if let Some(mode) = source::mode(&source.volume) {
            object["spec"]["sourceVolumeMode"] = json!(mode);
        }
        if let Some(node) = self.node_of(&source.volume) {
            object["metadata"]["labels"] = json!({names::MANAGED_BY: node});
        }
        if let Some(secret) = secret {
            object["metadata"]["annotations"] =
                json!({names::SECRET[0]: secret.name, names::SECRET[1]: secret.namespace});
        }
        Ok((object, write::name(&*class).to_owned()))
    }

    /// Has a VolumeSnapshot say what its content says.
    async fn tell(
        &self,
        mut snapshot: VolumeSnapshot,
        content: &VolumeSnapshotContent,
    ) -> Result<Next, Trouble> {
        let api = self.snapshots_beside(&snapshot);
        if content.spec.deletion_policy == DeletionPolicy::Delete {
            snapshot = write::hold(&api, snapshot, names::SNAPSHOT_IS_BOUND).await?;
        }
        let handle =
            content.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_deref());
        let group = handle.and_then(|handle| self.group_of_handle(handle));
        let Some(status) = told(snapshot.status.as_ref(), content, group.as_deref()) else {
            return Ok(Next::Done);
        };
        let new = write::patch_status(&api, &snapshot, status).await?;
        let is_cut = |snapshot: &VolumeSnapshot| {
            snapshot.status.as_ref().is_some_and(|status| status.creation_time.is_some())
        };
        if is_cut(&new) && !is_cut(&snapshot) {
            let text = format!("driver {} has cut the snapshot", content.spec.driver);
            self.context.events.normal(&new, "SnapshotCreated", text).await;
        }
        if is_ready(&new) && !is_ready(&snapshot) {
            self.context.events.normal(&new, "SnapshotReady", "volumes can be made of the snapshot").await;
        }
        Ok(Next::Done)
    }

    /// Says why a VolumeSnapshot cannot have what it asks for, once.
    async fn refuse(&self, snapshot: &VolumeSnapshot, refusal: &Refusal) -> Result<(), Trouble> {
        let told = snapshot.status.as_ref().and_then(|status| status.error.as_ref());
        let (api, events) = (self.snapshots_beside(snapshot), &self.context.events);
        write::fail(events, &api, snapshot, told, (refusal.reason, &refusal.message)).await
    }
}

/// What a VolumeSnapshot asks for.
fn asked(snapshot: &VolumeSnapshot) -> Result<Asked<'_>, String> {
    let source = &snapshot.spec.source;
    match (&source.persistent_volume_claim_name, &source.volume_snapshot_content_name) {
        // A member of a group may be of a volume without a claim.
        (Some(claim), None) if !claim.is_empty() || member::group(snapshot).is_some() => Ok(Asked::Of(claim)),
        (None, Some(content)) if !content.is_empty() => Ok(Asked::Content(content)),
        _ => Err(
            "spec.source: exactly one of persistentVolumeClaimName and volumeSnapshotContentName must be set"
                .into(),
        ),
    }
}

/// What a VolumeSnapshot's status lacks of what its content, and so the driver, says; `None` if it lacks nothing.
fn told(
    status: Option<&VolumeSnapshotStatus>,
    content: &VolumeSnapshotContent,
    group: Option<&str>,
) -> Option<Value> {
    let none = VolumeSnapshotStatus::default();
    let old = status.unwrap_or(&none);
    let new = content.status.as_ref();
    let mut change = serde_json::Map::new();
    if old.bound_volume_snapshot_content_name.is_none() {
        change.insert("boundVolumeSnapshotContentName".into(), json!(write::name(content)));
    }
    let is_ready = new.and_then(|new| new.ready_to_use).unwrap_or(false);
    if old.ready_to_use != Some(is_ready) {
        change.insert("readyToUse".into(), json!(is_ready));
    }
    let time = new.and_then(|new| new.creation_time).and_then(write::time);
    if let (None, Some(time)) = (&old.creation_time, time) {
        change.insert("creationTime".into(), json!(time));
    }
    let is_sized = old.restore_size.as_ref().is_some_and(|size| *size != json!("0") && *size != json!(0));
    if let (false, Some(size @ 1..)) = (is_sized, new.and_then(|new| new.restore_size)) {
        change.insert("restoreSize".into(), json!(quantity::of(size)));
    }
    let error = new.and_then(|new| new.error.as_ref()).filter(|_| !is_ready);
    if old.error.as_ref() != error {
        change.insert("error".into(), error.map_or(Value::Null, of_error));
    }
    if let (None, Some(group)) = (&old.volume_group_snapshot_name, group) {
        change.insert("volumeGroupSnapshotName".into(), json!(group));
    }
    (!change.is_empty()).then_some(Value::Object(change))
}

/// What of a VolumeSnapshot has to change for it to be worth another look: all but what is refused here, which would else be tried again
/// at once, and not later each time.
pub(super) fn matter(snapshot: &VolumeSnapshot) -> impl PartialEq + use<> {
    let mut status = snapshot.status.clone().unwrap_or_default();
    (status.error, status.ready_to_use) = (None, Some(is_ready(snapshot)));
    let finalizers = snapshot.metadata.finalizers.clone();
    (write::matter(snapshot, ""), finalizers, snapshot.spec.clone(), status)
}

/// An error of another status.
pub(super) fn of_error(error: &SnapshotError) -> Value {
    json!({"message": error.message, "time": error.time})
}

#[cfg(test)]
mod tests;
