//! Which fields differ between two values.

use super::path::{Element, same};
use super::set::Set;
use super::typed::{Kind, Type};
use crate::decode;
use crate::schema::List;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The fields that differ.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    /// Only the old one has them.
    pub(super) removed: Set,
    /// Both have them, and not the same.
    pub(super) modified: Set,
    /// Only the new one has them.
    pub(super) added: Set,
}

impl Comparison {
    /// Takes over what was found below `element`.
    fn below(&mut self, element: &Element, below: Comparison) {
        self.removed.insert_below(element, below.removed);
        self.modified.insert_below(element, below.modified);
        self.added.insert_below(element, below.added);
    }

    fn own(&mut self, element: &Element, own: Own) {
        match own {
            Own::Same => {}
            Own::Removed => self.removed.insert_member(element.clone()),
            Own::Modified => self.modified.insert_member(element.clone()),
            Own::Added => self.added.insert_member(element.clone()),
        }
    }
}

/// What became of a field itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    Same,
    Removed,
    Modified,
    Added,
}

/// Compares two objects of one type.
pub(super) fn objects(kind: Type<'_>, old: &Value, new: &Value) -> Comparison {
    values(kind, Some(old), Some(new)).1
}

/// Compares two values of one type, one of which may be absent.
fn values(kind: Type<'_>, old: Option<&Value>, new: Option<&Value>) -> (Own, Comparison) {
    let whole = match (old, new) {
        (Some(_), None) => Own::Removed,
        (None, Some(_)) => Own::Added,
        _ => Own::Same,
    };
    let (was, is) = (kind.kind(old), kind.kind(new));
    match (old, new) {
        (Some(_), Some(_)) if was != is => {
            // A value has become another kind of value: each side is compared as what it is.
            let (first, mut found) = of_kind(was, kind, old, new);
            let (second, others) = of_kind(is, kind, old, new);
            found.removed = found.removed.union(&others.removed);
            found.modified = found.modified.union(&others.modified);
            found.added = found.added.union(&others.added);
            (
                if second.unwrap_or(whole) == Own::Same {
                    first.unwrap_or(whole)
                } else {
                    second.unwrap_or(whole)
                },
                found,
            )
        }
        _ => {
            let (own, found) = of_kind(if new.is_none() { was } else { is }, kind, old, new);
            (own.unwrap_or(whole), found)
        }
    }
}

/// The same for one way of handling. The first is `None` for what is not a leaf.
fn of_kind(
    handled: Kind,
    kind: Type<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> (Option<Own>, Comparison) {
    match handled {
        Kind::Scalar => (Some(leaf(old, new)), Comparison::default()),
        Kind::List => {
            let (old_items, new_items) = (old.and_then(Value::as_array), new.and_then(Value::as_array));
            let empty = old_items.is_none_or(Vec::is_empty) && new_items.is_none_or(Vec::is_empty);
            match kind.list() {
                List::Atomic => (Some(leaf(old, new)), Comparison::default()),
                _ if empty => (Some(leaf(old, new)), Comparison::default()),
                list => (None, lists(kind, list, items(old_items), items(new_items))),
            }
        }
        Kind::Map => {
            let (old_map, new_map) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            let implied = || {
                let present = [old_map, new_map].into_iter().flatten().next().is_some();
                present && kind.implied().next().is_some()
            };
            let empty = old_map.is_none_or(Map::is_empty) && new_map.is_none_or(Map::is_empty) && !implied();
            if kind.is_whole_map() || empty {
                return (Some(leaf(old, new)), Comparison::default());
            }
            (None, maps(kind, old_map, new_map))
        }
    }
}

fn items(list: Option<&Vec<Value>>) -> &[Value] {
    list.map_or(&[], Vec::as_slice)
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Own {
    match (old, new) {
        (None, None) => Own::Same,
        (None, Some(_)) => Own::Added,
        (Some(_), None) => Own::Removed,
        (Some(old), Some(new)) if same(old, new) => Own::Same,
        _ => Own::Modified,
    }
}

fn maps(kind: Type<'_>, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) -> Comparison {
    let mut found = Comparison::default();
    let mut one = |name: &str, old: Option<&Value>, new: Option<&Value>| {
        let below = kind.field(name).unwrap_or(Type::Deduced);
        let element = Element::field(name);
        let (own, differences) = values(below, old, new);
        found.own(&element, own);
        found.below(&element, differences);
    };
    let implied: BTreeMap<&str, &Value> = kind.implied().collect();
    let of = |map: Option<&Map<String, Value>>, name: &str| {
        map.map(|_| implied.get(name).copied()).unwrap_or_default()
    };
    let (old_fields, new_fields) = (old.into_iter().flatten(), new.into_iter().flatten());
    let mut names: Vec<&str> = old_fields.chain(new_fields).map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let was = old.and_then(|old| old.get(name)).or_else(|| of(old, name));
        let is = new.and_then(|new| new.get(name)).or_else(|| of(new, name));
        let told = |map: Option<&Map<String, Value>>| map.is_some_and(|map| map.contains_key(name));
        match (was, is) {
            (Some(was), Some(is)) if was == is => {}
            (Some(was), Some(is)) if told(old) != told(new) && is_zero(was) && is_zero(is) => {}
            _ => one(name, was, is),
        }
    }
    // Where one side is absent altogether, what the other has without being told differs too.
    if old.is_none() != new.is_none() {
        let told = |name: &str| old.or(new).is_some_and(|map| map.contains_key(name));
        for (name, value) in implied.iter().filter(|(name, _)| !told(name)) {
            if old.is_some() { one(name, Some(value), None) } else { one(name, None, Some(value)) }
        }
    }
    found
}

/// Whether it is what a scalar of Go has where nothing is told.
fn is_zero(value: &Value) -> bool {
    !value.is_array() && !value.is_object() && decode::is_zero(value)
}

fn lists(kind: Type<'_>, list: List<'_>, old: &[Value], new: &[Value]) -> Comparison {
    let mut found = Comparison::default();
    let mut sides: BTreeMap<Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    // What cannot be found by a key cannot be owned; values that are kept have been looked at before.
    for item in old {
        if let Ok(element) = kind.element(list, item) {
            sides.entry(element).or_default().0.push(item);
        }
    }
    for item in new {
        if let Ok(element) = kind.element(list, item) {
            sides.entry(element).or_default().1.push(item);
        }
    }
    for (element, (old, new)) in sides {
        let mut compare = |old: Option<&Value>, new: Option<&Value>| {
            if old.is_some() && old == new {
                return;
            }
            let (own, differences) = values(kind.items(), old, new);
            found.own(&element, own);
            found.below(&element, differences);
        };
        // Items of the same key are compared as one thing.
        match (&*old, &*new) {
            ([] | [_], [] | [_]) => compare(old.first().copied(), new.first().copied()),
            ([_, _, ..], [_, _, ..]) => {
                let equal = old.len() == new.len() && old.iter().zip(&new).all(|(old, new)| same(old, new));
                found.own(&element, if equal { Own::Same } else { Own::Modified });
            }
            ([_, _, ..], _) => {
                if let [new] = &*new {
                    compare(None, Some(new));
                }
                found.own(&element, Own::Removed);
            }
            _ => {
                if let [old] = &*old {
                    compare(Some(old), None);
                }
                found.own(&element, Own::Added);
            }
        }
    }
    found
}
