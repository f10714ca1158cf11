//! How objects are written: for the store and for clients.

use super::resources::is_kept_version;
use crate::contract::{Object, Result, Status};
use crate::resource::Resource;
use crate::store::Document;
use bytes::Bytes;
use serde_json::{Map, Value};

/// The fields of `metadata` in the order in which Kubernetes writes them.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// An object out of its JSON.
pub(super) fn parse(json: &[u8]) -> Result<Object> {
    let value = serde_json::from_slice(json).map_err(Status::internal)?;
    Object::from_value(value).ok_or_else(|| Status::internal("what is kept is no object"))
}

/// An object of the resource's version out of its JSON as it is kept.
pub(super) fn open(resource: &Resource, json: &[u8]) -> Result<Object> {
    let object = parse(json)?;
    if is_as_kept(resource, json) {
        return Ok(object);
    }
    let mut object = resource.strategy.from_stored(object)?;
    object.0.insert("apiVersion".to_owned(), resource.names.api_version().into());
    Ok(object)
}

/// Whether an object is told as it is kept: the resource is of the version that is kept, and the object too (which one of
/// a definition may not be, after its version or its defaults have changed).
pub(super) fn is_as_kept(resource: &Resource, json: &[u8]) -> bool {
    is_kept_version(resource) && resource.strategy.is_told_as_kept(json)
}

/// The JSON of an object.
pub(super) fn json(object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    write(object, None, &mut out);
    Bytes::from(out)
}

/// The document of an object of the resource's version.
pub(super) fn document(resource: &Resource, object: &Object) -> Result<Document> {
    if is_kept_version(resource) {
        return Ok(as_kept(object));
    }
    let mut object = resource.strategy.to_stored(object.clone())?;
    object.0.insert("apiVersion".to_owned(), resource.storage_version.as_ref().into());
    Ok(as_kept(&object))
}

/// The document of an object that is in the version in which its kind is kept.
pub(super) fn as_kept(object: &Object) -> Document {
    let mut out = Vec::with_capacity(1024);
    let mut at = 0;
    write(object, Some(&mut at), &mut out);
    Document { json: out, revision_at: at }
}

/// How an object of the resource begins as it is kept; lists of built-in kinds leave this out of their items.
pub(super) fn head(resource: &Resource) -> String {
    let mut out = Vec::new();
    write_head(&resource.names.kind, &resource.storage_version, &mut out);
    String::from_utf8(out).expect("JSON is UTF-8")
}

fn write_head(kind: &str, api_version: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":");
    value(&Value::from(kind), out);
    out.extend_from_slice(b",\"apiVersion\":");
    value(&Value::from(api_version), out);
}

fn value(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a value is written to memory");
}

/// Writes the object; with `revision_at` an empty resource version, whose place it says.
fn write(object: &Object, revision_at: Option<&mut usize>, out: &mut Vec<u8>) {
    write_head(object.kind(), object.api_version(), out);
    out.extend_from_slice(b",\"metadata\":{");
    let empty = Map::new();
    let metadata = object.0.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    let mut first = true;
    let mut field = |name: &str, out: &mut Vec<u8>| {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        value(&Value::from(name), out);
        out.push(b':');
    };
    let mut place = revision_at;
    for name in METADATA {
        if name == "resourceVersion"
            && let Some(at) = place.take()
        {
            field(name, out);
            out.push(b'"');
            *at = out.len();
            out.push(b'"');
        } else if let Some(held) = metadata.get(name) {
            field(name, out);
            value(held, out);
        }
    }
    for (name, held) in metadata.iter().filter(|(name, _)| !METADATA.contains(&name.as_str())) {
        field(name, out);
        value(held, out);
    }
    out.push(b'}');
    for (name, held) in &object.0 {
        if !matches!(name.as_str(), "kind" | "apiVersion" | "metadata") {
            out.push(b',');
            value(&Value::from(name.as_str()), out);
            out.push(b':');
            value(held, out);
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_what_was_there_in_the_order_of_kubernetes() {
        let object = Object::from_value(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"},
            "metadata": {"uid": "u", "name": "x", "other": 1, "resourceVersion": "7"},
        }))
        .expect("an object");
        let written = json(&object);
        assert_eq!(
            std::str::from_utf8(&written).expect("text"),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x","uid":"u","resourceVersion":"7","other":1},"data":{"a":"1"}}"#
        );
        assert_eq!(parse(&written).expect("JSON"), object);
    }

    #[test]
    fn a_document_says_where_its_revision_goes() {
        let object =
            Object::from_value(json!({"apiVersion": "v1", "kind": "X", "metadata": {}})).expect("an object");
        let mut out = Vec::new();
        let mut at = 0;
        write(&object, Some(&mut at), &mut out);
        out.splice(at..at, *b"42");
        assert_eq!(parse(&out).expect("JSON").resource_version(), "42");
    }
}
