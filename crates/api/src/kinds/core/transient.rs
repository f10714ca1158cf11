//! What is not kept: bindings of pods to nodes, and what components say of their health.

use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Errors, Fields, Kind, table};
use crate::resource::Verbs;
use serde_json::Value;

pub(super) fn binding() -> Kind {
    Kind::new("", "v1", "Binding", "bindings", "io.k8s.api.core.v1.Binding")
        .verbs(Verbs::REVIEW)
        .without_generation()
        .prepare_create(|_| {})
        .validate(validate_binding)
}

/// What is wrong with a binding.
fn validate_binding(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("target");
    let kind = object.text(&["target", "kind"]);
    if !matches!(kind, "" | "Node") {
        errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
    }
    if object.text(&["target", "name"]).is_empty() {
        errors.required(&path.child("name"), "");
    }
    errors
}

pub(super) fn component_status() -> Kind {
    let verbs = Verbs { create: false, update: false, delete: false, delete_collection: false, read: true };
    Kind::new("", "v1", "ComponentStatus", "componentstatuses", "io.k8s.api.core.v1.ComponentStatus")
        .cluster_scoped()
        .short(&["cs"])
        .verbs(verbs)
        .without_generation()
        .deprecated("v1 ComponentStatus is deprecated in v1.19+")
        .table(
            || {
                vec![
                    table::name(),
                    table::column("Status", "string", "Status of the component conditions"),
                    table::column("Message", "string", "Message of the component conditions"),
                    table::column("Error", "string", "Error of the component conditions"),
                ]
            },
            row,
        )
}

fn row(object: &Object, _now: i64) -> Vec<Value> {
    let healthy = object.0.list("conditions").iter().find(|condition| condition.text("type") == "Healthy");
    let word = match healthy.map(|condition| condition.text("status")) {
        Some("True") => "Healthy",
        Some(_) => "Unhealthy",
        None => "Unknown",
    };
    vec![object.name().into(), word.into(), healthy.text("message").into(), healthy.text("error").into()]
}
