//! The groups `snapshot.storage.k8s.io` and `groupsnapshot.storage.k8s.io`: snapshots of volumes. In a cluster they are
//! custom resources, and their rules are written in CEL; here they are kinds like the others, which say the same.

mod class;
mod content;
mod group;
mod group_content;
mod rules;
mod volume;

use super::base::Kind;
use crate::resource::Resource;

const GROUP: &str = "snapshot.storage.k8s.io";
const GROUPS: &str = "groupsnapshot.storage.k8s.io";

/// The resources of both groups.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [
        class::kind(),
        content::kind(),
        volume::kind(),
        class::group_kind(),
        group_content::kind(),
        group::kind(),
    ]
    .map(Kind::resource)
    .into()
}
