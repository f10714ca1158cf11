//! The group `policy`: how many pods may be away. Evictions, which it also names, are a subresource of pods.

mod budget;

use super::base::Kind;
use crate::resource::{Resource, Verbs};

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    vec![budget::kind().resource()]
}

/// The body of an eviction (`pods/eviction`), which is no resource of its own.
#[must_use]
pub fn eviction() -> Resource {
    Kind::new("policy", "v1", "Eviction", "evictions", "io.k8s.api.policy.v1.Eviction")
        .verbs(Verbs::REVIEW)
        .without_generation()
        .prepare_create(|_| {})
        .resource()
}
