//! Values while an expression is evaluated. Those of the object are read where they stand; nothing is copied.

use super::types::{Declared, Fields, ListKind, Shape};
use crate::contract::names::Cidr;
use crate::contract::quantity::Quantity;
use base64::Engine as _;
use jiff::Timestamp;
use serde_json::{Map as JsonMap, Value as Json};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

/// A string of the object, or one that was made.
#[derive(Clone, Debug)]
pub(crate) enum Text<'a> {
    Held(&'a str),
    Made(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Held(text) => text,
            Text::Made(text) => text,
        }
    }
}

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    /// In nanoseconds.
    Duration(i64),
    Timestamp(Timestamp),
    Type(&'static str),
    List(List<'a>),
    Map(Map<'a>),
    Optional(Option<Arc<Value<'a>>>),
    Url(Arc<super::library::url::Url>),
    Ip(IpAddr),
    Cidr(Cidr),
    Quantity(Arc<Quantity>),
    Format(&'static super::library::format::Format),
    Semver(Arc<super::library::semver::Semver>),
    /// What asks an authorizer.
    Authz(Arc<super::library::authz::Authz<'a>>),
}

/// A list of the object, or one that was made.
#[derive(Clone, Debug)]
pub(crate) enum List<'a> {
    Held(&'a [Json], Option<&'a Declared>, &'a ListKind),
    Made(Arc<Vec<Value<'a>>>),
}

/// A map or object of the object, or a map that was made.
#[derive(Clone, Debug)]
pub(crate) enum Map<'a> {
    Held(&'a JsonMap<String, Json>, Option<&'a Declared>),
    Object(&'a JsonMap<String, Json>, &'a Fields),
    Made(Arc<Vec<(Value<'a>, Value<'a>)>>),
}

impl<'a> Value<'a> {
    /// A string that was made.
    pub(crate) fn text(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Text::Made(text.into()))
    }

    /// A list that was made.
    pub(crate) fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Made(Arc::new(items)))
    }

    /// An optional value.
    pub(crate) fn optional(value: Option<Value<'a>>) -> Value<'a> {
        Value::Optional(value.map(Arc::new))
    }

    /// The value in JSON as the schema declares it; what does not fit its declaration is taken as it stands.
    pub(crate) fn of(json: &'a Json, declared: Option<&'a Declared>) -> Value<'a> {
        let shape = declared.map(|declared| &declared.shape);
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match (shape, number.as_i64()) {
                (Some(Shape::Double), _) | (_, None) => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
                (_, Some(number)) => Value::Int(number),
            },
            Json::String(text) => of_text(text, shape),
            Json::Array(items) => match shape {
                Some(Shape::List(declared, kind)) => Value::List(List::Held(items, Some(declared), kind)),
                _ => Value::List(List::Held(items, None, &ListKind::Atomic)),
            },
            Json::Object(map) => match shape {
                Some(Shape::Object(fields)) => Value::Map(Map::Object(map, fields)),
                Some(Shape::Map(values)) => Value::Map(Map::Held(map, Some(values))),
                _ => Value::Map(Map::Held(map, None)),
            },
        }
    }

    /// Characters, bytes, items or entries; 1 of what has no size.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Value::String(text) => text.chars().count() as u64,
            Value::Bytes(bytes) => bytes.len() as u64,
            Value::List(list) => list.len() as u64,
            Value::Map(map) => map.len() as u64,
            Value::Optional(Some(value)) => value.size(),
            _ => 1,
        }
    }

    /// The name of its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Type(_) => "type",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Optional(_) => "optional_type",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(_) => "net.CIDR",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Authz(authz) => authz.type_name(),
        }
    }

    /// Whether two values are equal; numbers by their value, whatever their type.
    pub(crate) fn equals(&self, other: &Value<'a>) -> bool {
        match (self, other) {
            (Value::List(a), Value::List(b)) => a.equals(b),
            (Value::Map(a), Value::Map(b)) => a.equals(b),
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => a.equals(b),
                (a, b) => a.is_none() && b.is_none(),
            },
            (Value::Null, Value::Null) => true,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::Url(a), Value::Url(b)) => a == b,
            (Value::Ip(a), Value::Ip(b)) => a == b,
            (Value::Cidr(a), Value::Cidr(b)) => a == b,
            (Value::Format(a), Value::Format(b)) => a.name == b.name,
            (a, b) => a.compare(b) == Some(Ordering::Equal),
        }
    }

    /// Which of two values comes first, where their types have an order.
    pub(crate) fn compare(&self, other: &Value<'a>) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Value::String(a), Value::String(b)) => Some((**a).cmp(&**b)),
            (Value::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
            (Value::Quantity(a), Value::Quantity(b)) => a.partial_cmp(b),
            (Value::Semver(a), Value::Semver(b)) => Some(a.cmp(b)),
            (a, b) => match (a.integer(), b.integer()) {
                (Some(a), Some(b)) => Some(a.cmp(&b)),
                (Some(a), None) => b.double().and_then(|b| compare_mixed(a, b)),
                (None, Some(b)) => a.double().and_then(|a| compare_mixed(b, a)).map(Ordering::reverse),
                (None, None) => a.double()?.partial_cmp(&b.double()?),
            },
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Value::Int(number) => Some(i128::from(*number)),
            Value::Uint(number) => Some(i128::from(*number)),
            _ => None,
        }
    }

    fn double(&self) -> Option<f64> {
        if let Value::Double(number) = self { Some(*number) } else { None }
    }

    /// The text of a string.
    pub(crate) fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }
}

