//! Merging lists by key or by value.

use super::order::{Key, Order};
use super::{DIRECTIVE, Error, Merged, ORDER, go, known, list_of, merge_maps, way, without_directives};
use crate::schema::Schema;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// What the items of lists are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Maps,
    Scalars,
}

/// Obeys each `$setElementOrder/FIELD`: merges the list and sorts it by the order given, then by the patch, then as it was.
pub(super) fn in_order(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Merged<()> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let Some(order) = patch.remove(&directive) else { continue };
        let Value::Array(order) = order else {
            return Err(Error::of_type(&Value::Array(Vec::new()), &order));
        };
        let name = list_of(&directive, ORDER).ok_or(Error::ORDER)?;
        let (old, new) = (list(original.get(name))?, list(patch.get(name))?);
        let below = schema.and_then(|schema| schema.below(name));
        known(schema, below, name)?;
        let way = way(below);
        check_order(new.unwrap_or_default(), &order, way.key)?;
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old.to_vec(),
            (None, Some(new)) => new.iter().filter_map(|item| without_directives(item.clone())).collect(),
            (Some(old), Some(new)) if way.merge => merge(old.to_vec(), new.to_vec(), below, false)?,
            (Some(_), Some(new)) => new.to_vec(),
        };
        let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
        let kind = kind_of(&[old, new])?;
        let key = way.key.unwrap_or_default();
        let (named, others) = split(merged, &order, key)?;
        let sorted = super::order::normalized(named, others, &order, old, key, kind)?;
        original.insert(name.to_owned(), Value::Array(sorted));
        patch.remove(name);
    }
    Ok(())
}

fn list(value: Option<&Value>) -> Merged<Option<&[Value]>> {
    match value {
        None => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items)),
        Some(other) => Err(Error::of_type(&Value::Array(Vec::new()), other)),
    }
}

/// Whether the items of the patch stand in the order that it gives itself.
fn check_order(items: &[Value], order: &[Value], key: Option<&str>) -> Merged<()> {
    if items.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut left = order.iter();
    for item in items {
        if key.is_some() && !item.is_object() {
            return Err(Error::of_type(&Value::Object(Map::new()), item));
        }
        if item.get(DIRECTIVE).is_some() {
            continue;
        }
        let mut found = false;
        for place in left.by_ref() {
            found = match key {
                None => item == place,
                Some(key) => keyed(item, key)? == keyed(place, key)?,
            };
            if found {
                break;
            }
        }
        if !found {
            return Err(Error::Other(format!(
                "The order in patch list:\n{}\n doesn't match {ORDER} list:\n{}\n",
                go::shown(&Value::Array(items.to_vec())),
                go::shown(&Value::Array(order.to_vec()))
            )));
        }
    }
    Ok(())
}

/// The merge key's value of an item.
pub(super) fn keyed<'a>(item: &'a Value, key: &str) -> Merged<&'a Value> {
    let Value::Object(map) = item else { return Err(Error::of_type(&Value::Object(Map::new()), item)) };
    map.get(key).ok_or_else(|| Error::without_key(map, key))
}

/// What the items of all lists are; they have to be of one type.
fn kind_of(lists: &[&[Value]]) -> Merged<Kind> {
    let mut items = lists.iter().copied().flatten();
    let Some(first) = items.next() else {
        return Err(Error::Other("no elements in any of the given slices".to_owned()));
    };
    if first.is_array() {
        return Err(Error::Refused);
    }
    let kind = go::type_name(first);
    if items.any(|item| go::type_name(item) != kind) {
        let lists = lists.iter().map(|list| go::shown(&Value::Array(list.to_vec())));
        let lists = lists.collect::<Vec<_>>().join(" ");
        return Err(Error::Other(format!("list element types are not identical: [{lists}]")));
    }
    Ok(if first.is_object() { Kind::Maps } else { Kind::Scalars })
}

