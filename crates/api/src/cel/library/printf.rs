//! `string.format(list)`.

use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::{List, Value};
use crate::contract::field::quoted;
use std::fmt::Write as _;

/// The most bytes that values of one text may take.
const LONGEST: usize = 8 << 20;

/// The text with its verbs (`%s`, `%d`, `%f`, `%e`, `%b`, `%o`, `%x`, `%X`, `%%`) filled from the list.
pub(crate) fn format<'a>(text: &str, list: &List<'_>) -> Outcome<'a> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    let mut next = 0;
    let mut left = LONGEST;
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
        one(&mut out, verb, precision, &value, &mut left)?;
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

fn one(
    out: &mut String,
    verb: char,
    precision: Option<usize>,
    value: &Value<'_>,
    left: &mut usize,
) -> Result<(), Failure> {
    match (verb, value) {
        ('s', value) => text(out, value, Place::Alone, left)?,
        ('d', Value::Int(number)) => out.push_str(&number.to_string()),
        ('d', Value::Uint(number)) => out.push_str(&number.to_string()),
        ('f' | 'e', value) if number(value).is_some() => {
            let number = number(value).unwrap_or_default();
            if !number.is_finite() {
                // As the locale that Kubernetes formats in writes it.
                let sign = if number < 0.0 { "-" } else { "" };
                out.push_str(&if number.is_nan() { "NaN".to_owned() } else { format!("{sign}∞") });
            } else if verb == 'f' {
                fixed(out, number, precision.unwrap_or(6));
            } else {
                // Kubernetes' formatter has no ear for a precision here.
                scientific(out, number, 6);
            }
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
        (verb, value) => {
            return Err(failure(match refused(verb) {
                Some(refused) => {
                    format!("error during formatting: {refused}, was given {}", value.type_name())
                }
                None => unknown(verb),
            }));
        }
    }
    Ok(())
}

/// What is said of a verb that is none.
pub(crate) fn unknown(verb: char) -> String {
    format!("could not parse formatting clause: unrecognized formatting clause \"{verb}\"")
}

/// What is said of a value that is not one of the verb's.
pub(crate) fn refused(verb: char) -> Option<&'static str> {
    Some(match verb {
        's' => {
            "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps"
        }
        'd' => "decimal clause can only be used on integers",
        'f' => "fixed-point clause can only be used on doubles",
        'e' => "scientific clause can only be used on doubles",
        'b' => "only integers and bools can be formatted as binary",
        'x' | 'X' => "only integers, byte buffers, and strings can be formatted as hex",
        'o' => "octal clause can only be used on integers",
        _ => return None,
    })
}

/// The verbs of a format, in their order.
///
/// # Errors
/// What is wrong with the format.
pub(crate) fn verbs(format: &str) -> Result<Vec<char>, String> {
    let mut out = Vec::new();
    let mut rest = format.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' || rest.next_if_eq(&'%').is_some() {
            continue;
        }
        precision(&mut rest).map_err(|failure| failure.to_string())?;
        match rest.next() {
            None => return Err("unexpected end of string".to_owned()),
            Some(verb) if refused(verb).is_none() => return Err(unknown(verb)),
            Some(verb) => out.push(verb),
        }
    }
    Ok(out)
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

/// A double, or the name of one that is no number.
fn number(value: &Value<'_>) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        Value::String(text) => match &**text {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// With a comma after each three digits of the whole part.
fn fixed(out: &mut String, number: f64, precision: usize) {
    let text = format!("{number:.precision$}");
    let (sign, text) = text.strip_prefix('-').map_or(("", text.as_str()), |rest| ("-", rest));
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    out.push_str(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if precision > 0 {
        out.push('.');
        out.push_str(fraction);
    }
}

/// `1.5×10⁰³`.
fn scientific(out: &mut String, number: f64, precision: usize) {
    const RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let text = format!("{number:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(("", exponent), |exponent| ("⁻", exponent));
    append(out, format_args!("{digits}×10{sign}"));
    let raised = format!("{exponent:0>2}");
    out.extend(raised.bytes().map(|digit| RAISED[usize::from(digit - b'0')]));
}

/// Whether a value stands alone, or so many lists and maps deep.
#[derive(Clone, Copy)]
enum Place {
    Alone,
    Within(usize),
}

/// What `%s` writes.
fn text(out: &mut String, value: &Value<'_>, place: Place, left: &mut usize) -> Result<(), Failure> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 0,
    };
    *left = left.checked_sub(length.max(4)).ok_or(Failure::Limit)?;
    let within = match place {
        Place::Alone => Place::Within(0),
        Place::Within(depth) if depth > 32 => return Err(failure("value nests too deeply to be formatted")),
        Place::Within(depth) => Place::Within(depth + 1),
    };
    match (value, place) {
        (Value::Null, _) => out.push_str("null"),
        (Value::Bool(value), _) => out.push_str(&value.to_string()),
        (Value::Int(number), _) => out.push_str(&number.to_string()),
        (Value::Uint(number), _) => out.push_str(&number.to_string()),
        (Value::Double(number), Place::Alone) => out.push_str(&super::number::double_text(*number)),
        (Value::Double(number), _) if number.is_finite() => append(out, format_args!("{number:.6}")),
        (Value::Double(number), _) => out.push_str(&quoted(&super::number::double_text(*number))),
        (Value::String(text), Place::Alone) => out.push_str(text),
        (Value::String(text), _) => out.push_str(&quoted(text)),
        (Value::Bytes(bytes), Place::Alone) => out.push_str(&String::from_utf8_lossy(bytes)),
        (Value::Bytes(bytes), _) => {
            out.push('b');
            out.push_str(&quoted(&String::from_utf8_lossy(bytes)));
        }
        (Value::Duration(nanos), _) => out.push_str(&super::time::seconds_text(*nanos)),
        (Value::Timestamp(time), _) => out.push_str(&time.to_string()),
        (Value::Type(name), Place::Alone) => out.push_str(name),
        (Value::Type(name), _) => append(out, format_args!("type({name})")),
        (Value::List(list), _) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                text(out, &item, within, left)?;
            }
            out.push(']');
        }
        (Value::Map(map), _) => {
            let mut entries = Vec::new();
            for (key, value) in map.iter() {
                let (mut name, mut held) = (String::new(), String::new());
                text(&mut name, &key, within, left)?;
                text(&mut held, &value, within, left)?;
                entries.push((name, held));
            }
            entries.sort();
            let entries: Vec<String> = entries.iter().map(|(name, held)| format!("{name}:{held}")).collect();
            append(out, format_args!("{{{}}}", entries.join(", ")));
        }
        (other, Place::Alone) => {
            let refused = refused('s').unwrap_or_default();
            let name = other.type_name();
            return Err(failure(format!("error during formatting: {refused}, was given {name}")));
        }
        (other, _) => return Err(failure(format!("no formatting function for {}", other.type_name()))),
    }
    Ok(())
}
