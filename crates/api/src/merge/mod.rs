//! Patches: JSON patch, merge patch, strategic merge patch, server-side apply.
//!
//! - [`json_patch`] (RFC 6902) and [`merge_patch`] (RFC 7396) know nothing of kinds.
//! - [`strategic`] merges lists as the schema says, with the directives that `kubectl` writes.
//! - [`managed`] keeps `metadata.managedFields`: who set which field, of updates and of server-side applies.
//!
//! All work on JSON values and return a new one; nothing is half patched when a patch is refused. What comes out of a patch
//! has not been looked at: its types are whatever the patch made of them.

#[cfg(test)]
mod fixtures;
pub(crate) mod go;
pub mod json_patch;
pub mod managed;
pub mod merge_patch;
pub mod strategic;

use serde_json::Value;

/// A value without the nulls in its objects; those that stand in lists stay.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}
