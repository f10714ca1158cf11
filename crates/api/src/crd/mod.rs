//! Custom resource definitions: the kind itself, and the resources that its objects make.
//!
//! It never converts between versions by a webhook: a definition that asks for one is refused.
//!
//! - [`resource()`]: `customresourcedefinitions.apiextensions.k8s.io`, with its defaults and validation.
//! - [`status`]: what its status says (accepted names, established, stored versions).
//! - [`Definition`]: an accepted definition, ready to serve: [`Definition::resources`].
//!
//! A definition whose schema was refused is never served, so what is compiled from an accepted one (rules, patterns) is
//! whole. Rules run with a meter, patterns within a size; work grows with the size of an object, not with its square.

mod arena;
mod coerce;
mod custom;
mod defaulted;
mod definition;
mod fieldpath;
pub(crate) mod formats;
mod jsonpath;
mod kind;
mod lists;
mod meta;
mod openapi;
mod pattern;
mod printer;
mod prune;
mod ratchet;
mod rules;
mod schema;
pub mod status;
mod structural;
mod validate;
mod values;
mod version;

#[cfg(test)]
mod tests;

pub use definition::Definition;

use crate::resource::Resource;

/// The finalizer that keeps a definition until the last of its objects is gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// The resource `customresourcedefinitions` of `apiextensions.k8s.io/v1`.
#[must_use]
pub fn resource() -> Resource {
    kind::resource()
}
