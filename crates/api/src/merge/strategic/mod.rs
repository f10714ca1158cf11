//! Strategic merge patches: a merge patch whose lists merge as the schema says.
//!
//! A patch may hold directives beside fields: `$patch` (`replace`, `delete`), `$retainKeys`, `$setElementOrder/FIELD`,
//! `$deleteFromPrimitiveList/FIELD`. Directives in what is new to the object and not merged stay in it, as in Kubernetes;
//! reading the result by the schema drops them.

mod lists;
mod order;

use super::{go, without_nulls};
use crate::contract::{Details, Reason, Result, Status};
use crate::schema::{Patch, Schema, Shape};
use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";

/// Applies `patch` to `document`, which is of `schema`.
///
/// # Errors
/// 400 and 422 where a directive is malformed, else (as Kubernetes answers) 500.
pub fn apply(document: &Value, patch: &Value, schema: Schema<'_>) -> Result<Value> {
    let patch = match patch {
        Value::Object(patch) => patch.clone(),
        Value::Null => Map::new(),
        other => {
            let word = go::json_word(other);
            return Err(Status::bad_request(format!(
                "json: cannot unmarshal {word} into Go value of type map[string]interface {{}}"
            )));
        }
    };
    let document = document.as_object().cloned().unwrap_or_default();
    merge_maps(document, patch, Some(schema)).map(Value::Object).map_err(Error::into_status)
}

/// What is wrong with a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Error {
    /// 400.
    Malformed(&'static str),
    /// 422, without saying why.
    Refused,
    /// 500: everything else.
    Other(String),
}

impl Error {
    const ORDER: Error = Error::Malformed("invalid patch format of setElementOrder list");
    const RETAIN: Error = Error::Malformed("invalid patch format of retainKeys");
    const PRIMITIVES: Error = Error::Malformed("invalid patch format of primitive list");

    fn into_status(self) -> Status {
        match self {
            Error::Malformed(message) => Status::bad_request(message),
            Error::Refused => {
                let message = "the server rejected our request due to an error in our request";
                Status::new(422, Reason::Invalid, message).with(Details::default())
            }
            Error::Other(message) => Status::new(500, Reason::Unknown, message),
        }
    }

    fn of_type(expected: &Value, found: &Value) -> Error {
        let (expected, found) = (go::type_name(expected), go::type_name(found));
        Error::Other(format!("expected a {expected}, but received a {found}"))
    }

    fn directive(directive: &Value, map: &Map<String, Value>) -> Error {
        let map = go::shown(&Value::Object(map.clone()));
        Error::Other(format!("unknown patch type: {} in map: {map}", go::shown(directive)))
    }

    fn without_key(map: &Map<String, Value>, key: &str) -> Error {
        let map = go::shown(&Value::Object(map.clone()));
        Error::Other(format!("map: {map} does not contain declared merge key: {key}"))
    }
}

type Merged<T> = std::result::Result<T, Error>;

fn merge_maps(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Option<Schema<'_>>,
) -> Merged<Map<String, Value>> {
    match patch.get(DIRECTIVE) {
        None => {}
        Some(Value::String(directive)) if directive == "replace" => {
            patch.remove(DIRECTIVE);
            return Ok(patch);
        }
        Some(Value::String(directive)) if directive == "delete" => return Ok(Map::new()),
        Some(other) => return Err(Error::directive(other, &patch)),
    }
    retain_keys(&mut original, &mut patch)?;
    lists::in_order(&mut original, &mut patch, schema)?;
    for (name, value) in patch {
        let (name, deletes) = match name.starts_with(DELETE_FROM) {
            true => (list_of(&name, DELETE_FROM).ok_or(Error::PRIMITIVES)?.to_owned(), true),
            false => (name, false),
        };
        merge_field(&mut original, name, value, deletes, schema)?;
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map<String, Value>,
    name: String,
    value: Value,
    deletes: bool,
    schema: Option<Schema<'_>>,
) -> Merged<()> {
    if value.is_null() {
        original.remove(&name);
        return Ok(());
    }
    let below = schema.and_then(|schema| schema.below(&name));
    match (original.get_mut(&name), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            known(schema, below, &name)?;
            if schema.is_some_and(|schema| is_replaced(schema, &name)) {
                *old = new;
                return Ok(());
            }
            *old = merge_maps(std::mem::take(old), new, below)?;
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            known(schema, below, &name)?;
            let way = below.map(Schema::patch).unwrap_or_default();
            *old = if way.merge || deletes {
                lists::merge(std::mem::take(old), new, below, deletes)?
            } else {
                new
            };
        }
        (_, _) if deletes => {}
        (Some(old), value) if std::mem::discriminant(old) == std::mem::discriminant(&value) => *old = value,
        (_, value) => match without_directives(without_nulls(value)) {
            Some(value) => drop(original.insert(name, value)),
            None => drop(original.remove(&name)),
        },
    }
    Ok(())
}

/// Whether the map in a field is replaced, not merged: one field of all is (`patchStrategy: replace`).
fn is_replaced(schema: Schema<'_>, name: &str) -> bool {
    name == "selector"
        && schema.node().name.as_deref() == Some("io.k8s.api.policy.v1.PodDisruptionBudgetSpec")
}

/// Whether the schema has the field, as far as Kubernetes asks: it does of structs.
fn known(schema: Option<Schema<'_>>, below: Option<Schema<'_>>, name: &str) -> Merged<()> {
    let Some(schema) = schema.filter(|_| below.is_none()) else { return Ok(()) };
    let kind = schema.node().name.as_deref().unwrap_or_default();
    match schema.shape() {
        // What is opaque to the schema is a struct of Go nevertheless, without fields that a patch could name.
        Shape::Object | Shape::Any if !kind.is_empty() => {
            let kind = kind.rsplit('.').next().unwrap_or_default();
            Err(Error::Other(format!(
                "unable to find api field in struct {kind} for the json field {name:?}"
            )))
        }
        _ => Ok(()),
    }
}

/// Obeys `$retainKeys`: fields of the original that it does not name go.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Merged<()> {
    let Some(keys) = patch.remove(RETAIN) else { return Ok(()) };
    let Value::Array(keys) = keys else { return Err(Error::RETAIN) };
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let names = patch.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name);
    let mut fields = names.filter(|name| !name.starts_with(DELETE_FROM) && !name.starts_with(ORDER));
    if !fields.all(|name| retained(name)) {
        return Err(Error::RETAIN);
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// `FIELD` of `PREFIX/FIELD`.
fn list_of<'a>(directive: &'a str, prefix: &str) -> Option<&'a str> {
    directive.strip_prefix(prefix)?.strip_prefix('/')
}

/// The value without objects that have a `$patch`; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => return None,
        Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(
                fields.filter_map(|(name, value)| Some((name, without_directives(value)?))).collect(),
            )
        }
        Value::Array(items) => items.into_iter().filter_map(without_directives).collect(),
        other => other,
    })
}

/// How a list of `schema` merges.
fn way(schema: Option<Schema<'_>>) -> Patch<'_> {
    schema.map(Schema::patch).unwrap_or_default()
}

#[cfg(test)]
mod tests;
