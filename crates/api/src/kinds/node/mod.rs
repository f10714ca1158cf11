//! The group `node.k8s.io`: how containers run.

mod runtime_class;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![runtime_class::kind().resource()]
}
