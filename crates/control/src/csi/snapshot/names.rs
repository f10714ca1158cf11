//! What the snapshotter has agreed on with the rest of Kubernetes: finalizers, annotations, names.

use sha2::{Digest as _, Sha256};

/// On a claim that a snapshot is being cut of.
pub(super) const CLAIM_IS_SOURCE: &str = "snapshot.storage.kubernetes.io/pvc-as-source-protection";
/// On a VolumeSnapshot: volumes may be made of it.
pub(super) const SNAPSHOT_IS_SOURCE: &str =
    "snapshot.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// On a VolumeSnapshot whose content goes with it.
pub(super) const SNAPSHOT_IS_BOUND: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
/// On a VolumeSnapshot that goes with its group.
pub(super) const SNAPSHOT_IN_GROUP: &str =
    "snapshot.storage.kubernetes.io/volumesnapshot-in-group-protection";
/// All that are put on VolumeSnapshots here.
pub(super) const OF_SNAPSHOTS: [&str; 3] = [SNAPSHOT_IS_SOURCE, SNAPSHOT_IS_BOUND, SNAPSHOT_IN_GROUP];
/// On a VolumeSnapshotContent: the snapshot is there.
pub(super) const CONTENT_IS_BOUND: &str =
    "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
/// On a VolumeGroupSnapshot.
pub(super) const GROUP_IS_BOUND: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-bound-protection";
/// On a VolumeGroupSnapshotContent.
pub(super) const GROUP_CONTENT_IS_BOUND: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshotcontent-bound-protection";

/// On a class: it is the default one of its driver.
pub(super) const IS_DEFAULT: &str = "snapshot.storage.kubernetes.io/is-default-class";
/// The same for groups.
pub(super) const GROUP_IS_DEFAULT: &str = "groupsnapshot.storage.kubernetes.io/is-default-class";
/// On a content: whether the driver has cut the snapshot is not known.
pub(super) const BEING_CREATED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-created";
/// The same for groups.
pub(super) const GROUP_BEING_CREATED: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-created";
/// On a content: its VolumeSnapshot is going, so it may.
pub(super) const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
/// The same for groups.
pub(super) const GROUP_BEING_DELETED: &str =
    "groupsnapshot.storage.kubernetes.io/volumegroupsnapshot-being-deleted";
/// On a content: it is a member of the group with this handle, and not cut alone.
pub(super) const GROUP_HANDLE: &str = "groupsnapshot.storage.k8s.io/volumeGroupSnapshotHandle";
/// On a content: the secret to create and delete it with, its name and its namespace.
pub(super) const SECRET: [&str; 2] = [
    "snapshot.storage.kubernetes.io/deletion-secret-name",
    "snapshot.storage.kubernetes.io/deletion-secret-namespace",
];
/// The same for groups.
pub(super) const GROUP_SECRET: [&str; 2] = [
    "groupsnapshot.storage.kubernetes.io/deletion-secret-name",
    "groupsnapshot.storage.kubernetes.io/deletion-secret-namespace",
];
/// A content's label: the node of its volume, where drivers are on each node.
pub(super) const MANAGED_BY: &str = "snapshot.storage.kubernetes.io/managed-by";

/// The content of a VolumeSnapshot of a claim.
pub(super) fn content(snapshot_uid: &str) -> String {
    format!("snapcontent-{snapshot_uid}")
}

/// What its snapshot is called to the driver.
pub(super) fn snapshot(snapshot_uid: &str) -> String {
    format!("snapshot-{snapshot_uid}")
}

/// The content of a VolumeGroupSnapshot of claims.
pub(super) fn group_content(group_uid: &str) -> String {
    format!("groupsnapcontent-{group_uid}")
}

/// What its group is called to the driver.
pub(super) fn group(group_uid: &str) -> String {
    format!("groupsnapshot-{group_uid}")
}

/// The VolumeSnapshot and the content of a group's member.
pub(super) fn member(group_uid: &str, volume_handle: &str) -> [String; 2] {
    let digest = Sha256::new().chain_update(group_uid).chain_update(volume_handle).finalize();
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("snapshot-{digits}"), format!("snapcontent-{digits}")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_uids() {
        assert_eq!(content("12-34"), "snapcontent-12-34");
        assert_eq!(snapshot("12-34"), "snapshot-12-34");
        let [one, its_content] = member("12-34", "volume");
        // As `printf 12-34volume | sha256sum` has it.
        let digits = "15db1d2b49a5f6c2b4cf2755ceb26a6266a34143e42d744ad866e58b5d7e9ba5";
        assert_eq!([&one, &its_content], [&format!("snapshot-{digits}"), &format!("snapcontent-{digits}")]);
        assert_ne!(member("12-34", "other")[0], one);
    }
}
