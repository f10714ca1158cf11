//! What a value was before an update: what was wrong and has not changed may stay.

use super::schema::Props;
use serde_json::Value;

/// The value that stood in the same place, if there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Old<'a> {
    value: Option<&'a Value>,
    /// The root itself is never let pass: an update changes something.
    root: bool,
}

impl<'a> Old<'a> {
    /// There was none: a create, or a place that cannot be told again.
    pub(super) const NONE: Old<'static> = Old { value: None, root: false };

    /// The object as it was.
    pub(super) fn root(value: &'a Value) -> Old<'a> {
        Old { value: Some(value), root: true }
    }

    /// The value below the root as it was.
    pub(super) fn of(value: Option<&'a Value>) -> Old<'a> {
        Old { value, root: false }
    }

    /// The value.
    pub(super) fn value(self) -> Option<&'a Value> {
        self.value
    }

    /// Whether it was the same.
    pub(super) fn is_same(self, value: &Value) -> bool {
        self.value.is_some_and(|old| super::values::same(old, value))
    }

    /// What stood under a key.
    pub(super) fn key(self, key: &str) -> Old<'a> {
        // The kind and its version are the same in every update, which says nothing of them.
        if self.root && matches!(key, "apiVersion" | "kind") {
            return Old::NONE;
        }
        Old::of(self.value.and_then(|value| value.get(key)))
    }

    /// The item that `item` was: in a map the one with its keys, in a set the one equal to it, else the one at its place
    /// is unknown.
    pub(super) fn item(self, props: &Props, item: &Value) -> Old<'a> {
        let Some(Value::Array(items)) = self.value else { return Old::NONE };
        let found = match props.list_type.as_deref() {
            Some("map") => items.iter().find(|old| {
                props.list_keys.iter().all(|key| key_of(props, old, key) == key_of(props, item, key))
            }),
            Some("set") => items.iter().find(|old| super::values::same(old, item)),
            _ => None,
        };
        Old::of(found)
    }
}

/// The value of a key of a list map, with its default.
pub(super) fn key_of<'v>(props: &'v Props, item: &'v Value, key: &str) -> Option<&'v Value> {
    let default = || props.items.as_ref()?.properties.get(key)?.default.as_ref();
    item.get(key).or_else(default)
}
