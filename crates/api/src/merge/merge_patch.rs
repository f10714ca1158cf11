//! Merge patches, RFC 7396.

use crate::contract::{Result, Status};
use serde_json::{Map, Value};

/// Applies `patch` to `document`: nulls remove, objects merge, everything else replaces.
///
/// # Errors
/// 400 where the patch is no JSON object.
pub fn apply(document: &Value, patch: &Value) -> Result<Value> {
    let Value::Object(patch) = patch else { return Err(Status::bad_request("Invalid JSON Patch")) };
    let mut merged = document.clone();
    merge(&mut merged, patch);
    Ok(merged)
}

fn merge(into: &mut Value, patch: &Map<String, Value>) {
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let Value::Object(into) = into else { return };
    for (name, value) in patch {
        match value {
            Value::Null => {
                into.remove(name);
            }
            Value::Object(below) => merge(into.entry(name.clone()).or_insert(Value::Null), below),
            other => {
                into.insert(name.clone(), other.clone());
            }
        }
    }
}
