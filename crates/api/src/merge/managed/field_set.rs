//! The fields that a value has.

use super::path::Element;
use super::set::Set;
use super::typed::{Kind, Type};
use crate::schema::List;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Every field of an object of `kind` that can be owned.
pub(super) fn of(kind: Type<'_>, object: &Value) -> Set {
    below(kind, object).unwrap_or_default()
}

/// The fields below a value; `None` for a leaf, which is owned itself.
fn below(kind: Type<'_>, value: &Value) -> Option<Set> {
    match kind.kind(Some(value)) {
        Kind::Scalar => None,
        Kind::List => match (kind.list(), value) {
            (List::Atomic, _) => None,
            (list, Value::Array(items)) => Some(of_list(kind, list, items)),
            _ => Some(Set::default()),
        },
        Kind::Map if kind.is_whole_map() => None,
        Kind::Map => match value {
            Value::Object(map) => Some(of_map(kind, map)),
            _ => Some(Set::default()),
        },
    }
}

fn of_map(kind: Type<'_>, map: &Map<String, Value>) -> Set {
    let mut set = Set::default();
    for (name, value) in map {
        let element = Element::field(name);
        let found = below(kind.field(name).unwrap_or(Type::Deduced), value);
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if found.is_none() || empty || !kind.declares(name) {
            set.insert_member(element.clone());
        }
        set.insert_below(&element, found.unwrap_or_default());
    }
    set
}

fn of_list(kind: Type<'_>, list: List<'_>, items: &[Value]) -> Set {
    let mut found: BTreeMap<Element, Option<&Value>> = BTreeMap::new();
    for item in items {
        if let Ok(element) = kind.element(list, item) {
            // What is there twice is owned, but nothing of it alone.
            found.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
        }
    }
    let mut set = Set::default();
    for (element, item) in found {
        set.insert_member(element.clone());
        if let Some(item) = item {
            set.insert_below(&element, below(kind.items(), item).unwrap_or_default());
        }
    }
    set
}

/// The set with each declared field that it has something below of as a member.
pub(super) fn with_named(set: &Set, kind: Option<Type<'_>>) -> Set {
    let mut out = Set::default();
    for member in set.members() {
        out.insert_member(member.clone());
    }
    for (element, children) in set.children() {
        let (declared, next) = match (element, kind) {
            (Element::Field(name), Some(kind)) if kind.kind(None) == Kind::Map => {
                (kind.declares(name), kind.field(name))
            }
            (Element::Key(_), Some(kind)) if kind.kind(None) == Kind::List => (false, Some(kind.items())),
            _ => (false, None),
        };
        if declared {
            out.insert_member(element.clone());
        }
        out.insert_below(element, with_named(children, next));
    }
    out
}
