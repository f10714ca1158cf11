//! The group `authentication.k8s.io`: who somebody is. What is asked here is answered and never kept.

use super::base::{Defaults, Fields, Kind};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::resource::{Resource, Verbs};
use serde_json::json;

const GROUP: &str = "authentication.k8s.io";

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    [self_subject_review(), token_review()].map(Kind::resource).into()
}

fn review(kind: &'static str, plural: &'static str, type_name: &'static str) -> Kind {
    Kind::new(GROUP, "v1", kind, plural, type_name)
        .cluster_scoped()
        .verbs(Verbs::REVIEW)
        .without_generation()
        .named(|_, _| Vec::new())
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({}))))
}

fn self_subject_review() -> Kind {
    review("SelfSubjectReview", "selfsubjectreviews", "io.k8s.api.authentication.v1.SelfSubjectReview")
}

fn token_review() -> Kind {
    review("TokenReview", "tokenreviews", "io.k8s.api.authentication.v1.TokenReview").default(|object| {
        object.make(&["spec"]);
    })
}

/// The body of a request for a token of a service account (`serviceaccounts/token`), which is no resource of its own.
#[must_use]
pub fn token_request() -> Resource {
    review("TokenRequest", "tokenrequests", "io.k8s.api.authentication.v1.TokenRequest")
        .default(|object| object.make(&["spec"]).fill("expirationSeconds", 3600))
        .validate(|object| {
            let mut errors = FieldErrors::new();
            let seconds = object.spec().int("expirationSeconds").unwrap_or(0);
            lifetime_errors(&mut errors, seconds, &Path::new("spec").child("expirationSeconds"));
            errors
        })
        .resource()
}

/// What is wrong with how long a token is to be good for, in seconds.
pub(super) fn lifetime_errors(errors: &mut FieldErrors, seconds: i64, path: &Path) {
    if seconds < 600 {
        errors.push(FieldError::invalid(path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > 1 << 32 {
        errors.push(FieldError::invalid(
            path,
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
}
