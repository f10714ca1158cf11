//! Lists that are sets or maps: no item twice.

use super::ratchet::key_of;
use super::schema::Props;
use super::values::canonical;
use crate::contract::field::{FieldError, FieldErrors, Path};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Every item that is there twice.
pub(super) fn validate(props: &Props, value: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    match value {
        Value::Array(items) => {
            match props.list_type.as_deref() {
                Some("set") => set(items, path, &mut errors),
                Some("map") => map(props, items, path, &mut errors),
                _ => {}
            }
            if let Some(schema) = &props.items {
                for (index, item) in items.iter().enumerate() {
                    errors.extend(validate(schema, item, &path.index(index)));
                }
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                if let Some(schema) = props.properties.get(name) {
                    errors.extend(validate(schema, value, &path.child(name)));
                } else if let Some(schema) = props.values() {
                    errors.extend(validate(schema, value, &path.key(name)));
                }
            }
        }
        _ => {}
    }
    errors
}

/// The second of each pair of equal ones, once.
fn repeated(items: impl Iterator<Item = String>) -> Vec<usize> {
    let mut seen: HashMap<String, bool> = HashMap::new();
    let mut out = Vec::new();
    for (index, item) in items.enumerate() {
        match seen.get_mut(&item) {
            Some(told) if *told => {}
            Some(told) => {
                *told = true;
                out.push(index);
            }
            None => {
                seen.insert(item, false);
            }
        }
    }
    out
}

fn set(items: &[Value], path: &Path, errors: &mut FieldErrors) {
    for index in repeated(items.iter().map(canonical)) {
        errors.push(FieldError::duplicate(&path.index(index), items[index].clone()));
    }
}

fn map(props: &Props, items: &[Value], path: &Path, errors: &mut FieldErrors) {
    if let Some(index) = items.iter().position(|item| !item.is_object()) {
        let detail = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(index), items[index].clone(), detail));
        return;
    }
    let keys: Vec<Value> = items
        .iter()
        .map(|item| {
            let pair = |key: &String| key_of(props, item, key).map(|value| (key.clone(), value.clone()));
            Value::Object(props.list_keys.iter().filter_map(pair).collect::<Map<_, _>>())
        })
        .collect();
    for index in repeated(keys.iter().map(canonical)) {
        errors.push(FieldError::duplicate(&path.index(index), keys[index].clone()));
    }
}