/// Merges `patch` into `original`, or takes its values out of it.
pub(super) fn merge(
    original: Vec<Value>,
    patch: Vec<Value>,
    schema: Option<Schema<'_>>,
    deletes: bool,
) -> Merged<Vec<Value>> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    let key = way(schema).key;
    let kind = kind_of(&[&original, &patch])?;
    let (original, patch, merged) = match (kind, key) {
        (Kind::Scalars, _) if deletes => {
            let gone: HashSet<Key<'_>> = patch.iter().map(Key::of).collect();
            return Ok(original.iter().filter(|item| !gone.contains(&Key::of(item))).cloned().collect());
        }
        (Kind::Scalars, _) => {
            let both = original.iter().chain(&patch).cloned().collect();
            (original, patch, each_once(both))
        }
        (Kind::Maps, None) => {
            return Err(Error::Other("cannot merge lists without merge key for struct".to_owned()));
        }
        (Kind::Maps, Some(key)) => {
            let (original, patch) = obey_directives(original, patch, key)?;
            let merged = by_key(original.clone(), &patch, key, schema)?;
            (original, patch, merged)
        }
    };
    let key = key.unwrap_or_default();
    let (named, others) = split(merged, &patch, key)?;
    super::order::normalized(named, others, &patch, &original, key, kind)
}

/// Obeys `$patch` of items: what is left of the original, and the items of the patch that have none.
fn obey_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    key: &str,
) -> Merged<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replaces = false;
    let mut all_gone = HashSet::new();
    for item in patch {
        let Value::Object(map) = &item else { continue };
        match map.get(DIRECTIVE) {
            None => plain.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = map.get(key).ok_or_else(|| Error::without_key(map, key))?;
                all_gone.insert(Key::of(gone).owned());
            }
            Some(Value::String(directive)) if directive == "replace" => replaces = true,
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(Error::Other("merging lists cannot yet be specified in the patch".to_owned()));
            }
            Some(other) => return Err(Error::directive(other, map)),
        }
    }
    if !all_gone.is_empty() {
        original.retain(|item| !item.get(key).is_some_and(|value| all_gone.contains(&Key::of(value))));
    }
    Ok(if replaces { (plain, Vec::new()) } else { (original, plain) })
}

/// Merges each item of the patch into the one that has its key, or adds it at the end.
fn by_key(
    mut original: Vec<Value>,
    patch: &[Value],
    key: &str,
    schema: Option<Schema<'_>>,
) -> Merged<Vec<Value>> {
    let items = schema.and_then(Schema::items);
    let mut places: HashMap<Key<'static>, usize> = HashMap::with_capacity(original.len());
    for (place, item) in original.iter().enumerate() {
        if let Some(value) = item.get(key) {
            places.entry(Key::of(value).owned()).or_insert(place);
        }
    }
    for item in patch {
        let Value::Object(map) = item else { continue };
        let value = map.get(key).ok_or_else(|| Error::without_key(map, key))?;
        let value = Key::of(value).owned();
        match places.get(&value).and_then(|place| original.get_mut(*place)) {
            Some(Value::Object(old)) => *old = merge_maps(std::mem::take(old), map.clone(), items)?,
            _ => {
                places.insert(value, original.len());
                original.push(item.clone());
            }
        }
    }
    Ok(original)
}

/// The items that `by` names, and the others.
fn split(items: Vec<Value>, by: &[Value], key: &str) -> Merged<(Vec<Value>, Vec<Value>)> {
    let order = Order::of(by, key);
    let (mut named, mut others) = (Vec::new(), Vec::new());
    for item in items {
        if !key.is_empty() {
            keyed(&item, key)?;
        }
        if order.place(&item).is_some() { named.push(item) } else { others.push(item) }
    }
    Ok((named, others))
}

/// Each value once.
fn each_once(mut values: Vec<Value>) -> Vec<Value> {
    let mut seen = HashSet::with_capacity(values.len());
    values.retain(|value| seen.insert(Key::of(value).owned()));
    values
}
