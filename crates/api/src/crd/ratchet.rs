//! What a value was before an update: what was wrong and has not changed may stay.

use super::schema::Props;
use super::values::canonical;
use serde_json::Value;
use std::collections::HashMap;

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

    /// The items of a list as it was, by what tells them from each other.
    pub(super) fn items<'p>(self, props: &'p Props) -> Items<'a, 'p> {
        let mut known = HashMap::new();
        if let (Some(Value::Array(items)), Some("map")) = (self.value, props.list_type.as_deref()) {
            for item in items {
                known.entry(identity(props, item)).or_insert(item);
            }
        }
        Items { props, known }
    }
}

/// The items of a map as they were. What other lists had in a place cannot be told again, as in Kubernetes.
pub(super) struct Items<'a, 'p> {
    props: &'p Props,
    known: HashMap<String, &'a Value>,
}

impl<'a> Items<'a, '_> {
    /// The item that had the same keys.
    pub(super) fn of(&self, item: &Value) -> Old<'a> {
        if self.known.is_empty() {
            return Old::NONE;
        }
        Old::of(self.known.get(&identity(self.props, item)).copied())
    }
}

/// The keys of an item of a map.
fn identity(props: &Props, item: &Value) -> String {
    let key = |key: &String| key_of(props, item, key).map_or_else(String::new, canonical);
    props.list_keys.iter().map(key).collect::<Vec<_>>().join(",")
}

/// The value of a key of a list map, with its default.
pub(super) fn key_of<'v>(props: &'v Props, item: &'v Value, key: &str) -> Option<&'v Value> {
    let default = || props.items.as_ref()?.properties.get(key)?.default.as_ref();
    item.get(key).or_else(default)
}
