//! Structured merge: a configuration put over a live object.

use super::path::Element;
use super::typed::{Kind, Type};
use crate::schema::List;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};

/// What comes of `config` put over `live`, both of `kind`.
///
/// # Errors
/// Where the configuration has an item twice.
pub(super) fn merge(kind: Type<'_>, live: &Value, config: &Value) -> Result<Value, String> {
    Ok(values(kind, Some(live), Some(config))?.unwrap_or(Value::Null))
}

fn values(kind: Type<'_>, live: Option<&Value>, config: Option<&Value>) -> Result<Option<Value>, String> {
    // Where both are there and of different kinds, the configuration has its way.
    let handled =
        if config.is_some_and(|config| !config.is_null()) { kind.kind(config) } else { kind.kind(live) };
    let leaf = || Ok(config.or(live).cloned());
    match handled {
        Kind::Scalar => leaf(),
        Kind::List => {
            let (old, new) = (live.and_then(Value::as_array), config.and_then(Value::as_array));
            match kind.list() {
                List::Atomic => leaf(),
                _ if old.is_none_or(Vec::is_empty) && new.is_none_or(Vec::is_empty) => leaf(),
                list => lists(kind, list, items(old), items(new)),
            }
        }
        Kind::Map => {
            let (old, new) = (live.and_then(Value::as_object), config.and_then(Value::as_object));
            if kind.is_whole_map() || (old.is_none_or(Map::is_empty) && new.is_none_or(Map::is_empty)) {
                return leaf();
            }
            maps(kind, old, new)
        }
    }
}

fn items(list: Option<&Vec<Value>>) -> &[Value] {
    list.map_or(&[], Vec::as_slice)
}

fn maps(
    kind: Type<'_>,
    live: Option<&Map<String, Value>>,
    config: Option<&Map<String, Value>>,
) -> Result<Option<Value>, String> {
    let mut out = Map::new();
    for (name, value) in live.into_iter().flatten() {
        match config.and_then(|config| config.get(name)) {
            None => drop(out.insert(name.clone(), value.clone())),
            Some(new) => {
                let below = kind.field(name).unwrap_or(Type::Deduced);
                if let Some(merged) = values(below, Some(value), Some(new))? {
                    out.insert(name.clone(), merged);
                }
            }
        }
    }
    for (name, value) in config.into_iter().flatten() {
        if live.is_none_or(|live| !live.contains_key(name)) {
            out.insert(name.clone(), value.clone());
        }
    }
    Ok((!out.is_empty()).then_some(Value::Object(out)))
}

/// The items of a list by what finds them, and the order in which they stand.
struct Indexed<'v> {
    order: Vec<(Element, &'v Value)>,
    /// `None` for what is there more than once.
    by_element: BTreeMap<Element, Option<&'v Value>>,
}

impl<'v> Indexed<'v> {
    fn of(kind: Type<'_>, list: List<'_>, items: &'v [Value], twice: bool) -> Result<Indexed<'v>, String> {
        let mut indexed = Indexed { order: Vec::with_capacity(items.len()), by_element: BTreeMap::new() };
        for (at, item) in items.iter().enumerate() {
            let element = kind.element(list, item).map_err(|cause| format!("element {at}: {cause}"))?;
            let found = indexed.by_element.contains_key(&element);
            if found && !twice {
                return Err(format!("duplicate entries for key {element}"));
            }
            indexed.by_element.insert(element.clone(), (!found).then_some(item));
            indexed.order.push((element, item));
        }
        Ok(indexed)
    }

    fn has(&self, element: &Element) -> bool {
        self.by_element.contains_key(element)
    }
}

/// Items of the configuration keep its order; items that only the live list has stay behind what they stood behind.
fn lists(kind: Type<'_>, list: List<'_>, live: &[Value], config: &[Value]) -> Result<Option<Value>, String> {
    let new = Indexed::of(kind, list, config, false)?;
    let old = Indexed::of(kind, list, live, true)?;
    let mut shared: VecDeque<&Element> =
        new.order.iter().map(|(element, _)| element).filter(|element| old.has(element)).collect();
    let mut next_shared = shared.pop_front();
    let mut taken: BTreeMap<&Element, ()> = BTreeMap::new();
    let mut out = Vec::with_capacity(live.len().max(config.len()));
    // An item that is there more than once is replaced, not merged: null stands for it.
    let one = |live: Option<Option<&Value>>, config: Option<&Value>| {
        let live = live.map(|live| live.unwrap_or(&Value::Null));
        values(kind.items(), live, config)
    };
    let (mut at_old, mut at_new) = (0, 0);
    while at_old < old.order.len() || at_new < new.order.len() {
        if let (Some((was, _)), Some((is, item))) = (old.order.get(at_old), new.order.get(at_new)) {
            if was == is {
                taken.insert(is, ());
                out.extend(one(old.by_element.get(is).copied(), Some(item))?);
                (at_old, at_new) = (at_old + 1, at_new + 1);
                next_shared = shared.pop_front();
                continue;
            }
            if new.has(was) && next_shared.is_some_and(|next| next != was) {
                // Shared, and its turn comes later.
                at_old += 1;
                continue;
            }
        }
        if let Some((was, item)) = old.order.get(at_old) {
            if !new.has(was) {
                out.extend(one(Some(Some(item)), None)?);
                at_old += 1;
                continue;
            }
            if taken.contains_key(was) {
                at_old += 1;
            }
        }
        if let Some((is, item)) = new.order.get(at_new) {
            taken.insert(is, ());
            out.extend(one(old.by_element.get(is).copied(), Some(item))?);
            at_new += 1;
            if next_shared == Some(is) {
                next_shared = shared.pop_front();
            }
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}
