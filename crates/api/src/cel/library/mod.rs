//! The functions: those of the language, and Kubernetes' libraries.

pub(crate) mod authz;
pub(crate) mod format;
mod list;
mod net;
mod number;
pub(crate) mod printf;
mod re2;
pub(crate) mod regex;
pub(crate) mod semver;
mod string;
pub(crate) mod time;
pub(crate) mod url;

pub(crate) use number::go_text as number_text;

use super::ast::Literal;
use super::eval::{Failure, Outcome, select};
use super::types::Type;
use super::value::{List, Map, Value};
use std::cmp::Ordering;
use std::sync::Arc;

/// Calls a function; the receiver, if there is one, is the first argument.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Outcome<'a> {
    operator(function, args)
        .or_else(|| optional(function, args))
        .or_else(|| number::call(function, args))
        .or_else(|| string::call(function, args))
        .or_else(|| list::call(function, args))
        .or_else(|| time::call(function, args))
        .or_else(|| net::call(function, args))
        .or_else(|| url::call(function, args))
        .or_else(|| semver::call(function, args))
        .or_else(|| format::call(function, args))
        .or_else(|| authz::call(function, args))
        .unwrap_or_else(|| Err(Failure::new("no such overload")))
}

/// Converts a literal, as far as the function is a conversion.
///
/// # Errors
/// That it cannot be converted, which is known before anything is evaluated.
pub(crate) fn converted(function: &str, literal: &Literal) -> Result<(), String> {
    const CONVERSIONS: [&str; 8] =
        ["bool", "bytes", "double", "duration", "int", "string", "timestamp", "uint"];
    if !CONVERSIONS.contains(&function) {
        return Ok(());
    }
    let value = super::eval::of_literal(literal);
    match call(function, std::slice::from_ref(&value)) {
        Ok(_) => Ok(()),
        Err(Failure::Error(message)) if message == "no such overload" => {
            Err(format!("{message}: {function}({})", value.type_name()))
        }
        Err(failure) => Err(failure.to_string()),
    }
}

fn operator<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    let compared = |accept: fn(Ordering) -> bool| {
        let [a, b] = args else { return None };
        Some(match a.compare(b) {
            Some(order) => Ok(Value::Bool(accept(order))),
            None if matches!((a, b), (Value::Double(_), _) | (_, Value::Double(_))) => Ok(Value::Bool(false)),
            None => Err(Failure::new("no such overload")),
        })
    };
    match (function, args) {
        ("_==_", [a, b]) => Some(Ok(Value::Bool(a.equals(b)))),
        ("_!=_", [a, b]) => Some(Ok(Value::Bool(!a.equals(b)))),
        ("_<_", _) => compared(Ordering::is_lt),
        ("_<=_", _) => compared(Ordering::is_le),
        ("_>_", _) => compared(Ordering::is_gt),
        ("_>=_", _) => compared(Ordering::is_ge),
        ("!_", [Value::Bool(value)]) => Some(Ok(Value::Bool(!value))),
        ("@in", [item, Value::List(list)]) => {
            Some(Ok(Value::Bool(list.iter().any(|found| found.equals(item)))))
        }
        ("@in", [key, Value::Map(map)]) => Some(Ok(Value::Bool(map.get(key).is_some()))),
        ("_[?_]", [operand, key]) => Some(index_optional(operand, key)),
        ("_?._", [operand, Value::String(field)]) => Some(match operand {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(value)) => select_optional(value, field),
            value => select_optional(value, field),
        }),
        ("size", [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))]) => {
            Some(Ok(Value::Int(i64::try_from(value.size()).unwrap_or(i64::MAX))))
        }
        ("type", [value]) => Some(Ok(Value::Type(value.type_name()))),
        ("dyn", [value]) => Some(Ok(value.clone())),
        ("cel.@mapInsert", [Value::Map(map), rest @ ..]) => Some(insert(map, rest)),
        _ => None,
    }
}

fn insert<'a>(map: &Map<'a>, rest: &[Value<'a>]) -> Outcome<'a> {
    let more = match rest {
        [Value::Map(more)] => more.entries(),
        [key, value] => vec![(key.clone(), value.clone())],
        _ => return Err(Failure::new("no such overload")),
    };
    let mut entries = map.entries();
    for (key, value) in more {
        unique(&entries, &key)?;
        entries.push((key, value));
    }
    Ok(Value::Map(Map::Made(Arc::new(entries))))
}

/// Refuses a key that is there.
pub(crate) fn unique<'a>(entries: &[(Value<'a>, Value<'a>)], key: &Value<'a>) -> Result<(), Failure> {
    if entries.iter().any(|(known, _)| known.equals(key)) {
        return Err(Failure::new(format!("insert failed: key {} already exists", plain(key))));
    }
    Ok(())
}

