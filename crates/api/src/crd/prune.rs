//! Dropping what the schema does not know, and filling in its defaults.

use super::schema::Props;
use serde_json::{Map, Value};

/// Drops unknown fields and adds their paths to `dropped`. `root`: the value is a resource, whose `apiVersion`, `kind` and
/// `metadata` are known whatever the schema says.
pub(super) fn prune(value: &mut Value, props: &Props, root: bool, path: &str, dropped: &mut Vec<String>) {
    match value {
        Value::Object(map) => prune_object(map, props, root || props.embedded, path, dropped),
        Value::Array(items) => match &props.items {
            Some(schema) => {
                for (index, item) in items.iter_mut().enumerate() {
                    prune(item, schema, false, &format!("{path}[{index}]"), dropped);
                }
            }
            None if props.preserves() => {}
            None => {
                let nothing = Props::default();
                for (index, item) in items.iter_mut().enumerate() {
                    prune(item, &nothing, false, &format!("{path}[{index}]"), dropped);
                }
            }
        },
        _ => {}
    }
}

/// Writes whole numbers as Go does: without a fraction.
pub(super) fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().filter(|number| number.fract() == 0.0 && number.abs() < 9e15);
            #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
            if let Some(whole) = whole {
                *value = (whole as i64).into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn prune_object(
    map: &mut Map<String, Value>,
    props: &Props,
    root: bool,
    path: &str,
    dropped: &mut Vec<String>,
) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    map.retain(|key, value| {
        let known = root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata");
        let schema = props.properties.get(key).or_else(|| props.values());
        match schema {
            _ if known => true,
            Some(schema) => {
                prune(value, schema, false, &below(key), dropped);
                true
            }
            // Below an unknown field that is kept everything is kept.
            None if props.preserves() => true,
            // Of values that nothing is known of but that they may be there, nothing that has a name is known.
            None if props.additional.is_some() => {
                prune(value, &Props::default(), false, &below(key), dropped);
                true
            }
            None => {
                dropped.push(below(key));
                false
            }
        }
    });
}

/// Drops nulls that nothing takes the place of: of fields that may not be null and have no default.
pub(super) fn prune_nulls(value: &mut Value, props: &Props) {
    match value {
        Value::Object(map) => {
            let schema = |name: &str| props.properties.get(name).or_else(|| props.values());
            map.retain(|name, value| {
                !(value.is_null()
                    && schema(name).is_some_and(|schema| !schema.nullable && schema.default.is_none()))
            });
            for (name, value) in map.iter_mut() {
                if let Some(schema) = schema(name) {
                    prune_nulls(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &props.items {
                items.iter_mut().for_each(|item| prune_nulls(item, schema));
            }
        }
        _ => {}
    }
}

/// Fills in defaults: where a field is absent, and where a value is null and may not be.
pub(super) fn default(value: &mut Value, props: &Props) {
    match value {
        Value::Object(map) => {
            for (name, schema) in &props.properties {
                let Some(default) = &schema.default else { continue };
                if map.get(name).is_none_or(|value| value.is_null() && !schema.nullable) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                match props.properties.get(name) {
                    Some(schema) => default(value, schema),
                    None => props.values().into_iter().for_each(|schema| item(value, schema)),
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &props.items {
                items.iter_mut().for_each(|value| item(value, schema));
            }
        }
        _ => {}
    }
}

fn item(value: &mut Value, schema: &Props) {
    if value.is_null()
        && !schema.nullable
        && let Some(default) = &schema.default
    {
        *value = default.clone();
    }
    default(value, schema);
}
