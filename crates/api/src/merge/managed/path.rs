//! Steps of paths to fields, and how they are written.

use crate::contract::field::go_json;
use crate::contract::field::quoted;
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// One step of a path.
#[derive(Clone, Debug)]
pub(super) enum Element {
    /// The field of an object or the key of a map.
    Field(Arc<str>),
    /// The item of a list of maps whose key fields have these values, sorted by name.
    Key(Arc<[(Box<str>, Value)]>),
    /// The item of a set.
    Value(Arc<Value>),
    /// The item of a list at a place.
    Index(i64),
}

impl Element {
    pub(super) fn field(name: &str) -> Element {
        Element::Field(name.into())
    }

    /// The key of a list's map of values by field name.
    pub(super) fn key(mut fields: Vec<(Box<str>, Value)>) -> Element {
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Element::Key(fields.into())
    }

    /// As `fieldsV1` writes it: `f:spec`, `k:{"name":"c"}`, `v:"x"`, `i:0`.
    pub(super) fn to_wire(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(fields) => {
                let fields: Map<String, Value> =
                    fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
                format!("k:{}", go_json(&Value::Object(fields)))
            }
            Element::Value(value) => format!("v:{}", go_json(value)),
            Element::Index(index) => format!("i:{index}"),
        }
    }

    /// Reads what [`to_wire`](Element::to_wire) writes. `Ok(None)` for a kind of step that nobody knows yet.
    pub(super) fn from_wire(text: &str) -> Result<Option<Element>, String> {
        let malformed = |cause: &dyn fmt::Display| format!("parsing key as path element: {cause}");
        if text.len() < 2 {
            return Err(malformed(&"key must be 2 characters long:"));
        }
        if text.as_bytes()[1] != b':' {
            return Err(malformed(&format_args!("missing colon: {text}")));
        }
        let rest = &text[2..];
        Ok(Some(match text.as_bytes()[0] {
            b'f' => Element::field(rest),
            b'v' => {
                let value: Value = serde_json::from_str(rest).map_err(|cause| malformed(&cause))?;
                Element::Value(Arc::new(value))
            }
            b'k' => {
                let fields: Map<String, Value> =
                    serde_json::from_str(rest).map_err(|cause| malformed(&cause))?;
                Element::key(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
            }
            b'i' => Element::Index(rest.parse().map_err(|cause| malformed(&cause))?),
            _ => return Ok(None),
        }))
    }

    fn rank(&self) -> u8 {
        match self {
            Element::Field(_) => 0,
            Element::Key(_) => 1,
            Element::Value(_) => 2,
            Element::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Element) -> Ordering {
        match (self, other) {
            (Element::Field(one), Element::Field(other)) => one.cmp(other),
            (Element::Key(one), Element::Key(other)) => {
                let pairs = one.iter().zip(other.iter());
                let differs = pairs
                    .map(|(one, other)| one.0.cmp(&other.0).then_with(|| compare_values(&one.1, &other.1)))
                    .find(|ordering| ordering.is_ne());
                differs.unwrap_or_else(|| one.len().cmp(&other.len()))
            }
            (Element::Value(one), Element::Value(other)) => compare_values(one, other),
            (Element::Index(one), Element::Index(other)) => one.cmp(other),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Element) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Element) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Element {}

/// As messages write it: `.spec`, `[name="c"]`, `[="x"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(fields) => {
                for (index, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{name}={}", if index == 0 { "[" } else { "," }, shown(value))?;
                }
                f.write_str("]")
            }
            Element::Value(value) => write!(f, "[={}]", shown(value)),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// Numbers first, then strings, booleans, lists, maps, null; numbers by what they are worth.
pub(super) fn compare_values(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => one.cmp(&other),
            _ => one.as_f64().unwrap_or(f64::MAX).total_cmp(&other.as_f64().unwrap_or(f64::MAX)),
        },
        (Value::String(one), Value::String(other)) => one.cmp(other),
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other);
            let differs =
                pairs.find_map(|(one, other)| Some(compare_values(one, other)).filter(|order| order.is_ne()));
            differs.unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Value::Object(one), Value::Object(other)) => {
            let mut pairs = one.iter().zip(other);
            let differs = pairs.find_map(|(one, other)| {
                let order = one.0.cmp(other.0).then_with(|| compare_values(one.1, other.1));
                Some(order).filter(|order| order.is_ne())
            });
            differs.unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        _ => rank(one).cmp(&rank(other)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}

/// Whether two values are the same; 1 and 1.0 are.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    one == other || compare_values(one, other).is_eq()
}
