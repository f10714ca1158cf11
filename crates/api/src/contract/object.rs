//! An object in its wire form.

use serde_json::{Map, Value};

/// An object as clients send and get it: JSON with `apiVersion`, `kind` and `metadata`.
///
/// It stays untyped on purpose: one code path serves built-in kinds and custom resources, and what a client wrote is
/// neither lost nor reordered by a detour through types.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(pub Map<String, Value>);

impl Object {
    /// The object in `value`, or `None` if it is no JSON object.
    #[must_use]
    pub fn from_value(value: Value) -> Option<Object> {
        match value {
            Value::Object(map) => Some(Object(map)),
            _ => None,
        }
    }

    /// As a JSON value.
    #[must_use]
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// `apiVersion`, empty when absent.
    #[must_use]
    pub fn api_version(&self) -> &str {
        text(self.0.get("apiVersion"))
    }

    /// `kind`, empty when absent.
    #[must_use]
    pub fn kind(&self) -> &str {
        text(self.0.get("kind"))
    }

    /// The value at a path of field names, none of which is a list.
    #[must_use]
    pub fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, name| value.get(name))
    }

    /// The string at a path, empty when absent or of another type.
    #[must_use]
    pub fn text(&self, path: &[&str]) -> &str {
        text(self.at(path))
    }

    /// The object at a path, made (with all above it) where it is absent or null.
    pub fn make(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        let mut map = &mut self.0;
        for name in path {
            let value = map.entry((*name).to_owned()).or_insert(Value::Null);
            if !value.is_object() {
                *value = Value::Object(Map::new());
            }
            map = value.as_object_mut().expect("was made an object just now");
        }
        map
    }

    /// Removes the field at a path and returns it.
    pub fn remove(&mut self, path: &[&str]) -> Option<Value> {
        let (last, above) = path.split_last()?;
        let mut map = &mut self.0;
        for name in above {
            map = map.get_mut(*name)?.as_object_mut()?;
        }
        map.remove(*last)
    }

    /// `metadata`, made where absent.
    pub fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        self.make(&["metadata"])
    }

    /// `metadata.name`, empty when absent.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    /// `metadata.namespace`, empty when absent or cluster scoped.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text(&["metadata", "namespace"])
    }

    /// `metadata.uid`, empty when absent.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text(&["metadata", "uid"])
    }

    /// `metadata.resourceVersion`, empty when absent.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.text(&["metadata", "resourceVersion"])
    }

    /// `metadata.generation`, 0 when absent.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.at(&["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0)
    }

    /// Whether somebody has asked for its deletion (`metadata.deletionTimestamp`).
    #[must_use]
    pub fn is_terminating(&self) -> bool {
        !self.text(&["metadata", "deletionTimestamp"]).is_empty()
    }

    /// `metadata.finalizers`.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.at(&["metadata", "finalizers"])
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
    }

    /// A map of strings below `metadata`: `labels` or `annotations`.
    #[must_use]
    pub fn strings(&self, field: &str) -> Option<&Map<String, Value>> {
        self.at(&["metadata", field])?.as_object()
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.strings("labels")?.get(key)?.as_str()
    }
}

/// Whether a value has more than `most` levels of objects and lists. It does not recurse, so that it may look at anything.
#[must_use]
pub fn is_deeper_than(value: &Value, most: usize) -> bool {
    let mut left = vec![(value, 1)];
    while let Some((value, level)) = left.pop() {
        if !matches!(value, Value::Array(_) | Value::Object(_)) {
            continue;
        }
        if level > most {
            return true;
        }
        match value {
            Value::Array(items) => left.extend(items.iter().map(|item| (item, level + 1))),
            Value::Object(fields) => left.extend(fields.values().map(|field| (field, level + 1))),
            _ => {}
        }
    }
    false
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}
