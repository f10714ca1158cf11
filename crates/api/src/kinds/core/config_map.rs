//! ConfigMap.

use super::DATA_MAX;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use serde_json::Value;

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "ConfigMap", "configmaps", "io.k8s.api.core.v1.ConfigMap")
        .short(&["cm"])
        .without_generation()
        .prepare_create(|_| {})
        .default(drop_empty)
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

/// An empty map is the same as none.
fn drop_empty(object: &mut Object) {
    for field in ["data", "binaryData"] {
        object.0.drop_empty(field);
    }
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut size = 0;
    for field in ["data", "binaryData"] {
        let path = Path::new(field);
        for (key, value) in object.0.entries(field) {
            let found = names::config_key(key);
            if !found.is_empty() {
                errors.extend(check::invalid(&path.key(key), key, found));
            }
            if field == "data" && object.0.map("binaryData").is_some_and(|binary| binary.contains_key(key)) {
                let detail = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(&path.key(key), key, detail));
            }
            let text = value.as_str().unwrap_or_default();
            size += if field == "data" { text.len() } else { super::secret::decoded_length(text) };
        }
    }
    if size > DATA_MAX {
        errors.push(FieldError::too_long(&check::whole(), DATA_MAX));
    }
    errors
}

fn validate_update(_part: Part, new: &Object, old: &Object) -> FieldErrors {
    let mut errors = frozen(new, old, &["data", "binaryData"]);
    errors.extend(validate(new));
    errors
}

/// What an object with `immutable: true` refuses: to become mutable, and changes of `fields`.
pub(super) fn frozen(new: &Object, old: &Object, fields: &[&str]) -> FieldErrors {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    let mut errors = FieldErrors::new();
    if !old.0.is("immutable") {
        return errors;
    }
    if !new.0.is("immutable") {
        errors.push(FieldError::forbidden(&Path::new("immutable"), DETAIL));
    }
    for field in fields {
        if new.0.field(field) != old.0.field(field) {
            errors.push(FieldError::forbidden(&Path::new(field), DETAIL));
        }
    }
    errors
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Data", "string", "ConfigMap.data"), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let count = object.0.entries("data").count() + object.0.entries("binaryData").count();
    vec![object.name().into(), count.to_string().into(), table::age_of(object, now)]
}
