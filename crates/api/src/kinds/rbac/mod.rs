//! The group `rbac.authorization.k8s.io`: who may what. Whether somebody may grant it is not looked at here.

mod binding;
mod role;

use super::base::Kind;
use crate::resource::Resource;

const GROUP: &str = "rbac.authorization.k8s.io";

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [binding::cluster_kind(), role::cluster_kind(), binding::kind(), role::kind()].map(Kind::resource).into()
}
