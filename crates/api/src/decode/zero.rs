//! What Go's encoder makes of an object: fields whose values are zero vanish or appear.

use crate::schema::{Presence, Schema, Shape};
use serde_json::{Map, Value};

/// The zero value of a type.
pub(super) fn of(schema: Schema<'_>) -> Value {
    match schema.shape() {
        Shape::Object => {
            let mut value = Value::Object(Map::new());
            settle(&mut value, schema);
            value
        }
        Shape::String | Shape::Duration => "".into(),
        Shape::Int32 | Shape::Int64 | Shape::Number | Shape::IntOrString => 0.into(),
        Shape::Boolean => false.into(),
        Shape::Quantity => "0".into(),
        Shape::Any | Shape::Map | Shape::List | Shape::Bytes | Shape::Time | Shape::MicroTime => Value::Null,
    }
}

/// Makes a value of a built-in type as Kubernetes would send it.
pub(super) fn settle(value: &mut Value, schema: Schema<'_>) {
    match (value, schema.shape()) {
        (Value::Object(map), Shape::Object) => object(map, schema),
        (Value::Object(map), Shape::Map) => {
            let Some(values) = schema.items().filter(|values| matters(*values)) else { return };
            map.values_mut().for_each(|value| settle(value, values));
        }
        (Value::Array(list), Shape::List) => {
            let Some(items) = schema.items().filter(|items| matters(*items)) else { return };
            list.iter_mut().for_each(|value| settle(value, items));
        }
        _ => {}
    }
}

/// Whether there may be something to do below.
fn matters(schema: Schema<'_>) -> bool {
    matches!(schema.shape(), Shape::Object | Shape::Map | Shape::List)
}

fn object(map: &mut Map<String, Value>, schema: Schema<'_>) {
    // Kubernetes keeps objects as protobuf, which does not tell an empty list from none; definitions of custom resources
    // alone are kept as JSON.
    let protobuf =
        !schema.node().name.as_deref().is_some_and(|name| name.starts_with("io.k8s.apiextensions"));
    for (name, field) in schema.fields() {
        let presence = field.node().presence;
        let gone = match map.get_mut(name) {
            Some(value) => {
                settle(value, field);
                if protobuf && presence == Presence::Always && of(field).is_null() && is_zero(value) {
                    *value = Value::Null;
                }
                match presence {
                    Presence::Keep => value.is_null(),
                    Presence::Omit => is_zero(value),
                    Presence::Nonzero => value.is_null() || value.as_object().is_some_and(Map::is_empty),
                    Presence::Always | Presence::Null => false,
                }
            }
            None => false,
        };
        if gone {
            map.remove(name);
        } else if matches!(presence, Presence::Always | Presence::Null) && !map.contains_key(name) {
            let value = if presence == Presence::Always { of(field) } else { Value::Null };
            map.insert(name.to_owned(), value);
        }
    }
}

/// Whether it is what Go has where nothing is told.
pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}
