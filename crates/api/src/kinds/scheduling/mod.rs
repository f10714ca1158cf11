//! The group `scheduling.k8s.io`: which pods come first.

mod priority_class;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![priority_class::kind().resource()]
}
