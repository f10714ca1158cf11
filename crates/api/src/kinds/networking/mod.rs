//! The group `networking.k8s.io`: who may talk to whom, and how traffic comes in.

mod ingress;
mod ingress_class;
mod ip_address;
mod network_policy;
mod service_cidr;

use super::base::Kind;
use crate::resource::Resource;

const GROUP: &str = "networking.k8s.io";

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [ingress_class::kind(), ingress::kind(), ip_address::kind(), network_policy::kind(), service_cidr::kind()]
        .map(Kind::resource)
        .into()
}
