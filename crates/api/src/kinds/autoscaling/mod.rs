//! The group `autoscaling`: HorizontalPodAutoscaler in two versions, of which the second is kept.

mod behavior;
mod convert;
mod metrics;
mod rows;
mod v1;
mod v2;

use super::base::{Fields, Kind, check};
use crate::contract::field::{FieldErrors, Path};
use crate::resource::{Resource, Verbs};

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [v2::kind(), v1::kind()].map(Kind::resource).into()
}

/// Under which name autoscalers are kept.
const STORED_AS: &str = "horizontalpodautoscalers.autoscaling";
/// In which version.
const STORED_VERSION: &str = "autoscaling/v2";

/// The body of `/scale`, which is no resource of its own.
#[must_use]
pub fn scale() -> Resource {
    Kind::new("autoscaling", "v1", "Scale", "scales", "io.k8s.api.autoscaling.v1.Scale")
        .verbs(Verbs::REVIEW)
        .without_generation()
        .prepare_create(|_| {})
        .default(|object| {
            object.make(&["spec"]);
        })
        .validate(|object| {
            let mut errors = FieldErrors::new();
            let path = Path::new("spec").child("replicas");
            check::not_negative(&mut errors, &path, object.spec().int("replicas"));
            errors
        })
        .resource()
}
