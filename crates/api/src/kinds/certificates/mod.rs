//! The group `certificates.k8s.io`: requests for certificates.

mod conditions;
mod pem;
mod signing_request;

use crate::resource::Resource;

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![signing_request::kind().resource()]
}
