//! The core group, `v1`.

pub mod claim;
mod config_map;
mod controller;
pub(super) mod endpoints;
pub(in crate::kinds) mod event;
mod limits;
mod namespace;
mod node;
pub mod pod;
mod resource_names;
mod scheduling;
mod secret;
mod service;
mod service_account;
mod transient;
pub mod volume;

use super::base::Kind;
use crate::resource::Resource;

/// The resources of the core group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    let kinds = [
        transient::binding(),
        transient::component_status(),
        config_map::kind(),
        endpoints::kind(),
        event::kind(),
        limits::range(),
        namespace::kind(),
        node::kind(),
        claim::kind(),
        volume::kind(),
        pod::kind(),
        controller::template(),
        controller::controller(),
        limits::quota(),
        secret::kind(),
        service_account::kind(),
        service::kind(),
    ];
    kinds.map(Kind::resource).into()
}

/// Now, as times are written.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The size of all values of a ConfigMap or Secret, in bytes.
const DATA_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
