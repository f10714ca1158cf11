//! JSON patches, RFC 6902, with the ways of the library that Kubernetes uses.
//!
//! Those that clients see: a missing member and one that is null are the same to `test`, `copy` and `replace`; `replace` of
//! a member that is not there adds it; array indices may be negative and then count from the end.

use super::go;
use crate::contract::{Details, Reason, Result, Status, is_deeper_than};
use crate::decode::{MOST_DEEP, MOST_TOLD, cut};
use serde_json::{Map, Value};
use std::borrow::Borrow;

const MOST_OPERATIONS: usize = 10_000;
/// How many bytes all `copy` operations of a patch may add.
const MOST_COPIED: usize = 3 << 20;

/// Applies the operations of `patch` to `document`, all or none.
///
/// # Errors
/// 400 where the patch is no list of operations, 413 where it has more than 10,000, 422 where an operation does not apply.
pub fn apply(document: &Value, patch: &Value) -> Result<Value> {
    let operations = operations(patch)?;
    if operations.len() > MOST_OPERATIONS {
        let message = format!(
            "Request entity is too large: The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(Status::new(413, Reason::RequestEntityTooLarge, message));
    }
    let mut patched = document.clone();
    let mut copied = 0;
    for operation in operations {
        one(&mut patched, operation, &mut copied).ok_or_else(refused)?;
    }
    Ok(patched)
}

/// What a strict reading of `patch` says of members that operations do not have, in the words of warnings: a hundred of
/// them at most.
#[must_use]
pub fn unknown_fields(patch: &Value) -> Vec<String> {
    let operations = patch.as_array().into_iter().flatten().enumerate();
    let unknown = operations.flat_map(|(index, operation)| {
        let names = operation.as_object().into_iter().flat_map(Map::keys);
        names
            .filter(|name| !matches!(&***name, "op" | "path" | "from" | "value"))
            .map(move |name| format!("json patch unknown field \"[{index}].{}\"", cut(name)))
    });
    unknown.take(MOST_TOLD).collect()
}

/// Kubernetes does not tell clients which operation failed, and why.
fn refused() -> Status {
    let message = "the server rejected our request due to an error in our request";
    Status::new(422, Reason::Invalid, message).with(Details::default())
}

fn operations(patch: &Value) -> Result<Vec<&Map<String, Value>>> {
    let wrong = |value: &Value, place: &str| {
        Status::bad_request(format!(
            "error decoding patch: json: cannot unmarshal {} into Go {place}",
            go::json_word(value)
        ))
    };
    let list = match patch {
        Value::Array(list) => list,
        Value::Null => return Ok(Vec::new()),
        other => return Err(wrong(other, "value of type []handlers.jsonPatchOp")),
    };
    let mut operations = Vec::with_capacity(list.len());
    for operation in list {
        let Value::Object(operation) = operation else {
            return Err(wrong(operation, "value of type handlers.jsonPatchOp"));
        };
        for name in ["op", "path", "from"] {
            if let Some(value) = operation.get(name).filter(|value| !value.is_string() && !value.is_null()) {
                return Err(wrong(value, &format!("struct field jsonPatchOp.{name} of type string")));
            }
        }
        operations.push(operation);
    }
    Ok(operations)
}

/// `None` where the operation does not apply; `document` is then of no use any more.
fn one(document: &mut Value, operation: &Map<String, Value>, copied: &mut usize) -> Option<()> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match text("op")? {
        "add" => Place::find(document, text("path")?)?.add(fitting(text("path")?, value())?),
        "remove" => Place::find(document, text("path")?)?.remove().map(drop),
        "replace" if text("path")?.is_empty() => {
            let new = value();
            *document = fitting("", (new.is_object() || new.is_array()).then_some(new)?)?;
            Some(())
        }
        "replace" => Place::find(document, text("path")?)?.replace(fitting(text("path")?, value())?),
        "move" => {
            let moved = Place::find(document, text("from")?)?.remove()?;
            Place::find(document, text("path")?)?.add(fitting(text("path")?, moved)?)
        }
        "copy" => {
            let place = Place::find(document, text("from")?)?;
            // Looked at before it is copied.
            let copy = fitting(text("path")?, place.get()?)?.clone();
            *copied = copied.checked_add(copy.to_string().len()).filter(|copied| *copied <= MOST_COPIED)?;
            Place::find(document, text("path")?)?.add(copy)
        }
        "test" => {
            let path = text("path")?;
            let expected = value();
            let same = if path.is_empty() {
                *document == expected
            } else {
                *Place::find(document, path)?.get()? == expected
            };
            same.then_some(())
        }
        _ => None,
    }
}

