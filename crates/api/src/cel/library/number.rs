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

/// The double as `string(number)` writes it: Go's `%g` with the shortest digits.
pub(crate) fn double_text(number: f64) -> String {
    written(number, 1e6)
}

/// The double as Go prints it (`%v`).
pub(crate) fn go_text(number: f64) -> String {
    written(number, 1e21)
}

/// With the shortest digits; with an exponent from `large` on.
fn written(number: f64, large: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    let size = number.abs();
    if size != 0.0 && !(1e-4..large).contains(&size) {
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
    let not_a = |kind: &str| Failure::new(format!("type conversion error from 'string' to '{kind}'"));
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
        ("int", Value::String(text)) => text.parse().map(Value::Int).map_err(|_| not_a("int")),
        ("int", Value::Timestamp(time)) => Ok(Value::Int(time.as_second())),
        ("int", Value::Duration(nanos)) => Ok(Value::Int(*nanos)),
        ("uint", Value::Int(number)) => {
            checked(u64::try_from(*number).ok().map(Value::Uint), "unsigned integer")
        }
        ("uint", Value::Double(number)) => {
            let fits = *number >= 0.0 && *number < 1.844_674_407_370_955_2e19;
            checked(fits.then_some(Value::Uint(*number as u64)), "unsigned integer")
        }
        ("uint", Value::String(text)) => text.parse().map(Value::Uint).map_err(|_| not_a("uint")),
        ("double", Value::Int(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::Uint(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::String(text)) => text.parse().map(Value::Double).map_err(|_| not_a("double")),
        ("bool", Value::String(text)) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(not_a("bool")),
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

fn approximate(quantity: &Quantity) -> f64 {
    const SUFFIXES: [(&str, f64); 16] = [
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("", 1.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
    ];
    let text = quantity.to_string();
    // `1e3` is a number as it is.
    if let Ok(number) = text.parse() {
        return number;
    }
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let factor = SUFFIXES.iter().find(|(known, _)| *known == suffix).map_or(1.0, |(_, factor)| *factor);
    number.parse::<f64>().unwrap_or(0.0) * factor
}
