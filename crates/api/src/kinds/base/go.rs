//! What Go's decoder of JSON says, where a message of Kubernetes repeats it.

use crate::decode::{self, Media};
use serde_json::Value;

/// Why `bytes` are no JSON object, or `None` where they are one (or null).
#[must_use]
pub fn object_error(bytes: &[u8]) -> Option<String> {
    let found = match decode::value(bytes, Media::Json) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(status) => return Some(status.message),
    };
    Some(format!("json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"))
}
