//! VolumeSnapshots that go: their contents go with them, or stay, as contents say.

use kube::api::DeleteParams;
use serde_json::json;

use super::names::{self, SNAPSHOT_IN_GROUP, SNAPSHOT_IS_BOUND, SNAPSHOT_IS_SOURCE};
use super::types::{DeletionPolicy, VolumeSnapshot, VolumeSnapshotContent};
use super::write::{self, Trouble};
use super::{Snapshots, bound, member, points_at, restored_from, source};
use crate::queue::Next;

impl Snapshots {
    /// Does the next thing for a VolumeSnapshot that is to go.
    pub(super) async fn remove_snapshot(&self, snapshot: &VolumeSnapshot) -> Result<Next, Trouble> {
        let held = [SNAPSHOT_IS_SOURCE, SNAPSHOT_IS_BOUND, SNAPSHOT_IN_GROUP];
        if !held.iter().any(|finalizer| write::is_held(snapshot, finalizer)) {
            return Ok(Next::Done);
        }
        // The cache may not have a content yet that was made a moment ago, and nobody would delete.
        let content = match content_of(snapshot) {
            Some(name) => self.contents_api().get_opt(&name).await?,
            None => None,
        };
        let content = content.filter(|content| points_at(&content.spec.volume_snapshot_ref, snapshot));
        if let (Some(_), Some(claim)) = (&content, self.restoring(snapshot)) {
            let text =
                format!("claim {claim} is being restored from the snapshot, which stays until that is done");
            self.context.events.warning(snapshot, "SnapshotDeletePending", text).await;
            return Ok(Next::Again);
        }
        if let Some(group) = member::group(snapshot)
            && self.groups_beside(snapshot).get_opt(&group).await?.is_some()
        {
            let text =
                format!("the snapshot is of VolumeGroupSnapshot {group}, and goes with it: delete that");
            self.context.events.warning(snapshot, "SnapshotDeletePending", text).await;
            return Ok(Next::Again);
        }
        let goes =
            content.as_ref().is_some_and(|content| content.spec.deletion_policy == DeletionPolicy::Delete);
        if let Some(content) = content {
            self.let_go(&content, goes).await?;
        }
        self.release_claim(snapshot, Some(snapshot)).await?;
        // The VolumeSnapshot stays until a content that goes with it is gone: its end is the snapshot's.
        if let (false, Some(finalizers)) = (goes, write::without(snapshot, &held)) {
            let change = json!({"metadata": {"finalizers": finalizers}});
            write::patch(&self.snapshots_beside(snapshot), snapshot, change).await?;
        }
        Ok(Next::Done)
    }

    /// Tells the driver's part that a content may go, and has it go.
    async fn let_go(&self, content: &VolumeSnapshotContent, goes: bool) -> Result<(), Trouble> {
        let api = self.contents_api();
        if write::annotation(content, names::BEING_DELETED).is_none() {
            let change = json!({"metadata": {"annotations": {names::BEING_DELETED: "yes"}}});
            write::patch(&api, content, change).await?;
        }
        if goes && !write::is_deleted(content) {
            api.delete(write::name(content), &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// A claim that is being restored from a VolumeSnapshot.
    pub(super) fn restoring(&self, snapshot: &VolumeSnapshot) -> Option<String> {
        let found = self.context.claims.find(|claim| {
            write::namespace(claim) == write::namespace(snapshot)
                && restored_from(claim) == Some(write::name(snapshot))
                && source::is_pending(claim)
        });
        found.first().map(|claim| write::name(&**claim).to_owned())
    }
}

/// The content that a VolumeSnapshot has, or has if it has come that far.
fn content_of(snapshot: &VolumeSnapshot) -> Option<String> {
    if let Some(name) = bound(snapshot) {
        return Some(name.to_owned());
    }
    if let Some(name) = &snapshot.spec.source.volume_snapshot_content_name {
        return Some(name.clone());
    }
    match member::content_of(snapshot) {
        Some(name) => Some(name),
        None => Some(names::content(write::uid(snapshot))),
    }
}
