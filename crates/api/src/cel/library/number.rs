//! Arithmetic, conversions of numbers, and quantities.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::{List, Value};
use crate::contract::quantity::{Form, Quantity};
use std::sync::Arc;

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    arithmetic(function, args).or_else(|| conversion(function, args)).or_else(|| quantity(function, args))
}

fn checked<'a>(value: Option<Value<'a>>, kind: &str) -> Outcome<'a> {
    value.ok_or_else(|| Failure::new(format!("{kind} overflow")))
}

fn arithmetic<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match args {
        [Value::Int(a)] if function == "-_" => checked(a.checked_neg().map(Value::Int), "integer"),
        [Value::Double(a)] if function == "-_" => Ok(Value::Double(-a)),
        [Value::Int(a), Value::Int(b)] => {
            let value = match function {
                "_+_" => a.checked_add(*b),
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" if *b == 0 => return Some(Err(Failure::new("division by zero"))),
                "_%_" if *b == 0 => return Some(Err(Failure::new("modulus by zero"))),
                "_/_" => a.checked_div(*b),
                "_%_" => a.checked_rem(*b),
                _ => return None,
            };
            checked(value.map(Value::Int), "integer")
        }
        [Value::Uint(a), Value::Uint(b)] => {
            let value = match function {
                "_+_" => a.checked_add(*b),
                "_-_" => a.checked_sub(*b),
                "_*_" => a.checked_mul(*b),
                "_/_" if *b == 0 => return Some(Err(Failure::new("division by zero"))),
                "_%_" if *b == 0 => return Some(Err(Failure::new("modulus by zero"))),
                "_/_" => a.checked_div(*b),
                "_%_" => a.checked_rem(*b),
                _ => return None,
            };
            checked(value.map(Value::Uint), "unsigned integer")
        }
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(match function {
            "_+_" => a + b,
            "_-_" => a - b,
            "_*_" => a * b,
            "_/_" => a / b,
            _ => return None,
        })),
        [Value::String(a), Value::String(b)] if function == "_+_" => Ok(Value::text([&**a, &**b].concat())),
        [Value::Bytes(a), Value::Bytes(b)] if function == "_+_" => {
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        [Value::List(a), Value::List(b)] if function == "_+_" => Ok(Value::List(List::plus(a, b))),
        _ => return None,
    })
}

/// The double as Go writes it (`%g` with the shortest digits).
pub(crate) fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    format!("{number}")
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the ranges are checked"
)]
fn conversion<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    let [value] = args else { return None };
    let not_a = |text: &str, kind: &str| {
        Failure::new(format!(
            "strconv.Parse{kind}: parsing {}: invalid syntax",
            crate::contract::field::quoted(text)
        ))
    };
    Some(match (function, value) {
        ("int", Value::Int(_))
        | ("uint", Value::Uint(_))
        | ("double", Value::Double(_))
        | ("bool", Value::Bool(_)) => Ok(value.clone()),
        ("int", Value::Uint(number)) => checked(i64::try_from(*number).ok().map(Value::Int), "integer"),
        ("int", Value::Double(number)) => {
            let fits = *number > -9.223_372_036_854_776e18 && *number < 9.223_372_036_854_776e18;
            checked(fits.then_some(Value::Int(*number as i64)), "integer")
        }
        ("int", Value::String(text)) => text.parse().map(Value::Int).map_err(|_| not_a(text, "Int")),
        ("int", Value::Timestamp(time)) => Ok(Value::Int(time.as_second())),
        ("int", Value::Duration(nanos)) => Ok(Value::Int(*nanos)),
        ("uint", Value::Int(number)) => {
            checked(u64::try_from(*number).ok().map(Value::Uint), "unsigned integer")
        }
        ("uint", Value::Double(number)) => {
            let fits = *number >= 0.0 && *number < 1.844_674_407_370_955_2e19;
            checked(fits.then_some(Value::Uint(*number as u64)), "unsigned integer")
        }
        ("uint", Value::String(text)) => text.parse().map(Value::Uint).map_err(|_| not_a(text, "Uint")),
        ("double", Value::Int(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::Uint(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::String(text)) => text.parse().map(Value::Double).map_err(|_| not_a(text, "Float")),
        ("bool", Value::String(text)) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            text => Err(not_a(text, "Bool")),
        },
        _ => return None,
    })
}

fn quantity<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    let made = |quantity: Quantity| Ok(Value::Quantity(Arc::new(quantity)));
    Some(match (function, args) {
        ("quantity", [Value::String(text)]) => match Quantity::parse(text) {
            Ok(quantity) => made(quantity),
            Err(error) => Err(Failure::new(error.to_string())),
        },
        ("isQuantity", [Value::String(text)]) => Ok(Value::Bool(Quantity::parse(text).is_ok())),
        ("sign", [Value::Quantity(a)]) => Ok(Value::Int(if a.is_zero() {
            0
        } else if a.is_negative() {
            -1
        } else {
            1
        })),
        ("isInteger", [Value::Quantity(a)]) => Ok(Value::Bool(a.exact().is_some())),
        ("asInteger", [Value::Quantity(a)]) => {
            a.exact().map(Value::Int).ok_or_else(|| Failure::new("cannot convert value to integer"))
        }
        ("asApproximateFloat", [Value::Quantity(a)]) => Ok(Value::Double(approximate(a))),
        ("isGreaterThan", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Value::Bool(a > b)),
        ("isLessThan", [Value::Quantity(a), Value::Quantity(b)]) => Ok(Value::Bool(a < b)),
        ("compareTo", [Value::Quantity(a), Value::Quantity(b)]) => {
            Ok(Value::Int(a.partial_cmp(b).map_or(0, |order| order as i64)))
        }
        ("add", [Value::Quantity(a), Value::Quantity(b)]) => made(a.plus(b)),
        ("sub", [Value::Quantity(a), Value::Quantity(b)]) => made(a.minus(b)),
        ("add", [Value::Quantity(a), Value::Int(b)]) => made(a.plus(&Quantity::of(*b, Form::Decimal))),
        ("sub", [Value::Quantity(a), Value::Int(b)]) => made(a.minus(&Quantity::of(*b, Form::Decimal))),
        _ => return None,
    })
}

#[expect(clippy::cast_precision_loss, reason = "the answer is approximate by name")]
fn approximate(quantity: &Quantity) -> f64 {
    match quantity.exact() {
        Some(value) => value as f64,
        None => quantity.milli_value() as f64 / 1000.0,
    }
}