fn of_text<'a>(text: &'a str, shape: Option<&Shape>) -> Value<'a> {
    let read = match shape {
        Some(Shape::Bytes) => base64::engine::general_purpose::STANDARD
            .decode(text)
            .ok()
            .map(|bytes| Value::Bytes(bytes.into())),
        Some(Shape::Duration) => super::library::time::duration(text).map(Value::Duration),
        Some(Shape::Timestamp(true)) => super::library::time::date(text).map(Value::Timestamp),
        Some(Shape::Timestamp(false)) => super::library::time::timestamp(text).map(Value::Timestamp),
        _ => None,
    };
    read.unwrap_or(Value::String(Text::Held(text)))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the truncated number decides, and what was cut off after it"
)]
fn compare_mixed(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 1e30 {
        return 0.0.partial_cmp(&double);
    }
    let whole = double.trunc();
    Some(integer.cmp(&(whole as i128)).then(if double > whole {
        Ordering::Less
    } else if double < whole {
        Ordering::Greater
    } else {
        Ordering::Equal
    }))
}

impl<'a> List<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            List::Held(items, ..) => items.len(),
            List::Made(items) => items.len(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Value<'a>> {
        match self {
            List::Held(items, declared, _) => items.get(index).map(|item| Value::of(item, *declared)),
            List::Made(items) => items.get(index).cloned(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    fn kind(&self) -> &ListKind {
        match self {
            List::Held(_, _, kind) => kind,
            List::Made(_) => &ListKind::Atomic,
        }
    }

    /// Sets and maps are equal whatever the order of their items.
    fn equals(&self, other: &List<'a>) -> bool {
        if self.len() != other.len() {
            return false;
        }
        let ordered = || self.iter().zip(other.iter()).all(|(a, b)| a.equals(&b));
        if self.kind() == &ListKind::Atomic {
            return ordered();
        }
        match (self.texts(), other.texts()) {
            (Some(own), Some(others)) => {
                let others: HashSet<String> = others.collect();
                ordered() || own.into_iter().all(|text| others.contains(&text))
            }
            _ => ordered() || self.iter().all(|item| other.iter().any(|found| item.equals(&found))),
        }
    }

    /// The items as JSON, of a list of the object.
    fn texts(&self) -> Option<impl Iterator<Item = String> + '_> {
        match self {
            List::Held(items, ..) => Some(items.iter().map(Json::to_string)),
            List::Made(_) => None,
        }
    }

    /// Both lists together: of a set or map without repetition, where the right one wins.
    pub(crate) fn plus(&self, other: &List<'a>) -> List<'a> {
        let mut items: Vec<Value<'a>> = self.iter().collect();
        match self.kind() {
            ListKind::Atomic => items.extend(other.iter()),
            ListKind::Set => merge(&mut items, other, identity),
            ListKind::Map(keys) => merge(&mut items, other, |item| match item {
                Value::Map(map) => Some(keys.iter().map(|key| format!("{:?}\n", map.raw(key))).collect()),
                _ => None,
            }),
        }
        List::Made(Arc::new(items))
    }
}

/// Puts the items of `other` in the places of those with the same identity, or behind them.
fn merge<'a>(items: &mut Vec<Value<'a>>, other: &List<'a>, identity: impl Fn(&Value<'a>) -> Option<String>) {
    let mut places: HashMap<String, usize> = HashMap::new();
    for (place, item) in items.iter().enumerate() {
        places.extend(identity(item).map(|identity| (identity, place)));
    }
    for item in other.iter() {
        let identity = identity(&item);
        let place = match &identity {
            Some(identity) => places.get(identity).copied(),
            None => items.iter().position(|known| known.equals(&item)),
        };
        match place {
            Some(place) => items[place] = item,
            None => {
                places.extend(identity.map(|identity| (identity, items.len())));
                items.push(item);
            }
        }
    }
}