fn optional<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match (function, args) {
        ("optional.of", [value]) => Ok(Value::optional(Some(value.clone()))),
        ("optional.ofNonZeroValue", [value]) => Ok(Value::optional((!is_zero(value)).then(|| value.clone()))),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => {
            let held = list.iter().filter_map(|item| match item {
                Value::Optional(value) => value.map(|value| (*value).clone()),
                value => Some(value),
            });
            Ok(Value::list(held.collect()))
        }
        ("hasValue", [Value::Optional(value)]) => Ok(Value::Bool(value.is_some())),
        ("value", [Value::Optional(value)]) => match value {
            Some(value) => Ok((**value).clone()),
            None => Err(Failure::new("optional.none() dereference")),
        },
        ("or", [Value::Optional(None), other]) | ("orValue", [Value::Optional(None), other]) => {
            Ok(other.clone())
        }
        _ => return None,
    })
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::Duration(value) => *value == 0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        Value::Optional(value) => value.is_none(),
        _ => false,
    }
}

/// `value.?field`.
pub(crate) fn select_optional<'a>(value: &Value<'a>, field: &str) -> Outcome<'a> {
    match (value, select(value, field)) {
        (_, Ok(Value::Optional(value))) => Ok(Value::Optional(value)),
        (_, Ok(found)) => Ok(Value::optional(Some(found))),
        (Value::Map(_), Err(_)) => Ok(Value::Optional(None)),
        (_, Err(failure)) => Err(failure),
    }
}

/// `operand[index]`.
pub(crate) fn index<'a>(operand: &Value<'a>, key: &Value<'a>) -> Outcome<'a> {
    match (operand, key) {
        (Value::Optional(None), _) => Ok(Value::Optional(None)),
        (Value::Optional(Some(value)), key) => index_optional(value, key),
        (Value::Map(map), key) => {
            map.get(key).ok_or_else(|| Failure::new(format!("no such key: {}", plain(key))))
        }
        (Value::List(list), key) => item(list, key),
        _ => Err(Failure::new("no such overload")),
    }
}

fn item<'a>(list: &List<'a>, key: &Value<'a>) -> Outcome<'a> {
    let position = match key {
        Value::Int(index) => usize::try_from(*index).ok(),
        Value::Uint(index) => usize::try_from(*index).ok(),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a whole number below 2^53"
        )]
        Value::Double(index) if index.fract() == 0.0 && (0.0..9e15).contains(index) => Some(*index as usize),
        _ => return Err(Failure::new(format!("unsupported index type '{}' in list", key.type_name()))),
    };
    position
        .and_then(|index| list.get(index))
        .ok_or_else(|| Failure::new(format!("index out of bounds: {}", plain(key))))
}

fn index_optional<'a>(operand: &Value<'a>, key: &Value<'a>) -> Outcome<'a> {
    match operand {
        Value::Optional(None) => Ok(Value::Optional(None)),
        Value::Optional(Some(value)) => index_optional(value, key),
        Value::Map(map) => Ok(Value::optional(map.get(key))),
        Value::List(list) => Ok(Value::optional(item(list, key).ok())),
        _ => Err(Failure::new("no such overload")),
    }
}

/// A value as error messages show it.
pub(crate) fn plain(value: &Value<'_>) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number::go_text(*number),
        Value::Bool(value) => value.to_string(),
        other => other.type_name().to_owned(),
    }
}

/// The name of a type as a value.
pub(crate) fn type_name(type_: &Type) -> &'static str {
    match type_ {
        Type::Bool => "bool",
        Type::Int => "int",
        Type::Uint => "uint",
        Type::Double => "double",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Null => "null_type",
        Type::List(_) => "list",
        Type::Map(_) => "map",
        Type::Optional(_) => "optional_type",
        Type::Duration => "google.protobuf.Duration",
        Type::Timestamp => "google.protobuf.Timestamp",
        _ => "dyn",
    }
}

/// Functions that go through a list, if their first argument is one.
pub(crate) const WALKS: [&str; 6] = ["isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"];
/// Functions that make a list out of one, and how they cost: their results' items, or all pairs of items.
pub(crate) const MAKES: [&str; 6] =
    ["reverse", "slice", "flatten", "distinct", "sort", "@sortByAssociatedKeys"];

