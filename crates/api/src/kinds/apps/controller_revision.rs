//! ControllerRevision: a template as it once was.

use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use serde_json::Value;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.apps.v1.ControllerRevision";
    Kind::new("apps", "v1", "ControllerRevision", "controllerrevisions", type_name)
        .without_generation()
        .default(|object| object.0.fill("revision", 0))
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn revision_errors(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    check::not_negative(&mut errors, &Path::new("revision"), object.0.int("revision"));
    errors
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = revision_errors(object);
    let path = Path::new("data");
    match object.0.field("data") {
        None => errors.push(FieldError::required(&path, "data is mandatory")),
        Some(Value::Object(_)) => {}
        Some(_) => errors.push(FieldError::required(&path, "data must be a valid JSON object")),
    }
    errors
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = revision_errors(object);
    check::immutable(&mut errors, &Path::new("data"), object.0.get("data"), old.0.get("data"));
    errors
}

fn columns() -> Vec<Column> {
    vec![
        table::name(),
        table::column("Controller", "string", "Whose revision it is."),
        table::column("Revision", "string", "Which revision it is."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let owners = object.at(&["metadata", "ownerReferences"]).and_then(Value::as_array);
    let controller = owners.into_iter().flatten().find(|owner| owner.is("controller")).map(|owner| {
        let group = owner.text("apiVersion").split_once('/').map(|(group, _)| format!(".{group}"));
        let kind = format!("{}{}", owner.text("kind"), group.unwrap_or_default());
        format!("{}/{}", kind.to_lowercase(), owner.text("name"))
    });
    vec![
        object.name().into(),
        controller.unwrap_or_else(|| "<none>".to_owned()).into(),
        object.0.int("revision").unwrap_or(0).into(),
        table::age_of(object, now),
    ]
}
