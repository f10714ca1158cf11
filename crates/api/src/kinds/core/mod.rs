//! The core group, `v1`.

pub mod claim;
mod config_map;
mod namespace;
pub mod pod;
mod resource_names;
mod scheduling;
mod secret;
mod service_account;
pub mod volume;

use super::base::Kind;
use crate::resource::Resource;

/// The resources of the core group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [
        config_map::kind(),
        namespace::kind(),
        pod::kind(),
        secret::kind(),
        service_account::kind(),
        volume::kind(),
        claim::kind(),
    ]
    .map(Kind::resource)
    .into()
}

/// Now, as times are written.
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The size of all values of a ConfigMap or Secret, in bytes.
const DATA_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
