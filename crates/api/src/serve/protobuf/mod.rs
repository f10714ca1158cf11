//! Bodies in protobuf, as `kubectl create` and other clients with typed objects send them: told as JSON.
//!
//! `numbers.txt` has a line for each message: the type, then `field=number`; `field=number:TYPE` is a message whose fields
//! are those of the object around it. What a field holds is what the schema says. Answers are never protobuf: every such
//! client takes JSON too.

#[cfg(test)]
mod tests;
mod wire;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::contract::{Result, Status};
use crate::decode;
use crate::schema::{self, Presence, Schema, Shape};
use wire::{Field, Held};

/// Which field of which type has which number.
const NUMBERS: &str = include_str!("numbers.txt");

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// How deep messages may lie in each other.
const DEPTH_MAX: usize = 64;
/// How many messages a body may have: each takes far more memory than it has bytes.
const MESSAGES_MAX: usize = 100_000;

/// Where in a body a message is.
#[derive(Clone, Copy)]
struct Within<'a> {
    depth: usize,
    /// How many messages there may be besides.
    left: &'a Cell<usize>,
}

impl Within<'_> {
    fn deeper(self) -> Result<Self> {
        if self.depth == DEPTH_MAX {
            return Err(refused("its messages lie too deep in each other"));
        }
        self.left.set(self.left.get().checked_sub(1).ok_or_else(decode::too_many_values)?);
        Ok(Within { depth: self.depth + 1, ..self })
    }
}

/// A body as JSON.
///
/// # Errors
/// 400 for what is no object of a type that is known.
pub fn to_json(body: &[u8]) -> Result<Value> {
    let rest =
        body.strip_prefix(MAGIC).ok_or_else(|| refused("it does not begin with the prefix of objects"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &rest[..0]);
    for field in wire::fields(rest) {
        let field = field.ok_or_else(|| refused("its envelope is malformed"))?;
        match field {
            Field { number: 1, held: Held::Bytes(bytes) } => {
                for part in wire::fields(bytes) {
                    match part.ok_or_else(|| refused("its type is malformed"))? {
                        Field { number: 1, held } => api_version = text(held)?,
                        Field { number: 2, held } => kind = text(held)?,
                        _ => {}
                    }
                }
            }
            Field { number: 2, held: Held::Bytes(bytes) } => raw = bytes,
            _ => {}
        }
    }
    let schema = named(&api_version, &kind)
        .ok_or_else(|| refused(&format!("no message is known for kind {kind:?} of {api_version:?}")))?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    let name = schema.node().name.clone().unwrap_or_default();
    message(&mut object, &name, schema, raw, Within { depth: 0, left: &Cell::new(MESSAGES_MAX) })?;
    Ok(Value::Object(object))
}

fn refused(cause: &str) -> Status {
    Status::bad_request(format!("cannot decode the protobuf body: {cause}"))
}

/// The schema of a kind.
fn named(api_version: &str, kind: &str) -> Option<Schema<'static>> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let group = match group.split('.').next().unwrap_or_default() {
        "" => "core",
        first => first,
    };
    [
        format!("io.k8s.api.{group}.{version}.{kind}"),
        format!("io.k8s.apiextensions-apiserver.pkg.apis.{group}.{version}.{kind}"),
        format!("io.k8s.kube-aggregator.pkg.apis.{group}.{version}.{kind}"),
        // Options of requests may come under any group's name.
        format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"),
    ]
    .iter()
    .find_map(|name| schema::builtin(name))
}

/// A field: its name, its number, and the type of what is inlined.
type Numbered = (&'static str, u32, Option<&'static str>);

/// The fields of a type; none of one that is not known.
fn numbers(name: &str) -> &'static [Numbered] {
    static TYPES: LazyLock<HashMap<&'static str, Box<[Numbered]>>> = LazyLock::new(|| {
        let field = |field: &'static str| {
            let (name, rest) = field.split_once('=')?;
            let (number, of) = rest.split_once(':').map_or((rest, None), |(number, of)| (number, Some(of)));
            Some((name, number.parse().ok()?, of))
        };
        let types = NUMBERS.lines().filter_map(|line| {
            let mut parts = line.split(' ');
            Some((parts.next()?, parts.filter_map(field).collect()))
        });
        types.collect()
    });
    TYPES.get(name).map_or(&[], |fields| fields)
}

