//! Merge patches, RFC 7396.

use super::go;
use super::without_nulls;
use crate::contract::{Result, Status};
use serde_json::{Map, Value};

/// Applies `patch` to `document`: nulls remove, objects merge, everything else replaces.
///
/// As in Kubernetes, nulls in objects of a list that is new are dropped too; RFC 7396 would keep them.
///
/// # Errors
/// 400 where the patch is no JSON object.
pub fn apply(document: &Value, patch: &Value) -> Result<Value> {
    let patch = match patch {
        Value::Object(patch) => patch,
        Value::Null => return Err(Status::bad_request("Invalid JSON Patch")),
        other => {
            return Err(Status::bad_request(format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                go::json_word(other)
            )));
        }
    };
    let mut merged = document.clone();
    if !merged.is_object() {
        merged = Value::Object(Map::new());
    }
    if let Value::Object(into) = &mut merged {
        merge(into, patch);
    }
    Ok(merged)
}

fn merge(into: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (into.get_mut(name), value) {
            (_, Value::Null) => {
                into.remove(name);
            }
            (Some(Value::Object(into)), Value::Object(below)) => merge(into, below),
            (Some(Value::Object(_)), _) => {
                into.insert(name.clone(), value.clone());
            }
            _ => {
                into.insert(name.clone(), without_nulls(value.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_rfc() {
        for (document, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
            (json!({}), json!({"a": [{"b": null}, null]}), json!({"a": [{}, null]})),
        ] {
            assert_eq!(apply(&document, &patch).unwrap(), merged, "{document} {patch}");
        }
    }

    #[test]
    fn errors_are_kubernetes_own() {
        let told = |patch: Value| apply(&json!({}), &patch).unwrap_err();
        assert_eq!((told(Value::Null).code, &*told(Value::Null).message), (400, "Invalid JSON Patch"));
        assert_eq!(
            told(json!([])).message,
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
    }
}
