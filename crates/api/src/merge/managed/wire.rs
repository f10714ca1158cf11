//! `fieldsV1`: sets of fields as JSON.

use super::path::Element;
use super::set::Set;
use serde_json::{Map, Value};

/// A set as `fieldsV1` has it.
pub(super) fn to_fields(set: &Set) -> Value {
    Value::Object(object(set, false))
}

fn object(set: &Set, own: bool) -> Map<String, Value> {
    let mut map = Map::new();
    if own {
        map.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for member in set.members() {
        if set.below(member).is_none() {
            map.insert(member.to_wire(), Value::Object(Map::new()));
        }
    }
    for (element, below) in set.children() {
        map.insert(element.to_wire(), Value::Object(object(below, set.has_member(element))));
    }
    map
}

/// Reads `fieldsV1`.
///
/// # Errors
/// What is malformed, in words close to Kubernetes'.
pub(super) fn from_fields(fields: &Value) -> Result<Set, String> {
    match fields {
        Value::Null => Ok(Set::default()),
        Value::Object(fields) => Ok(read(fields)?.0),
        _ => Err("fieldsV1 is no JSON object".to_owned()),
    }
}

/// The set below, and whether the path above is in it itself: it is where `.` stands, or nothing at all.
fn read(fields: &Map<String, Value>) -> Result<(Set, bool), String> {
    let mut set = Set::default();
    let mut own = false;
    for (name, value) in fields {
        if name == "." {
            own = true;
            continue;
        }
        let Some(element) = Element::from_wire(name)? else { continue };
        let (below, member) = match value {
            Value::Object(fields) => read(fields)?,
            Value::Null => (Set::default(), true),
            _ => return Err(format!("{name} of fieldsV1 is no JSON object")),
        };
        if member {
            set.insert_member(element.clone());
        }
        set.insert_below(&element, below);
    }
    let nothing = set.is_empty();
    Ok((set, own || nothing))
}
