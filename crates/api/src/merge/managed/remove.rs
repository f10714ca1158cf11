//! Taking fields out of an object.

use super::path::Element;
use super::set::Set;
use super::typed::{Kind, Type};
use crate::schema::List;
use serde_json::{Map, Value};

/// `object` without the fields of `gone`. Lists and maps out of which something was taken stay, even if empty.
pub(super) fn remove(kind: Type<'_>, object: &Value, gone: &Set) -> Value {
    without(kind, object, gone).unwrap_or(Value::Null)
}

/// `None` where nothing is left that could be kept: of an empty or null list or map, and of what merges as a whole.
fn without(kind: Type<'_>, value: &Value, gone: &Set) -> Option<Value> {
    match (kind.kind(Some(value)), value) {
        (Kind::Scalar, _) => Some(value.clone()),
        (Kind::List, Value::Array(items)) => match kind.list() {
            List::Atomic => None,
            list => without_items(kind, list, items, gone),
        },
        (Kind::Map, Value::Object(map)) if !kind.is_whole_map() => without_fields(kind, map, gone),
        _ => None,
    }
}

fn without_items(kind: Type<'_>, list: List<'_>, items: &[Value], gone: &Set) -> Option<Value> {
    let mut left = Vec::with_capacity(items.len());
    let mut touched = false;
    for item in items {
        let Ok(element) = kind.element(list, item) else {
            left.push(item.clone());
            continue;
        };
        if gone.has_member(&element) {
            continue;
        }
        match gone.below(&element) {
            None => left.push(item.clone()),
            Some(below) => {
                touched = true;
                left.push(without(kind.items(), item, below).unwrap_or_else(|| emptied(item)));
            }
        }
    }
    (touched || !left.is_empty()).then_some(Value::Array(left))
}

fn without_fields(kind: Type<'_>, map: &Map<String, Value>, gone: &Set) -> Option<Value> {
    let mut left = Map::new();
    let mut touched = false;
    for (name, value) in map {
        let element = Element::field(name);
        if gone.has_member(&element) {
            continue;
        }
        let kept = match gone.below(&element) {
            None => value.clone(),
            Some(below) => {
                touched = true;
                let kind = kind.field(name).unwrap_or(Type::Deduced);
                without(kind, value, below).unwrap_or_else(|| emptied(value))
            }
        };
        left.insert(name.clone(), kept);
    }
    (touched || !left.is_empty()).then_some(Value::Object(left))
}

fn emptied(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}