/// Adds the fields of a message of type `name` to `object`, whose schema is `schema`.
fn message(
    object: &mut Map<String, Value>,
    name: &str,
    schema: Schema<'_>,
    bytes: &[u8],
    within: Within<'_>,
) -> Result<()> {
    let known = numbers(name);
    for field in wire::fields(bytes) {
        let field = field.ok_or_else(|| refused(&format!("a field of {name} is malformed")))?;
        // What is not known was made by a newer client; the schema would not have it either.
        let Some((field_name, _, inlined)) = known.iter().find(|(_, number, _)| *number == field.number)
        else {
            continue;
        };
        if let (Some(of), Held::Bytes(bytes)) = (inlined, field.held) {
            message(object, of, schema, bytes, within.deeper()?)?;
            continue;
        }
        let Some(below) = schema.field(field_name) else { continue };
        match below.shape() {
            Shape::List => {
                let item = below.items().ok_or_else(|| refused("a list of nothing"))?;
                let value = value(item, field.held, within)?;
                if let Value::Array(list) = object.entry(*field_name).or_insert_with(|| json!([])) {
                    list.push(value);
                }
            }
            Shape::Map => {
                let (key, value) = entry(below, field.held, within)?;
                if let Value::Object(map) = object.entry(*field_name).or_insert_with(|| json!({})) {
                    map.insert(key, value);
                }
            }
            _ => {
                let value = value(below, field.held, within)?;
                if !vanishes(below, &value) {
                    object.insert((*field_name).to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

/// What Go's protobuf writes for a field that was never set, and its JSON does not.
fn vanishes(schema: Schema<'_>, value: &Value) -> bool {
    let is_zero = match value {
        Value::String(text) => return text.is_empty(),
        Value::Null => return true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    };
    is_zero && matches!(schema.node().presence, Presence::Omit | Presence::Nonzero)
}

/// Key and value of an entry of a map.
fn entry(schema: Schema<'_>, held: Held<'_>, within: Within<'_>) -> Result<(String, Value)> {
    let item = schema.items().ok_or_else(|| refused("a map of nothing"))?;
    let (mut key, mut found) = (String::new(), None);
    for field in wire::fields(bytes_of(held)?) {
        match field.ok_or_else(|| refused("an entry of a map is malformed"))? {
            Field { number: 1, held } => key = text(held)?,
            Field { number: 2, held } => found = Some(value(item, held, within)?),
            _ => {}
        }
    }
    let missing = if item.shape() == Shape::String { json!("") } else { Value::Null };
    Ok((key, found.unwrap_or(missing)))
}

fn value(schema: Schema<'_>, held: Held<'_>, within: Within<'_>) -> Result<Value> {
    Ok(match schema.shape() {
        Shape::String => text(held)?.into(),
        Shape::Bytes => STANDARD.encode(bytes_of(held)?).into(),
        Shape::Int32 | Shape::Int64 => integer(held)?.into(),
        Shape::Boolean => (integer(held)? != 0).into(),
        Shape::Number => match held {
            Held::Eight(bytes) => f64::from_le_bytes(bytes).into(),
            _ => return Err(refused("a number is none")),
        },
        Shape::Quantity => one(held, 1)?.map_or(Ok("0".to_owned()), text)?.into(),
        Shape::IntOrString => match one(held, 1)?.map(integer).transpose()? {
            Some(1) => one(held, 3)?.map_or(Ok(String::new()), text)?.into(),
            _ => one(held, 2)?.map_or(Ok(0), integer)?.into(),
        },
        Shape::Time => time(held, false)?,
        Shape::MicroTime => time(held, true)?,
        Shape::Duration => duration(one(held, 1)?.map_or(Ok(0), integer)?).into(),
        Shape::Any => match schema.items() {
            Some(definition) => choice(schema, definition, held, within)?,
            // JSON inside: of any shape (RawExtension, FieldsV1).
            None => raw(held)?,
        },
        Shape::List => {
            let item = schema.items().ok_or_else(|| refused("a list of nothing"))?;
            let mut list = Vec::new();
            for field in wire::fields(bytes_of(held)?) {
                let field = field.ok_or_else(|| refused("a list in a map is malformed"))?;
                list.push(value(item, field.held, within.deeper()?)?);
            }
            list.into()
        }
        Shape::Map | Shape::Object => {
            let name = schema.node().name.clone().unwrap_or_default();
            if numbers(&name).is_empty() {
                return raw(held);
            }
            let mut object = Map::new();
            message(&mut object, &name, schema, bytes_of(held)?, within.deeper()?)?;
            object.into()
        }
    })
}

/// One of those that are a schema or something else: a list of schemas, a list of names, yes or no.
fn choice(schema: Schema<'_>, definition: Schema<'_>, held: Held<'_>, within: Within<'_>) -> Result<Value> {
    let name = schema.node().name.as_deref().unwrap_or_default();
    let kind = name.rsplit('.').next().unwrap_or_default();
    let (mut single, mut list, mut allows) = (None, Vec::new(), false);
    for field in wire::fields(bytes_of(held)?) {
        let Field { number, held } =
            field.ok_or_else(|| refused(&format!("a field of {name} is malformed")))?;
        match (kind, number) {
            ("JSONSchemaPropsOrBool", 1) => allows = integer(held)? != 0,
            ("JSONSchemaPropsOrStringArray", 2) => list.push(text(held)?.into()),
            ("JSONSchemaPropsOrArray", 2) => list.push(value(definition, held, within.deeper()?)?),
            (_, 1 | 2) => single = Some(value(definition, held, within.deeper()?)?),
            _ => {}
        }
    }
    Ok(match single {
        Some(single) => single,
        None if kind == "JSONSchemaPropsOrBool" => allows.into(),
        None => list.into(),
    })
}

/// The last field `number` of a message.
fn one(held: Held<'_>, number: u32) -> Result<Option<Held<'_>>> {
    let mut found = None;
    for field in wire::fields(bytes_of(held)?) {
        let field = field.ok_or_else(|| refused("a value is malformed"))?;
        if field.number == number {
            found = Some(field.held);
        }
    }
    Ok(found)
}

fn raw(held: Held<'_>) -> Result<Value> {
    let Some(held) = one(held, 1)? else { return Ok(Value::Null) };
    serde_json::from_slice(bytes_of(held)?).map_err(|error| refused(&format!("JSON in it is none: {error}")))
}

/// Go's zero time, the beginning of the year 1, in seconds since 1970.
const GO_ZERO: i64 = -62_135_596_800;

fn time(held: Held<'_>, micro: bool) -> Result<Value> {
    let seconds = one(held, 1)?.map_or(Ok(0), integer)?;
    let nanos = one(held, 2)?.map_or(Ok(0), integer)?;
    // Both mean that there is none.
    if matches!(seconds, 0 | GO_ZERO) && nanos == 0 {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).unwrap_or(0);
    let time = jiff::Timestamp::new(seconds, nanos).map_err(|_| refused("a time is none"))?;
    let form = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(time.strftime(form).to_string().into())
}

/// A duration as Go writes it, in its plainest form.
fn duration(nanos: i64) -> String {
    let (whole, part) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).unsigned_abs());
    if part == 0 {
        return format!("{whole}s");
    }
    let sign = if nanos < 0 { "-" } else { "" };
    format!("{sign}{}.{}s", whole.unsigned_abs(), format!("{part:09}").trim_end_matches('0'))
}

fn integer(held: Held<'_>) -> Result<i64> {
    match held {
        Held::Varint(number) => Ok(number.cast_signed()),
        _ => Err(refused("an integer is none")),
    }
}

fn bytes_of(held: Held<'_>) -> Result<&[u8]> {
    match held {
        Held::Bytes(bytes) => Ok(bytes),
        _ => Err(refused("a message or text is none")),
    }
}

fn text(held: Held<'_>) -> Result<String> {
    let text = std::str::from_utf8(bytes_of(held)?).map_err(|_| refused("a text is not UTF-8"))?;
    Ok(text.to_owned())
}