/// What a call costs, beside its arguments.
pub(crate) fn cost(function: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(0, Value::size);
    let tenth = |size: u64| size.div_ceil(10);
    match function {
        "contains" if matches!(args, [Value::String(_), ..]) => tenth(size(0)).saturating_mul(tenth(size(1))),
        "startsWith" | "endsWith" => tenth(size(1)),
        "matches" | "find" | "findAll" => tenth(size(0) + 1).saturating_mul(size(1).div_ceil(4)),
        "_+_" if matches!(args, [Value::String(_) | Value::Bytes(_), _]) => tenth(size(0) + size(1)),
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => equality(args),
        "@in" => match args {
            [item, Value::List(list)] => (list.len() as u64).saturating_mul(heft(item)).max(1),
            [_, Value::Map(map)] => map_cost(map),
            _ => 1,
        },
        "lists.range" | "reverse" | "slice" | "flatten" | "distinct" | "sort" | "@sortByAssociatedKeys"
            if matches!(args, [Value::List(_) | Value::Int(_), ..]) =>
        {
            list::cost(function, args)
        }
        walk if WALKS.contains(&walk) && matches!(args, [Value::List(_), ..]) => {
            let item = args.get(1).map_or(1, heft);
            list::cost(function, args).saturating_mul(item)
        }
        "indexOf" | "lastIndexOf" => tenth(size(0)).saturating_mul(tenth(size(1))).max(1),
        "replace" | "split" => tenth(size(0) * 2).max(1),
        "ip.isCanonical" => tenth(size(0) * 2).max(1),
        "lowerAscii" | "upperAscii" | "substring" | "trim" | "url" | "isURL" | "ip" | "isIP" | "cidr"
        | "isCIDR" | "quantity" | "isQuantity" | "semver" | "isSemver" | "string" | "bytes"
        | "strings.quote" | "reverse" => tenth(size(0)).max(1),
        "join" => list::join_cost(args),
        "sets.contains" | "sets.intersects" | "sets.equivalent" => match args {
            [Value::List(a), Value::List(b)] => {
                let pairs = list::heft(a).saturating_mul(list::heft(b));
                pairs.saturating_mul(if function == "sets.equivalent" { 2 } else { 1 }).saturating_add(1)
            }
            _ => 1,
        },
        "validate" => match args {
            [Value::Format(format), text] => {
                tenth(text.size() + 1).saturating_mul(format.regex_size.div_ceil(4))
            }
            _ => 1,
        },
        "format" => tenth(size(0)).max(1).saturating_add(size(1)),
        // Each round of a loop that makes a map copies it.
        "cel.@mapInsert" => size(0).max(1),
        _ => authz::cost(function, args).unwrap_or(1),
    }
}

/// What looking something up costs: maps that an expression has made are looked through.
pub(crate) fn index_cost(operand: &Value<'_>) -> u64 {
    match operand {
        Value::Map(map) => map_cost(map),
        _ => 1,
    }
}

fn map_cost(map: &Map<'_>) -> u64 {
    match map {
        Map::Made(entries) => (entries.len() as u64).div_ceil(10).max(1),
        _ => 1,
    }
}

/// What comparing something costs beyond what its size says: 1 but of what holds other values.
pub(crate) fn heft(value: &Value<'_>) -> u64 {
    match value {
        Value::List(_) | Value::Map(_) | Value::Optional(Some(_)) => {
            weight(value, crate::cel::PER_CALL).max(1)
        }
        _ => 1,
    }
}

fn equality(args: &[Value<'_>]) -> u64 {
    let looked_through = |value: &Value<'_>| match value {
        Value::Map(Map::Made(entries)) => entries.len() as u64,
        _ => 1,
    };
    match args {
        [a, b] if heft(a).min(heft(b)) > 1 => {
            heft(a).min(heft(b)).saturating_mul(looked_through(b).max(looked_through(a)))
        }
        [a @ (Value::String(_) | Value::Bytes(_)), b] => a.size().min(b.size()).div_ceil(10).max(1),
        _ => 1,
    }
}

/// What it costs to look at the whole of a value, counted no further than `most`.
fn weight(value: &Value<'_>, most: u64) -> u64 {
    let mut sum = 1_u64;
    let add = |value: &Value<'_>, sum: &mut u64| {
        *sum = sum.saturating_add(weight(value, most.saturating_sub(*sum)));
        *sum <= most
    };
    match value {
        Value::List(list) => {
            let _ = list.iter().all(|item| add(&item, &mut sum));
        }
        Value::Map(map) => {
            let _ = map.iter().all(|(_, value)| {
                sum = sum.saturating_add(1);
                add(&value, &mut sum)
            });
        }
        Value::Optional(Some(value)) => {
            add(value, &mut sum);
        }
        value => return value.size().div_ceil(10).max(1),
    }
    sum
}
