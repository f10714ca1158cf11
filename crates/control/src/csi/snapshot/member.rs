//! Members of groups: each snapshot of a group has a VolumeSnapshot and a content of its own, which go with the group.

use kube::Resource;
use serde_json::json;

use super::Snapshots;
use super::names::{self, CONTENT_IS_BOUND, GROUP_HANDLE, SNAPSHOT_IN_GROUP};
use super::source;
use super::types::{
    VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshot, VolumeSnapshotContent,
    VolumeSnapshotInfo,
};
use super::write::{self, Trouble};

impl Snapshots {
    /// The name of the VolumeGroupSnapshot with this handle.
    pub(super) fn group_of_handle(&self, handle: &str) -> Option<String> {
        let found = self.group_contents.cache.find(|content| {
            let told =
                content.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_deref());
            let said = content.spec.source.group_snapshot_handles.as_ref();
            told == Some(handle) || said.is_some_and(|handles| handles.volume_group_snapshot_handle == handle)
        });
        found.first().map(|content| content.spec.volume_group_snapshot_ref.name.clone())
    }

    /// Makes what is not there yet of a member: the VolumeSnapshot first, which the group deletes with all that it is bound to.
    pub(super) async fn make_member(
        &self,
        group: &VolumeGroupSnapshot,
        of: &VolumeGroupSnapshotContent,
        handle: &str,
        info: &VolumeSnapshotInfo,
    ) -> Result<(), Trouble> {
        let [name, content_name] = names::member(write::uid(group), &info.volume_handle);
        let snapshots = self.snapshots_beside(group);
        let volume = self.context.volumes.find(|volume| {
            let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            csi.is_some_and(|csi| csi.driver == of.spec.driver && csi.volume_handle == info.volume_handle)
        });
        let volume = volume.first();
        let claim = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref()?.name.clone());
        let snapshot = match snapshots.get_opt(&name).await? {
            Some(snapshot) => snapshot,
            None => {
                let object = json!({
                    "metadata": {"name": name, "finalizers": [SNAPSHOT_IN_GROUP], "ownerReferences": [{
                        "apiVersion": VolumeGroupSnapshot::api_version(&()), "kind": "VolumeGroupSnapshot",
                        "name": write::name(group), "uid": write::uid(group)}]},
                    "spec": {"source": {"persistentVolumeClaimName": claim.unwrap_or_default()}},
                });
                let namespace = write::namespace(group);
                write::create::<VolumeSnapshot>(&self.context.client, Some(namespace), object).await?;
                snapshots.get(&name).await?
            }
        };
        let contents = self.contents_api();
        let content = match contents.get_opt(&content_name).await? {
            Some(content) => content,
            None => {
                let mut object = json!({
                    "metadata": {"name": content_name, "finalizers": [CONTENT_IS_BOUND], "annotations": {GROUP_HANDLE: handle}},
                    "spec": {
                        "volumeSnapshotRef": {"apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot",
                            "name": name, "namespace": write::namespace(group), "uid": write::uid(&snapshot)},
                        "source": {"volumeHandle": info.volume_handle},
                        "deletionPolicy": of.spec.deletion_policy.name(),
                        "driver": of.spec.driver,
                    },
                });
                if let Some(mode) = volume.and_then(|volume| source::mode(volume)) {
                    object["spec"]["sourceVolumeMode"] = json!(mode);
                }
                if let [Some(name), Some(namespace)] =
                    names::GROUP_SECRET.map(|key| write::annotation(of, key))
                {
                    object["metadata"]["annotations"][names::SECRET[0]] = json!(name);
                    object["metadata"]["annotations"][names::SECRET[1]] = json!(namespace);
                }
                if let Some(node) =
                    of.metadata.labels.as_ref().and_then(|labels| labels.get(names::MANAGED_BY))
                {
                    object["metadata"]["labels"] = json!({names::MANAGED_BY: node});
                }
                write::create::<VolumeSnapshotContent>(&self.context.client, None, object).await?;
                contents.get(&content_name).await?
            }
        };
        if content.status.as_ref().is_none_or(|status| status.snapshot_handle.is_none())
            && !write::is_deleted(&content)
        {
            let status = json!({"snapshotHandle": info.snapshot_handle, "volumeGroupSnapshotHandle": handle,
                "creationTime": info.creation_time, "restoreSize": info.restore_size, "readyToUse": info.ready_to_use});
            write::patch_status(&contents, &content, status).await?;
        }
        if super::bound(&snapshot).is_none() && !write::is_deleted(&snapshot) {
            let status = json!({"boundVolumeSnapshotContentName": content_name,
                "volumeGroupSnapshotName": write::name(group)});
            write::patch_status(&snapshots, &snapshot, status).await?;
        }
        Ok(())
    }
}

/// The VolumeGroupSnapshot that a VolumeSnapshot is a member of.
pub(super) fn group(snapshot: &VolumeSnapshot) -> Option<String> {
    let told = snapshot.status.as_ref().and_then(|status| status.volume_group_snapshot_name.clone());
    told.or_else(|| owner(snapshot).map(|(name, _)| name.to_owned()))
}

/// Whether a VolumeSnapshot is a member of a group.
pub(super) fn is_of(snapshot: &VolumeSnapshot, of: &VolumeGroupSnapshot) -> bool {
    write::namespace(snapshot) == write::namespace(of)
        && match owner(snapshot) {
            Some((_, uid)) => uid == write::uid(of),
            None => group(snapshot).as_deref() == Some(write::name(of)),
        }
}

/// The content of a VolumeSnapshot that was made for a group.
pub(super) fn content_of(snapshot: &VolumeSnapshot) -> Option<String> {
    owner(snapshot)?;
    write::name(snapshot).strip_prefix("snapshot-").map(|digits| format!("snapcontent-{digits}"))
}

fn owner(snapshot: &VolumeSnapshot) -> Option<(&str, &str)> {
    let owners = snapshot.metadata.owner_references.iter().flatten();
    let mut groups = owners.filter(|owner| owner.kind == "VolumeGroupSnapshot");
    groups.next().map(|owner| (owner.name.as_str(), owner.uid.as_str()))
}
