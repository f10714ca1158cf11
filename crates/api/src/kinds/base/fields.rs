//! Reading and filling JSON objects whose types the schema has checked.

use crate::contract::Object;
use serde_json::{Map, Value};

/// The value unless it is null: an absent field and a null one are the same to every kind.
#[must_use]
pub fn defined(value: Option<&Value>) -> Option<&Value> {
    value.filter(|value| !value.is_null())
}

/// Reading the fields of an object, behind a reference or where it may be absent as a whole. What is absent, null or of
/// another type reads as nothing.
pub trait Fields<'a>: Copy {
    /// The field, unless it is absent or null.
    fn field(self, name: &str) -> Option<&'a Value>;

    /// A string; empty when absent.
    fn text(self, name: &str) -> &'a str {
        self.field(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// A string that may be absent.
    fn maybe(self, name: &str) -> Option<&'a str> {
        self.field(name).and_then(Value::as_str)
    }

    /// An integer.
    fn int(self, name: &str) -> Option<i64> {
        self.field(name).and_then(Value::as_i64)
    }

    /// A boolean; false when absent.
    fn is(self, name: &str) -> bool {
        self.field(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A boolean that may be absent.
    fn flag(self, name: &str) -> Option<bool> {
        self.field(name).and_then(Value::as_bool)
    }

    /// The items of a list; none when absent.
    fn list(self, name: &str) -> &'a [Value] {
        self.field(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The strings of a list.
    fn texts(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.list(name).iter().map(|item| item.as_str().unwrap_or_default())
    }

    /// An object.
    fn map(self, name: &str) -> Option<&'a Map<String, Value>> {
        self.field(name).and_then(Value::as_object)
    }

    /// The entries of an object; none when absent.
    fn entries(self, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.map(name).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether the field is there and not null.
    fn has(self, name: &str) -> bool {
        self.field(name).is_some()
    }
}

impl<'a> Fields<'a> for &'a Map<String, Value> {
    fn field(self, name: &str) -> Option<&'a Value> {
        defined(self.get(name))
    }
}

impl<'a> Fields<'a> for &'a Value {
    fn field(self, name: &str) -> Option<&'a Value> {
        defined(self.get(name))
    }
}

impl<'a, T> Fields<'a> for Option<&'a T>
where
    &'a T: Fields<'a>,
{
    fn field(self, name: &str) -> Option<&'a Value> {
        self.and_then(|fields| fields.field(name))
    }
}

impl Object {
    /// `spec`, where it is an object.
    #[must_use]
    pub fn spec(&self) -> Option<&Map<String, Value>> {
        self.0.map("spec")
    }

    /// `status`, where it is an object.
    #[must_use]
    pub fn status(&self) -> Option<&Map<String, Value>> {
        self.0.map("status")
    }
}

/// Filling in what is absent.
pub trait Defaults {
    /// Sets the field where it is absent or null.
    fn fill(&mut self, name: &str, value: impl Into<Value>);

    /// Sets a string where it is absent, null or empty.
    fn fill_text(&mut self, name: &str, value: &str);

    /// The object under `name`, made where it is absent or null; `None` where it is something else.
    fn inside(&mut self, name: &str) -> Option<&mut Map<String, Value>>;

    /// The object under `name`, where it is there.
    fn within(&mut self, name: &str) -> Option<&mut Map<String, Value>>;

    /// Removes a list, map or string that is empty, and null: to Kubernetes they are as absent.
    fn drop_empty(&mut self, name: &str);

    /// The objects of the list under `name`.
    fn each(&mut self, name: &str) -> impl Iterator<Item = &mut Map<String, Value>>;
}

impl Defaults for Map<String, Value> {
    fn fill(&mut self, name: &str, value: impl Into<Value>) {
        if !self.has(name) {
            self.insert(name.to_owned(), value.into());
        }
    }

    fn fill_text(&mut self, name: &str, value: &str) {
        if self.text(name).is_empty() {
            self.insert(name.to_owned(), value.into());
        }
    }

    fn inside(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        self.fill(name, Map::new());
        self.within(name)
    }

    fn within(&mut self, name: &str) -> Option<&mut Map<String, Value>> {
        self.get_mut(name).and_then(Value::as_object_mut)
    }

    fn drop_empty(&mut self, name: &str) {
        let empty = match self.get(name) {
            Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            _ => false,
        };
        if empty {
            self.remove(name);
        }
    }

    fn each(&mut self, name: &str) -> impl Iterator<Item = &mut Map<String, Value>> {
        self.get_mut(name)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
    }
}
