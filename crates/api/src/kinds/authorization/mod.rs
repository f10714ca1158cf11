//! The group `authorization.k8s.io`: may somebody do something. What is asked here is answered and never kept.

mod attributes;

use super::base::{Fields, Kind};
use super::shown;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::inside::Inside;
use crate::resource::{Resource, Verbs};
use serde_json::json;

const GROUP: &str = "authorization.k8s.io";

/// The resources of the group.
#[must_use]
pub fn resources() -> Vec<Resource> {
    let review = |kind, plural, type_name| {
        Kind::new(GROUP, "v1", kind, plural, type_name)
            .verbs(Verbs::REVIEW)
            .without_generation()
            .named(|_, _| Vec::new())
            .default(|object| {
                object.make(&["spec"]);
            })
            .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({"allowed": false}))))
    };
    let local = "io.k8s.api.authorization.v1.LocalSubjectAccessReview";
    let own = "io.k8s.api.authorization.v1.SelfSubjectAccessReview";
    let rules = "io.k8s.api.authorization.v1.SelfSubjectRulesReview";
    let any = "io.k8s.api.authorization.v1.SubjectAccessReview";
    [
        review("LocalSubjectAccessReview", "localsubjectaccessreviews", local).validate(of_namespace),
        review("SelfSubjectAccessReview", "selfsubjectaccessreviews", own)
            .cluster_scoped()
            .validate(of_asker),
        review("SelfSubjectRulesReview", "selfsubjectrulesreviews", rules).cluster_scoped().prepare_create(
            |object| {
                let status = json!({"resourceRules": null, "nonResourceRules": null, "incomplete": false});
                object.0.insert("status".to_owned(), status);
            },
        ),
        review("SubjectAccessReview", "subjectaccessreviews", any).cluster_scoped().validate(of_anybody),
    ]
    .map(Kind::resource)
    .into()
}

fn of_asker(object: &Object) -> FieldErrors {
    let mut errors = spec_errors(object, false);
    metadata_errors(&mut errors, object, false);
    errors
}

fn of_anybody(object: &Object) -> FieldErrors {
    let mut errors = spec_errors(object, true);
    metadata_errors(&mut errors, object, false);
    errors
}

fn of_namespace(object: &Object) -> FieldErrors {
    let mut errors = spec_errors(object, true);
    metadata_errors(&mut errors, object, true);
    let (spec, path) = (object.spec(), Path::new("spec"));
    if let Some(resource) = spec.under("resourceAttributes") {
        let (namespace, at) =
            (resource.text("namespace"), path.child("resourceAttributes").child("namespace"));
        if namespace != object.namespace() {
            errors.push(FieldError::invalid(&at, namespace, "must match metadata.namespace"));
        }
    }
    if let Some(other) = spec.field("nonResourceAttributes") {
        let at = path.child("nonResourceAttributes");
        let shown = attributes::shown_path(Some(other));
        errors.push(shown::invalid(&at, shown, "disallowed on this kind of request"));
    }
    errors
}

fn spec_errors(object: &Object, of_somebody: bool) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let (resource, other) = (spec.under("resourceAttributes"), spec.field("nonResourceAttributes"));
    match (resource, other) {
        (Some(_), Some(_)) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            let shown = attributes::shown_path(other);
            errors.push(shown::invalid(&path.child("nonResourceAttributes"), shown, detail));
        }
        (None, None) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let shown = "null".to_owned();
            errors.push(shown::invalid(&path.child("resourceAttributes"), shown, detail));
        }
        _ => {}
    }
    let nobody = spec.text("user").is_empty() && spec.is_none_or(|spec| spec.list("groups").is_empty());
    if of_somebody && nobody {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", detail));
    }
    if let Some(resource) = resource {
        attributes::errors(&mut errors, resource, &path.child("resourceAttributes"));
    }
    errors
}

/// A review has no metadata; `namespace`: but for that.
fn metadata_errors(errors: &mut FieldErrors, object: &Object, namespace: bool) {
    let Some(metadata) = object.0.map("metadata") else { return };
    let empty = |field: &str| {
        let value = metadata.field(field);
        value.is_none_or(|value| {
            value.as_str() == Some("") || value.as_object().is_some_and(serde_json::Map::is_empty)
        })
    };
    let told = metadata.keys().filter(|field| !matches!(field.as_str(), "managedFields"));
    if told.filter(|field| !(namespace && *field == "namespace")).all(|field| empty(field)) {
        return;
    }
    let detail = if namespace { "must be empty except for namespace" } else { "must be empty" };
    errors.push(FieldError::invalid(&Path::new("metadata"), metadata.clone(), detail));
}
