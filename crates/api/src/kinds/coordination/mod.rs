//! The group `coordination.k8s.io`: who leads.

mod lease;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![lease::kind().resource()]
}