/// The value, where it may stand at `path`: a document is no deeper than a body may be, or it could be neither written nor
/// read.
fn fitting<V: Borrow<Value>>(path: &str, value: V) -> Option<V> {
    let most = MOST_DEEP.checked_sub(path.matches('/').count())?;
    (!is_deeper_than(value.borrow(), most)).then_some(value)
}

/// Where an operation acts: a container that is there, and a key or index that need not be.
enum Place<'a> {
    Member(&'a mut Map<String, Value>, String),
    Item(&'a mut Vec<Value>, String),
}

static NULL: Value = Value::Null;

impl<'a> Place<'a> {
    /// What `path` points to. What stands before its first slash is not looked at.
    fn find(document: &'a mut Value, path: &str) -> Option<Place<'a>> {
        let mut segments = path.split('/').skip(1).map(unescaped).peekable();
        let mut container = document;
        loop {
            let segment = segments.next()?;
            if segments.peek().is_none() {
                return match container {
                    Value::Object(fields) => Some(Place::Member(fields, segment)),
                    Value::Array(items) => Some(Place::Item(items, segment)),
                    _ => None,
                };
            }
            container = match container {
                Value::Object(fields) => fields.get_mut(&segment)?,
                Value::Array(items) => {
                    let index = index(&segment, items.len())?;
                    items.get_mut(index)?
                }
                _ => return None,
            };
        }
    }

    fn get(&self) -> Option<&Value> {
        match self {
            Place::Member(fields, name) => Some(fields.get(name).unwrap_or(&NULL)),
            Place::Item(items, at) => items.get(index(at, items.len())?),
        }
    }

    fn add(self, value: Value) -> Option<()> {
        match self {
            Place::Member(fields, name) => {
                fields.insert(name, value);
            }
            Place::Item(items, at) if at == "-" => items.push(value),
            Place::Item(items, at) => {
                // Counted from the end, -1 is behind the last.
                let index = index(&at, items.len() + 1).filter(|index| *index <= items.len())?;
                items.insert(index, value);
            }
        }
        Some(())
    }

    fn replace(self, value: Value) -> Option<()> {
        match self {
            Place::Member(fields, name) => {
                fields.insert(name, value);
            }
            Place::Item(items, at) => {
                let index = index(&at, items.len())?;
                *items.get_mut(index)? = value;
            }
        }
        Some(())
    }

    fn remove(self) -> Option<Value> {
        match self {
            Place::Member(fields, name) => fields.remove(&name),
            Place::Item(items, at) => {
                let index = index(&at, items.len()).filter(|index| *index < items.len())?;
                Some(items.remove(index))
            }
        }
    }
}

/// An index as written, where negative ones count back from `length`.
fn index(text: &str, length: usize) -> Option<usize> {
    let written: i64 = text.parse().ok()?;
    if written >= 0 {
        return usize::try_from(written).ok();
    }
    length.checked_sub(usize::try_from(written.unsigned_abs()).ok()?)
}

/// A segment of a pointer (RFC 6901) without its escapes; a `~` that escapes nothing stays.
fn unescaped(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = rest.find('~') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let (character, length) = match escape.as_bytes().get(1) {
            Some(b'1') => ('/', 2),
            Some(b'0') => ('~', 2),
            _ => ('~', 1),
        };
        out.push(character);
        rest = &escape[length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
