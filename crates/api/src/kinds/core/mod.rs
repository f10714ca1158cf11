//! The core group, `v1`.

mod config_map;
mod namespace;
mod secret;
mod service_account;

use super::base::Kind;
use crate::resource::Resource;

/// The resources of the core group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [config_map::kind(), namespace::kind(), secret::kind(), service_account::kind()]
        .map(Kind::resource)
        .into()
}

/// The size of all values of a ConfigMap or Secret, in bytes.
const DATA_MAX: usize = 1 << 20;
