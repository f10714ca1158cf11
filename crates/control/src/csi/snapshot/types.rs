//! The custom resources of snapshots, as far as they are read here. They are never written whole: unknown fields would be lost.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use k8s_openapi::{ClusterResourceScope, NamespaceResourceScope};
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

const GROUP: &str = "snapshot.storage.k8s.io";
const GROUPS: &str = "groupsnapshot.storage.k8s.io";
/// What clusters serve since release 8.3 of the snapshotter, v1 or not.
const GROUPS_VERSION: &str = "v1beta2";

macro_rules! resource {
    ($kind:ident, $scope:ident, $group:ident, $version:expr, $plural:literal) => {
        impl Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }

            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }

            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(VolumeSnapshot, NamespaceResourceScope, GROUP, "v1", "volumesnapshots");
resource!(VolumeSnapshotContent, ClusterResourceScope, GROUP, "v1", "volumesnapshotcontents");
resource!(VolumeSnapshotClass, ClusterResourceScope, GROUP, "v1", "volumesnapshotclasses");
resource!(VolumeGroupSnapshot, NamespaceResourceScope, GROUPS, GROUPS_VERSION, "volumegroupsnapshots");
resource!(
    VolumeGroupSnapshotContent,
    ClusterResourceScope,
    GROUPS,
    GROUPS_VERSION,
    "volumegroupsnapshotcontents"
);
resource!(
    VolumeGroupSnapshotClass,
    ClusterResourceScope,
    GROUPS,
    GROUPS_VERSION,
    "volumegroupsnapshotclasses"
);

/// What becomes of a snapshot with its object.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum DeletionPolicy {
    Delete,
    Retain,
}

impl DeletionPolicy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delete => "Delete",
            Self::Retain => "Retain",
        }
    }
}

/// What went wrong at last.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(super) struct SnapshotError {
    pub(super) message: Option<String>,
    pub(super) time: Option<Time>,
}

/// The user's snapshot that a content is of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct VolumeSnapshot {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: VolumeSnapshotSpec,
    pub(super) status: Option<VolumeSnapshotStatus>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotSpec {
    #[serde(default)]
    pub(super) source: VolumeSnapshotSource,
    pub(super) volume_snapshot_class_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotSource {
    pub(super) persistent_volume_claim_name: Option<String>,
    pub(super) volume_snapshot_content_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotStatus {
    pub(super) bound_volume_snapshot_content_name: Option<String>,
    pub(super) creation_time: Option<Time>,
    pub(super) ready_to_use: Option<bool>,
    /// As anybody may have written it: a text, or a number.
    pub(super) restore_size: Option<Value>,
    pub(super) error: Option<SnapshotError>,
    pub(super) volume_group_snapshot_name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct VolumeSnapshotContent {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: VolumeSnapshotContentSpec,
    pub(super) status: Option<VolumeSnapshotContentStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotContentSpec {
    #[serde(default)]
    pub(super) volume_snapshot_ref: Reference,
    pub(super) deletion_policy: DeletionPolicy,
    pub(super) driver: String,
    pub(super) volume_snapshot_class_name: Option<String>,
    #[serde(default)]
    pub(super) source: VolumeSnapshotContentSource,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotContentSource {
    pub(super) volume_handle: Option<String>,
    pub(super) snapshot_handle: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotContentStatus {
    pub(super) snapshot_handle: Option<String>,
    /// Nanoseconds since 1970.
    pub(super) creation_time: Option<i64>,
    pub(super) restore_size: Option<i64>,
    pub(super) ready_to_use: Option<bool>,
    pub(super) error: Option<SnapshotError>,
    pub(super) volume_group_snapshot_handle: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotClass {
    pub(super) metadata: ObjectMeta,
    pub(super) driver: String,
    pub(super) deletion_policy: DeletionPolicy,
    pub(super) parameters: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct VolumeGroupSnapshot {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: VolumeGroupSnapshotSpec,
    pub(super) status: Option<VolumeGroupSnapshotStatus>,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotSpec {
    #[serde(default)]
    pub(super) source: VolumeGroupSnapshotSource,
    pub(super) volume_group_snapshot_class_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotSource {
    pub(super) selector: Option<LabelSelector>,
    pub(super) volume_group_snapshot_content_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotStatus {
    pub(super) bound_volume_group_snapshot_content_name: Option<String>,
    pub(super) creation_time: Option<Time>,
    pub(super) ready_to_use: Option<bool>,
    pub(super) error: Option<SnapshotError>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct VolumeGroupSnapshotContent {
    pub(super) metadata: ObjectMeta,
    pub(super) spec: VolumeGroupSnapshotContentSpec,
    pub(super) status: Option<VolumeGroupSnapshotContentStatus>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotContentSpec {
    #[serde(default)]
    pub(super) volume_group_snapshot_ref: Reference,
    pub(super) deletion_policy: DeletionPolicy,
    pub(super) driver: String,
    pub(super) volume_group_snapshot_class_name: Option<String>,
    #[serde(default)]
    pub(super) source: VolumeGroupSnapshotContentSource,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotContentSource {
    #[serde(default)]
    pub(super) volume_handles: Vec<String>,
    pub(super) group_snapshot_handles: Option<GroupSnapshotHandles>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupSnapshotHandles {
    pub(super) volume_group_snapshot_handle: String,
    #[serde(default)]
    pub(super) volume_snapshot_handles: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotContentStatus {
    pub(super) volume_group_snapshot_handle: Option<String>,
    pub(super) creation_time: Option<Time>,
    pub(super) ready_to_use: Option<bool>,
    pub(super) error: Option<SnapshotError>,
    #[serde(default)]
    pub(super) volume_snapshot_info_list: Vec<VolumeSnapshotInfo>,
}

/// A member of a group, as its driver told it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeSnapshotInfo {
    pub(super) volume_handle: String,
    pub(super) snapshot_handle: String,
    /// Nanoseconds since 1970.
    pub(super) creation_time: Option<i64>,
    pub(super) restore_size: Option<i64>,
    pub(super) ready_to_use: Option<bool>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VolumeGroupSnapshotClass {
    pub(super) metadata: ObjectMeta,
    pub(super) driver: String,
    pub(super) deletion_policy: DeletionPolicy,
    pub(super) parameters: Option<BTreeMap<String, String>>,
}
