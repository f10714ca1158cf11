//! `string.format(list)`.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::{List, Value};
use std::fmt::Write as _;

/// The text with its verbs (`%s`, `%d`, `%f`, `%e`, `%b`, `%o`, `%x`, `%X`, `%%`) filled from the list.
pub(crate) fn format<'a>(text: &str, list: &List<'_>) -> Outcome<'a> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut next = 0;
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        if rest.peek() == Some(&'%') {
            rest.next();
            out.push('%');
            continue;
        }
        let precision = precision(&mut rest)?;
        let Some(verb) = rest.next() else { return Err(failure("unexpected end of string")) };
        let Some(value) = list.get(next) else { return Err(failure(format!("index {next} out of range"))) };
        next += 1;
        one(&mut out, verb, precision, &value)?;
    }
    if next < list.len() {
        return Err(failure(format!(
            "too many arguments supplied to string.format (expected {next}, got {})",
            list.len()
        )));
    }
    Ok(Value::text(out))
}

fn failure(message: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{message}"))
}

fn precision(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, Failure> {
    if rest.next_if_eq(&'.').is_none() {
        return Ok(None);
    }
    let mut digits = String::new();
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    match digits.parse() {
        Ok(precision) if precision <= 1000 => Ok(Some(precision)),
        _ => Err(failure("error while converting precision to integer")),
    }
}

fn one(out: &mut String, verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<(), Failure> {
    let wrong = |what: &str| {
        let name = value.type_name();
        Err(failure(format!(
            "error during formatting: {what} clause can only be used on {}, was given {name}",
            accepts(verb)
        )))
    };
    match (verb, value) {
        ('s', value) => text(out, value, 0)?,
        ('d', Value::Int(number)) => out.push_str(&number.to_string()),
        ('d', Value::Uint(number)) => out.push_str(&number.to_string()),
        ('d', Value::Double(number)) if !number.is_finite() => text(out, value, 0)?,
        ('f', value) => {
            let Some(number) = as_double(value) else { return wrong("fixed-point") };
            append(out, format_args!("{number:.*}", precision.unwrap_or(6)));
        }
        ('e', value) => {
            let Some(number) = as_double(value) else { return wrong("scientific") };
            scientific(out, number, precision.unwrap_or(6));
        }
        ('b', Value::Bool(value)) => out.push(if *value { '1' } else { '0' }),
        ('b', Value::Int(number)) => {
            signed(out, *number, |out, number| append(out, format_args!("{number:b}")))
        }
        ('b', Value::Uint(number)) => append(out, format_args!("{number:b}")),
        ('o', Value::Int(number)) => {
            signed(out, *number, |out, number| append(out, format_args!("{number:o}")))
        }
        ('o', Value::Uint(number)) => append(out, format_args!("{number:o}")),
        ('x', Value::Int(number)) => {
            signed(out, *number, |out, number| append(out, format_args!("{number:x}")))
        }
        ('X', Value::Int(number)) => {
            signed(out, *number, |out, number| append(out, format_args!("{number:X}")))
        }
        ('x', Value::Uint(number)) => append(out, format_args!("{number:x}")),
        ('X', Value::Uint(number)) => append(out, format_args!("{number:X}")),
        ('x' | 'X', Value::String(bytes)) => hex(out, verb, bytes.as_bytes()),
        ('x' | 'X', Value::Bytes(bytes)) => hex(out, verb, bytes),
        ('d' | 'b' | 'o' | 'x' | 'X', _) => return wrong(name(verb)),
        (verb, _) => {
            return Err(failure(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{verb}\""
            )));
        }
    }
    Ok(())
}

fn name(verb: char) -> &'static str {
    match verb {
        'd' => "decimal",
        'b' => "binary",
        'o' => "octal",
        _ => "hex",
    }
}

fn accepts(verb: char) -> &'static str {
    match verb {
        'd' | 'o' => "integers",
        'b' => "integers and bools",
        'x' | 'X' => "integers, byte buffers, and strings",
        _ => "doubles",
    }
}

fn append(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args).expect("a string takes whatever is written into it");
}

fn signed(out: &mut String, number: i64, write: impl Fn(&mut String, u64)) {
    if number < 0 {
        out.push('-');
    }
    write(out, number.unsigned_abs());
}

fn hex(out: &mut String, verb: char, bytes: &[u8]) {
    for byte in bytes {
        if verb == 'x' {
            append(out, format_args!("{byte:02x}"));
        } else {
            append(out, format_args!("{byte:02X}"));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "it is printed as a fraction")]
fn as_double(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        _ => None,
    }
}

fn scientific(out: &mut String, number: f64, precision: usize) {
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    append(out, format_args!("{digits}e{sign}{exponent:0>2}"));
}

/// What `%s` writes.
fn text(out: &mut String, value: &Value<'_>, depth: usize) -> Result<(), Failure> {
    if depth > 32 {
        return Err(failure("value nests too deeply to be formatted"));
    }
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(&value.to_string()),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::Uint(number) => out.push_str(&number.to_string()),
        Value::Double(number) => match number {
            number if number.is_nan() => out.push_str("NaN"),
            number if number.is_infinite() => {
                out.push_str(if *number > 0.0 { "Infinity" } else { "-Infinity" })
            }
            number => out.push_str(&super::number::double_text(*number)),
        },
        Value::String(text) => out.push_str(text),
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Duration(nanos) => out.push_str(&super::time::seconds_text(*nanos)),
        Value::Timestamp(time) => out.push_str(&time.to_string()),
        Value::Type(name) => out.push_str(name),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                text(out, &item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = Vec::new();
            for (key, value) in map.entries() {
                let mut entry = String::new();
                text(&mut entry, &key, depth + 1)?;
                entry.push_str(": ");
                text(&mut entry, &value, depth + 1)?;
                entries.push(entry);
            }
            entries.sort();
            append(out, format_args!("{{{}}}", entries.join(", ")));
        }
        other => {
            let message = "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps";
            return Err(failure(format!("{message}, was given {}", other.type_name())));
        }
    }
    Ok(())
}
