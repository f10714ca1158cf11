//! The groups `snapshot.storage.k8s.io` and `groupsnapshot.storage.k8s.io`: snapshots of volumes. In a cluster they are
//! custom resources, and their rules are written in CEL; here they are kinds like the others, which say the same.

mod class;
mod content;
mod group;
mod group_content;
mod rules;
mod volume;

use super::base::Kind;
use crate::contract::{Object, Result};
use crate::resource::Resource;

const GROUP: &str = "snapshot.storage.k8s.io";
const GROUPS: &str = "groupsnapshot.storage.k8s.io";

/// The resources of both groups.
#[must_use]
pub fn resources() -> Vec<Resource> {
    let one = [class::kind(), content::kind(), volume::kind()];
    let groups = VERSIONS
        .iter()
        .flat_map(|version| [class::group_kind(version), group_content::kind(version), group::kind(version)]);
    one.into_iter().chain(groups).map(Kind::resource).collect()
}

/// A version of the group kinds, as the snapshotter's definitions have them since its release 8.6: the same fields but for
/// one of the oldest, and conversion means that a version does not show what it does not know.
struct Version {
    name: &'static str,
    class: &'static str,
    content: &'static str,
    snapshot: &'static str,
    from_stored: fn(Object) -> Result<Object>,
    deprecated: bool,
}

const VERSIONS: [Version; 3] = [
    Version {
        name: "v1",
        class: "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotClass",
        content: "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshotContent",
        snapshot: "io.k8s.storage.groupsnapshot.v1.VolumeGroupSnapshot",
        from_stored: |object| Ok(told_as(object, "groupsnapshot.storage.k8s.io/v1", OLD_LIST)),
        deprecated: false,
    },
    Version {
        name: "v1beta2",
        class: "io.k8s.storage.groupsnapshot.v1beta2.VolumeGroupSnapshotClass",
        content: "io.k8s.storage.groupsnapshot.v1beta2.VolumeGroupSnapshotContent",
        snapshot: "io.k8s.storage.groupsnapshot.v1beta2.VolumeGroupSnapshot",
        from_stored: |object| Ok(told_as(object, STORED_VERSION, OLD_LIST)),
        deprecated: false,
    },
    Version {
        name: "v1beta1",
        class: "io.k8s.storage.groupsnapshot.v1beta1.VolumeGroupSnapshotClass",
        content: "io.k8s.storage.groupsnapshot.v1beta1.VolumeGroupSnapshotContent",
        snapshot: "io.k8s.storage.groupsnapshot.v1beta1.VolumeGroupSnapshot",
        from_stored: |object| Ok(told_as(object, "groupsnapshot.storage.k8s.io/v1beta1", LIST)),
        deprecated: true,
    },
];

const STORED_VERSION: &str = "groupsnapshot.storage.k8s.io/v1beta2";
/// Where a content lists its snapshots, now and in the oldest version.
const LIST: &str = "volumeSnapshotInfoList";
const OLD_LIST: &str = "volumeSnapshotHandlePairList";

fn told_as(mut object: Object, api_version: &str, unknown: &str) -> Object {
    object.0.insert("apiVersion".to_owned(), api_version.into());
    object.remove(&["status", unknown]);
    object
}

#[cfg(test)]
mod tests;

impl Version {
    /// A kind of this version, which shares its objects with the others.
    fn kind(
        &self,
        kind: &'static str,
        plural: &'static str,
        stored_as: &'static str,
        type_name: &'static str,
    ) -> Kind {
        let to_stored = |mut object: Object| {
            object.0.insert("apiVersion".to_owned(), STORED_VERSION.into());
            Ok(object)
        };
        let made = Kind::new(GROUPS, self.name, kind, plural, type_name)
            .stored(stored_as, STORED_VERSION)
            .converted(self.from_stored, to_stored);
        match (self.deprecated, kind) {
            (false, _) => made,
            (true, "VolumeGroupSnapshot") => made.deprecated(
                "groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshot is deprecated; use \
                 groupsnapshot.storage.k8s.io/v1 VolumeGroupSnapshot",
            ),
            (true, "VolumeGroupSnapshotClass") => made.deprecated(
                "groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshotClass is deprecated; use \
                 groupsnapshot.storage.k8s.io/v1 VolumeGroupSnapshotClass",
            ),
            (true, _) => made.deprecated(
                "groupsnapshot.storage.k8s.io/v1beta1 VolumeGroupSnapshotContent is deprecated; use \
                 groupsnapshot.storage.k8s.io/v1 VolumeGroupSnapshotContent",
            ),
        }
    }
}
