//! The kinds that are built in.

pub mod base;
pub mod core;

use crate::resource::Resource;

/// All resources of built-in kinds, in every version that is served.
#[must_use]
pub fn builtin() -> Vec<Resource> {
    core::resources()
}
