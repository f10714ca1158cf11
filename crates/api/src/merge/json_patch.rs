//! JSON patches, RFC 6902.

use crate::contract::{Result, Status};
use serde_json::Value;

/// Applies the operations of `patch` to `document`, all or none.
///
/// # Errors
/// 400 where the patch is no list of operations, 413 where it has more than 10,000, 422 where an operation does not apply.
pub fn apply(document: &Value, patch: &Value) -> Result<Value> {
    let _ = (document, patch);
    Err(Status::internal("JSON patches are not there yet"))
}
