//! Whether a value is of its type, in structured merge's words.

use super::super::go;
use super::path::Element;
use super::typed::{Kind, Type};
use crate::contract::field::quoted;
use crate::schema::{List, Shape};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Checks a configuration that is to be applied: types, undeclared fields, items that are there twice.
///
/// # Errors
/// Everything that is wrong, as one text.
pub(super) fn check(kind: Type<'_>, object: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    value(kind, object, &mut String::new(), &mut errors);
    match &*errors {
        [] => Ok(()),
        [error] => Err(error.clone()),
        errors => Err(format!("errors:\n  {}", errors.join("\n  "))),
    }
}

fn value(kind: Type<'_>, value: &Value, path: &mut String, errors: &mut Vec<String>) {
    match (kind.kind(Some(value)), value) {
        (_, Value::Null) => {}
        (Kind::Scalar, _) => {
            if let Some(wrong) = scalar(kind, value) {
                errors.push(told(path, &wrong));
            }
        }
        (Kind::List, Value::Array(items)) => list(kind, items, path, errors),
        (Kind::List, other) => {
            errors.push(told(path, &format!("expected list, got &{{{}}}", go::shown(other))))
        }
        (Kind::Map, Value::Object(map)) => fields(kind, map, path, errors),
        (Kind::Map, other) => {
            errors.push(told(path, &format!("expected map, got &{{{}}}", go::shown(other))))
        }
    }
}

fn told(path: &str, wrong: &str) -> String {
    if path.is_empty() { wrong.to_owned() } else { format!("{path}: {wrong}") }
}

fn scalar(kind: Type<'_>, value: &Value) -> Option<String> {
    let Type::Of(schema) = kind else { return None };
    let is_scalar = !value.is_object() && !value.is_array();
    match schema.shape() {
        Shape::Int32 | Shape::Int64 | Shape::Number => (!value.is_number())
            .then(|| format!("expected numeric (int or float), got {}", go::type_name(value))),
        Shape::Boolean => {
            (!value.is_boolean()).then(|| format!("expected boolean, got &{{{}}}", go::shown(value)))
        }
        Shape::String | Shape::Bytes | Shape::Duration => (!value.is_string())
            .then(|| format!("expected string, got &value.valueUnstructured{{Value:{}}}", go_syntax(value))),
        _ => (!is_scalar).then(|| format!("expected any scalar, got &{{{}}}", go::shown(value))),
    }
}

/// As `%#v` prints it.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(map) => {
            let fields: Vec<String> =
                map.iter().map(|(name, value)| format!("{}:{}", quoted(name), go_syntax(value))).collect();
            format!("map[string]interface {{}}{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

fn list(kind: Type<'_>, items: &[Value], path: &mut String, errors: &mut Vec<String>) {
    let list = kind.list();
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let element = match list {
            List::Atomic => Element::Index(i64::try_from(at).unwrap_or(i64::MAX)),
            _ => match kind.element(list, item) {
                Ok(element) => element,
                Err(cause) => {
                    errors.push(told(path, &format!("element {at}: {cause}")));
                    return;
                }
            },
        };
        if list != List::Atomic && !seen.insert(element.clone()) {
            errors.push(told(path, &format!("duplicate entries for key {element}")));
        }
        below(kind.items(), item, &element, path, errors);
    }
}

fn fields(kind: Type<'_>, map: &Map<String, Value>, path: &mut String, errors: &mut Vec<String>) {
    for (name, value) in map {
        let element = Element::field(name);
        match kind.field(name) {
            Some(kind) => below(kind, value, &element, path, errors),
            None => {
                errors.push(told(&format!("{path}{element}"), "field not declared in schema"));
                return;
            }
        }
    }
}

fn below(kind: Type<'_>, item: &Value, element: &Element, path: &mut String, errors: &mut Vec<String>) {
    let length = path.len();
    path.push_str(&element.to_string());
    value(kind, item, path, errors);
    path.truncate(length);
}
