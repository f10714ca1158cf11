//! The group `apiregistration.k8s.io`: who serves which group.

mod api_service;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![api_service::kind().resource()]
}
