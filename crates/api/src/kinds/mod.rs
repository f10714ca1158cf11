//! The kinds that are built in.

pub mod admissionregistration;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod base;
pub mod batch;
pub mod certificates;
mod conditions;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
mod idle;
mod inside;
mod names;
pub mod networking;
pub mod node;
mod node_labels;
pub mod policy;
pub mod rbac;
pub mod scheduling;
mod shown;
pub mod snapshot;
pub mod storage;
mod template;
mod times;

use crate::resource::Resource;

/// All resources of built-in kinds, in every version that is served.
#[must_use]
pub fn builtin() -> Vec<Resource> {
    let groups = [
        core::resources,
        admissionregistration::resources,
        apiregistration::resources,
        apps::resources,
        authentication::resources,
        authorization::resources,
        autoscaling::resources,
        batch::resources,
        certificates::resources,
        coordination::resources,
        discovery::resources,
        events::resources,
        networking::resources,
        node::resources,
        policy::resources,
        rbac::resources,
        scheduling::resources,
        snapshot::resources,
        storage::resources,
    ];
    groups.into_iter().flat_map(|resources| resources()).chain([crate::crd::resource()]).collect()
}
