//! The group `discovery.k8s.io`: where the pods of a service are.

mod endpoint_slice;
mod endpoints;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![endpoint_slice::kind().resource()]
}
