//! Resources within custom resources: their `apiVersion` and `kind` are texts, and their metadata is of the same type as
//! anybody's.

use super::schema::Props;
use crate::contract::field::{FieldError, Path};
use crate::decode;
use serde_json::Value;

/// Reads the metadata of all resources within `value` by its type; adds what was unknown or there twice to `told`.
///
/// # Errors
/// The first that is not of its type.
pub(super) fn coerce(
    value: &mut Value,
    props: &Props,
    path: &Path,
    told: &mut Vec<String>,
) -> Result<(), String> {
    match value {
        Value::Object(map) => {
            for (name, inner) in map.iter_mut() {
                if props.embedded {
                    embedded(name, inner, &path.child(name), told)?;
                }
                if let Some(schema) = props.properties.get(name) {
                    coerce(inner, schema, &path.child(name), told)?;
                } else if let Some(schema) = props.values() {
                    coerce(inner, schema, &path.key(name), told)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => {
            let Some(schema) = &props.items else { return Ok(()) };
            let mut items = items.iter_mut().enumerate();
            items.try_for_each(|(index, item)| coerce(item, schema, &path.index(index), told))
        }
        _ => Ok(()),
    }
}

/// One of the three fields that every resource has.
fn embedded(name: &str, value: &mut Value, path: &Path, told: &mut Vec<String>) -> Result<(), String> {
    let refused = |value: &Value, detail: &str| FieldError::invalid(path, value.clone(), detail).to_string();
    match name {
        "apiVersion" | "kind" if !value.is_string() => Err(refused(value, "must be a string")),
        "metadata" => {
            let (metadata, unknown) =
                decode::metadata(value, path.as_str()).map_err(|cause| refused(value, &cause))?;
            *value = metadata;
            told.extend(unknown);
            Ok(())
        }
        _ => Ok(()),
    }
}
