//! RuntimeClass.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Fields, Kind, check, table};
use crate::kinds::core::pod;
use crate::kinds::inside::Inside;
use crate::kinds::node_labels;
use crate::resource::{Column, Part};
use serde_json::{Map, Value};
use std::collections::HashSet;

pub(super) fn kind() -> Kind {
    Kind::new("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", "io.k8s.api.node.v1.RuntimeClass")
        .any_finalizer_at_first()
        .lax_updates()
        .cluster_scoped()
        .without_generation()
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (handler, path) = (object.0.text("handler"), Path::new("handler"));
    if handler.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        errors.extend(check::invalid(&path, handler, names::dns_label(handler, false)));
    }
    if let Some(fixed) = object.0.map("overhead").under("podFixed") {
        pod::overhead(&mut errors, fixed, &Path::new("overhead"));
    }
    if let Some(told) = object.0.map("scheduling") {
        scheduling_errors(&mut errors, told, &Path::new("scheduling"));
    }
    errors
}

fn scheduling_errors(errors: &mut FieldErrors, told: &Map<String, Value>, path: &Path) {
    if let Some(selector) = told.map("nodeSelector") {
        errors.extend(names::labels_errors(&path.child("nodeSelector"), selector));
    }
    let (tolerations, path) = (told.list("tolerations"), path.child("tolerations"));
    pod::tolerations(errors, tolerations, &path);
    let mut seen = HashSet::new();
    for (index, toleration) in tolerations.iter().enumerate() {
        let same = ["key", "operator", "value", "effect"].map(|field| toleration.text(field));
        if !seen.insert(same) {
            let mut error = FieldError::duplicate(&path.index(index), Value::Null);
            let fields = [("Key", "key"), ("Operator", "operator"), ("Value", "value"), ("Effect", "effect")];
            let shown = fields.into_iter().fold(crate::kinds::shown::Shown::new(), |shown, (name, field)| {
                shown.text(name, toleration.text(field))
            });
            let shown = shown.field("TolerationSeconds", toleration.field("tolerationSeconds"));
            error.shown = Some(shown.end());
            errors.push(error);
        }
    }
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object);
    let handler = |object: &Object| object.0.get("handler").cloned();
    check::immutable(&mut errors, &Path::new("handler"), handler(object).as_ref(), handler(old).as_ref());
    errors
}

fn warnings(object: &Object, _old: Option<&Object>) -> Vec<String> {
    let selector = object.0.map("scheduling").under("nodeSelector");
    let labels = selector.into_iter().flatten().filter_map(|(label, _)| node_labels::deprecated(label));
    labels.map(|said| format!("scheduling.nodeSelector: {said}")).collect()
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Handler", "string", "How the runtime calls it."), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), object.0.text("handler").into(), table::age_of(object, now)]
}
