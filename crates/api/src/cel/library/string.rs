//! Strings and bytes. Positions count code points.

use super::printf;
use crate::cel::eval::{Failure, Outcome};
use crate::cel::value::Value;
use std::sync::Arc;

/// A function of this library.
pub(crate) fn call<'a>(function: &str, args: &[Value<'a>]) -> Option<Outcome<'a>> {
    match args {
        [Value::String(text), rest @ ..] => on_text(function, text, rest),
        [Value::Bytes(bytes)] => on_bytes(function, bytes),
        [value] if function == "string" => Some(to_text(value)),
        _ => None,
    }
}

fn on_text<'a>(function: &str, text: &str, rest: &[Value<'a>]) -> Option<Outcome<'a>> {
    Some(match (function, rest) {
        ("contains", [Value::String(part)]) => Ok(Value::Bool(text.contains(&**part))),
        ("startsWith", [Value::String(part)]) => Ok(Value::Bool(text.starts_with(&**part))),
        ("endsWith", [Value::String(part)]) => Ok(Value::Bool(text.ends_with(&**part))),
        ("string", []) => Ok(Value::text(text)),
        ("bytes", []) => Ok(Value::Bytes(Arc::from(text.as_bytes()))),
        ("charAt", [Value::Int(index)]) => char_at(text, *index),
        ("indexOf", [Value::String(part)]) => Ok(Value::Int(find(text, part, 0))),
        ("indexOf", [Value::String(_), Value::Int(from)]) if is_beyond(text, *from) => Ok(Value::Int(-1)),
        ("indexOf", [Value::String(part), Value::Int(from)]) => {
            within(text, *from).map(|from| Value::Int(find(text, part, from)))
        }
        ("lastIndexOf", [Value::String(part)]) => Ok(Value::Int(find_last(text, part, None))),
        ("lastIndexOf", [Value::String(part), Value::Int(from)]) => {
            within(text, *from).map(|from| Value::Int(find_last(text, part, Some(from))))
        }
        ("lowerAscii", []) => Ok(Value::text(text.to_ascii_lowercase())),
        ("upperAscii", []) => Ok(Value::text(text.to_ascii_uppercase())),
        ("trim", []) => Ok(Value::text(text.trim())),
        ("replace", [Value::String(old), Value::String(new)]) => Ok(Value::text(text.replace(&**old, new))),
        ("replace", [Value::String(old), Value::String(new), Value::Int(times)]) => {
            Ok(Value::text(match usize::try_from(*times) {
                Ok(times) => text.replacen(&**old, new, times),
                Err(_) => text.replace(&**old, new),
            }))
        }
        ("split", [Value::String(separator)]) => Ok(split(text, separator, -1)),
        ("split", [Value::String(separator), Value::Int(most)]) => Ok(split(text, separator, *most)),
        ("substring", [Value::Int(from)]) => substring(text, *from, None),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(text, *from, Some(*to)),
        ("reverse", []) => Ok(Value::text(text.chars().rev().collect::<String>())),
        ("strings.quote", []) => Ok(Value::text(quote(text))),
        ("format", [Value::List(list)]) => printf::format(text, list),
        _ => return None,
    })
}

fn on_bytes<'a>(function: &str, bytes: &Arc<[u8]>) -> Option<Outcome<'a>> {
    match function {
        "string" => Some(match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Value::text(text)),
            Err(_) => Err(Failure::new("invalid UTF-8 in bytes, cannot convert to string")),
        }),
        "bytes" => Some(Ok(Value::Bytes(Arc::clone(bytes)))),
        _ => None,
    }
}

/// `string(value)`.
fn to_text<'a>(value: &Value<'_>) -> Outcome<'a> {
    Ok(Value::text(match value {
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => super::number::double_text(*number),
        Value::Duration(nanos) => super::time::seconds_text(*nanos),
        Value::Timestamp(time) => time.to_string(),
        Value::Ip(address) => address.to_string(),
        Value::Cidr(range) => format!("{}/{}", range.address, range.prefix),
        _ => return Err(Failure::new("no such overload")),
    }))
}

fn out_of_range(index: i64) -> Failure {
    Failure::new(format!("index out of range: {index}"))
}

/// A position in `text`, its end included.
fn within(text: &str, index: i64) -> Result<usize, Failure> {
    usize::try_from(index)
        .ok()
        .filter(|index| *index <= text.chars().count())
        .ok_or_else(|| out_of_range(index))
}

fn char_at<'a>(text: &str, index: i64) -> Outcome<'a> {
    let at = within(text, index)?;
    Ok(Value::text(text.chars().nth(at).map(String::from).unwrap_or_default()))
}

/// Whether a position is behind the end.
fn is_beyond(text: &str, index: i64) -> bool {
    usize::try_from(index).is_ok_and(|index| index > text.chars().count())
}

/// A literal of the text: what a line cannot show is escaped, all else stands as it is.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// The byte where the code point `index` begins.
fn byte_of(text: &str, index: usize) -> usize {
    text.char_indices().nth(index).map_or(text.len(), |(at, _)| at)
}

fn position(text: &str, byte: usize) -> i64 {
    i64::try_from(text[..byte].chars().count()).unwrap_or(i64::MAX)
}

fn find(text: &str, part: &str, from: usize) -> i64 {
    let begin = byte_of(text, from);
    text[begin..].find(part).map_or(-1, |at| position(text, begin + at))
}

fn find_last(text: &str, part: &str, from: Option<usize>) -> i64 {
    // The last begin that counts is `from` itself.
    let end = from.map_or(text.len(), |from| (byte_of(text, from) + part.len()).min(text.len()));
    let end = (end..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
    text[..end].rfind(part).map_or(-1, |at| position(text, at))
}

fn split<'a>(text: &str, separator: &str, most: i64) -> Value<'a> {
    let parts: Vec<String> = match (usize::try_from(most), separator.is_empty()) {
        (Ok(0), _) => Vec::new(),
        (limit, true) => {
            let characters: Vec<char> = text.chars().collect();
            let limit = limit.unwrap_or(usize::MAX).min(characters.len());
            let (single, rest) = characters.split_at(limit.saturating_sub(1));
            let mut parts: Vec<String> = single.iter().copied().map(String::from).collect();
            parts.extend((!rest.is_empty()).then(|| rest.iter().collect()));
            parts
        }
        (Ok(limit), false) => text.splitn(limit, separator).map(str::to_owned).collect(),
        (Err(_), false) => text.split(separator).map(str::to_owned).collect(),
    };
    Value::list(parts.into_iter().map(Value::text).collect())
}

fn substring<'a>(text: &str, from: i64, to: Option<i64>) -> Outcome<'a> {
    let begin = within(text, from)?;
    let end = to.map(|to| within(text, to)).transpose()?;
    if let Some(end) = end
        && begin > end
    {
        return Err(Failure::new(format!("invalid substring range. start: {begin}, end: {end}")));
    }
    let (begin, end) = (byte_of(text, begin), end.map_or(text.len(), |end| byte_of(text, end)));
    Ok(Value::text(&text[begin..end]))
}
