//! VolumeSnapshots that go: their contents go with them, or stay, as contents say.

use client::queue::Next;

use super::types::VolumeSnapshot;
use super::write::{self, Trouble};
use super::{Snapshots, bound, member, names, points_at, restored_from, source};
use crate::csi::finalizers;
use crate::csi::names::RESTORED;

impl Snapshots {
    /// Does the next thing for a VolumeSnapshot that is to go.
    pub(super) async fn remove_snapshot(&self, snapshot: &VolumeSnapshot) -> Result<Next, Trouble> {
        if !names::OF_SNAPSHOTS.iter().any(|finalizer| finalizers::has(snapshot, finalizer)) {
            return Ok(Next::Done);
        }
        // The cache may not have a content yet that was made a moment ago, and nobody would delete.
        let content = match content_of(snapshot) {
            Some(name) => self.contents_api().get_opt(&name).await?,
            None => None,
        };
        let content = content.filter(|content| points_at(&content.spec.volume_snapshot_ref, snapshot));
        if let (Some(_), Some(claim)) = (&content, self.restoring(snapshot)) {
            let text = format!("{claim} is being restored from the snapshot, which stays until that is done");
            self.context.events.warning(snapshot, "SnapshotDeletePending", text).await;
            return Ok(Next::Again);
        }
        if let Some(name) = member::group(snapshot)
            && let Some(group) = self.groups_beside(snapshot).get_opt(&name).await?
            && member::is_of(snapshot, &group)
        {
            if !write::is_deleted(&group) {
                let text =
                    format!("the snapshot is of VolumeGroupSnapshot {name}, and goes with it: delete that");
                self.context.events.warning(snapshot, "SnapshotDeletePending", text).await;
            }
            return Ok(Next::Again);
        }
        let goes = match content {
            Some(content) => self.give_up(&content).await?,
            None => false,
        };
        // The VolumeSnapshot stays until a content that goes with it is gone: its end is the snapshot's.
        if !goes {
            write::release(&self.snapshots_beside(snapshot), snapshot, &names::OF_SNAPSHOTS).await?;
        }
        Ok(Next::Done)
    }

    /// Who is being restored from a VolumeSnapshot. The provisioner's finalizer tells of a claim that the cache does not have yet; one that
    /// is to go gets none any more.
    pub(super) fn restoring(&self, snapshot: &VolumeSnapshot) -> Option<String> {
        let found = self.context.claims.find(|claim| {
            write::namespace(claim) == write::namespace(snapshot)
                && restored_from(claim) == Some(write::name(snapshot))
                && source::is_pending(claim)
        });
        let is_source = finalizers::has(snapshot, RESTORED).then(|| "a claim".to_owned());
        found.first().map(|claim| format!("claim {}", write::name(&**claim))).or(is_source)
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
