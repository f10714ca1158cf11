//! The group `admissionregistration.k8s.io`: who else has a say before something is kept.

mod conditions;
mod mutating_policy;
mod policy;
mod policy_binding;
mod rules;
mod selectors;
mod service;
mod url;
mod webhook;

use super::base::Kind;
use crate::resource::Resource;

const GROUP: &str = "admissionregistration.k8s.io";
const CATEGORY: &str = "api-extensions";

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [
        mutating_policy::kind(),
        mutating_policy::binding_kind(),
        policy::kind(),
        policy_binding::kind(),
        webhook::mutating_kind(),
        webhook::validating_kind(),
    ]
    .map(Kind::resource)
    .into()
}