/// What tells an item of a set from others; `None` of what an expression has put together.
fn identity(item: &Value<'_>) -> Option<String> {
    match item {
        Value::List(List::Held(items, ..)) => serde_json::to_string(items).ok(),
        Value::Map(Map::Held(map, _) | Map::Object(map, _)) => serde_json::to_string(map).ok(),
        Value::List(_) | Value::Map(_) | Value::Optional(_) => None,
        scalar => Some(format!("{} {}", scalar.type_name(), super::library::plain(scalar))),
    }
}

impl<'a> Map<'a> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Map::Held(map, _) => map.len(),
            Map::Object(map, _) => map.len(),
            Map::Made(entries) => entries.len(),
        }
    }

    fn raw(&self, name: &str) -> Option<&'a Json> {
        match self {
            Map::Held(map, _) | Map::Object(map, _) => map.get(name),
            Map::Made(_) => None,
        }
    }

    /// The field of that (escaped) name, or the value under that key.
    pub(crate) fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Held(map, declared) => map.get(name).map(|value| Value::of(value, *declared)),
            Map::Object(map, fields) => {
                let field = fields.fields.get(name)?;
                map.get(&field.name).map(|value| Value::of(value, Some(&field.declared)))
            }
            Map::Made(entries) => {
                entries.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value.clone())
            }
        }
    }

    /// The value under a key of any type.
    pub(crate) fn get(&self, key: &Value<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Made(entries), key) => {
                entries.iter().find(|(known, _)| known.equals(key)).map(|(_, value)| value.clone())
            }
            (_, Value::String(name)) => self.field(name),
            _ => None,
        }
    }

    pub(crate) fn entries(&self) -> Vec<(Value<'a>, Value<'a>)> {
        self.iter().collect()
    }

    /// Keys and values; keys are names as they stand in the JSON.
    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = (Value<'a>, Value<'a>)> + '_> {
        let key = |name: &'a String| Value::String(Text::Held(name));
        match self {
            Map::Held(map, declared) => {
                let declared = *declared;
                Box::new(map.iter().map(move |(name, value)| (key(name), Value::of(value, declared))))
            }
            Map::Object(map, fields) => Box::new(map.iter().map(move |(name, value)| {
                let field = fields.fields.values().find(|field| field.name == *name);
                (key(name), Value::of(value, field.map(|field| &field.declared)))
            })),
            Map::Made(entries) => Box::new(entries.iter().cloned()),
        }
    }

    fn equals(&self, other: &Map<'a>) -> bool {
        self.len() == other.len()
            && self.iter().all(|(key, value)| other.by_key(&key).is_some_and(|found| value.equals(&found)))
    }

    /// As [`get`](Map::get), but by the name in the JSON.
    fn by_key(&self, key: &Value<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Object(map, fields), Value::String(name)) => {
                let value = map.get(&**name)?;
                let field = fields.fields.values().find(|field| *field.name == **name);
                Some(Value::of(value, field.map(|field| &field.declared)))
            }
            _ => self.get(key),
        }
    }
}
