//! Embedded resources: their `apiVersion`, `kind` and `metadata`.

use super::schema::Props;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use serde_json::Value;

/// What is wrong with the resources inside `value`; `root`: with itself too.
pub(super) fn validate(props: &Props, value: &Value, path: &Path, root: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match value {
        Value::Object(map) => {
            if root || props.embedded {
                resource(value, path, &mut errors);
            }
            for (name, inner) in map {
                if let Some(schema) = props.properties.get(name) {
                    errors.extend(validate(schema, inner, &path.child(name), false));
                } else if let Some(schema) = props.values() {
                    errors.extend(validate(schema, inner, &path.key(name), false));
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &props.items {
                for (index, item) in items.iter().enumerate() {
                    errors.extend(validate(schema, item, &path.index(index), false));
                }
            }
        }
        _ => {}
    }
    errors
}

fn resource(value: &Value, path: &Path, errors: &mut FieldErrors) {
    for name in ["apiVersion", "kind"] {
        let at = path.child(name);
        match value.get(name) {
            None => errors.push(FieldError::required(&at, "")),
            Some(Value::String(text)) if text.is_empty() => {
                errors.push(FieldError::invalid(&at, "", "must not be empty"));
            }
            Some(Value::String(text)) if name == "kind" => {
                let wrong = names::dns1035_label(&text.to_lowercase(), false);
                if !wrong.is_empty() {
                    let detail =
                        format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
                    errors.push(FieldError::invalid(&at, text.as_str(), detail));
                }
            }
            Some(Value::String(text)) if text.matches('/').count() > 1 => {
                let detail = format!("unexpected GroupVersion string: {text}");
                errors.push(FieldError::invalid(&at, text.as_str(), detail));
            }
            Some(Value::String(_)) => {}
            Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
        }
    }
    let Some(Value::Object(metadata)) = value.get("metadata") else { return };
    let mut object = Object::default();
    object.0.insert("metadata".to_owned(), Value::Object(metadata.clone()));
    if object.name().is_empty() {
        object.metadata_mut().insert("name".to_owned(), "fakename".into());
    }
    let namespaced = !object.namespace().is_empty();
    for mut error in names::meta_errors(&object, namespaced, names::path_segment) {
        if !path.as_str().is_empty() {
            error.field = format!("{path}.{}", error.field);
        }
        errors.push(error);
    }
}
