//! `metadata.managedFields` as it is read and written.

use super::set::Set;
use super::{Manager, Operation, wire};
use crate::contract::Object;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Who a manager is. Those that apply are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) name: String,
    pub(super) operation: Operation,
    /// Empty of those that apply.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl Identity {
    pub(super) fn of(manager: &Manager) -> Identity {
        let name = if manager.name.is_empty() { "unknown" } else { &manager.name };
        Identity::new(name, manager.operation, &manager.api_version, &manager.subresource)
    }

    pub(super) fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Identity {
        let api_version = if operation == Operation::Apply { "" } else { api_version };
        Identity {
            name: name.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// The text by which Kubernetes sorts managers.
    pub(super) fn sorts_as(&self) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        let mut text = format!("{{\"manager\":{}", quoted(&self.name));
        if self.name.is_empty() {
            text.truncate(1);
        }
        let operation = format!("\"operation\":\"{}\"", self.operation.as_str());
        for part in [
            Some(operation),
            (!self.api_version.is_empty()).then(|| format!("\"apiVersion\":{}", quoted(&self.api_version))),
            (!self.subresource.is_empty()).then(|| format!("\"subresource\":{}", quoted(&self.subresource))),
        ]
        .into_iter()
        .flatten()
        {
            if text.len() > 1 {
                text.push(',');
            }
            text.push_str(&part);
        }
        text.push('}');
        text
    }
}

/// What a manager has.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) api_version: String,
    pub(super) set: Set,
    /// RFC 3339; may be empty.
    pub(super) time: String,
}

/// All managers of an object.
pub(super) type Entries = BTreeMap<Identity, Entry>;

/// The managed fields of an object, if they are there and can be read.
pub(super) fn of(object: &Object) -> Result<Entries, String> {
    decode(object.at(&["metadata", "managedFields"]).unwrap_or(&Value::Null))
}

/// Reads `metadata.managedFields`.
///
/// # Errors
/// What is malformed.
pub(super) fn decode(fields: &Value) -> Result<Entries, String> {
    let mut entries = Entries::new();
    let list = match fields {
        Value::Null => return Ok(entries),
        Value::Array(list) => list,
        _ => return Err("managedFields is no list".to_owned()),
    };
    for (index, entry) in list.iter().enumerate() {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
        }
        let set = wire::from_fields(entry.get("fieldsV1").unwrap_or(&Value::Null))
            .map_err(|cause| format!("error decoding set: {cause}"))?;
        let identity = Identity::new(text("manager"), operation, text("apiVersion"), text("subresource"));
        let time = text("time").to_owned();
        entries.insert(identity, Entry { api_version: text("apiVersion").to_owned(), set, time });
    }
    Ok(entries)
}

/// Writes managed fields into an object, in Kubernetes' order; none at all where nobody manages anything.
pub(super) fn put(object: &mut Object, entries: &Entries) {
    if entries.is_empty() {
        object.remove(&["metadata", "managedFields"]);
        return;
    }
    let mut sorted: Vec<(&Identity, &Entry)> = entries.iter().collect();
    sorted.sort_by(|(one, one_entry), (other, other_entry)| {
        (one.operation.as_str().cmp(other.operation.as_str()))
            .then_with(|| one_entry.time.cmp(&other_entry.time))
            .then_with(|| one.name.cmp(&other.name))
            .then_with(|| one_entry.api_version.cmp(&other_entry.api_version))
            .then_with(|| one.subresource.cmp(&other.subresource))
    });
    let list = sorted.into_iter().map(|(identity, entry)| encode(identity, entry)).collect();
    object.metadata_mut().insert("managedFields".to_owned(), list);
}

fn encode(identity: &Identity, entry: &Entry) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: &str| {
        if !value.is_empty() {
            map.insert(name.to_owned(), value.into());
        }
    };
    put("manager", &identity.name);
    put("operation", identity.operation.as_str());
    put("apiVersion", &entry.api_version);
    put("time", &entry.time);
    put("fieldsType", "FieldsV1");
    put("subresource", &identity.subresource);
    map.insert("fieldsV1".to_owned(), wire::to_fields(&entry.set));
    Value::Object(map)
}

/// Whether a client asks for managed fields to be begun anew: it sent an empty list, or a list of one empty entry.
pub(super) fn is_reset(object: &Object) -> bool {
    match object.at(&["metadata", "managedFields"]) {
        Some(Value::Array(list)) => match &**list {
            [] => true,
            [only] => only.as_object().is_some_and(|entry| entry.values().all(is_nothing)),
            _ => false,
        },
        _ => false,
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}
