//! YAML as Kubernetes reads it: the first document, by the rules of YAML 1.1 (`yes` is true, `010` is 8), told as JSON.

use super::errors::{MOST_TOLD, cut};
use super::scan::{MOST_DEEP, floating};
use super::weight;
use crate::contract::is_deeper_than;
use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Bytes that may come of aliases, and be kept for them: a short text can stand for an endless one.
const MOST_ALIASED: usize = 4 << 20;

/// A document.
pub(super) struct Document {
    pub(super) value: Value,
    /// Of keys that are there twice, as many as are told: `line 3: key "name" already set in map`.
    pub(super) duplicates: Vec<String>,
}

/// The first document of `text`; null where there is none.
///
/// # Errors
/// What cannot be read, as Kubernetes begins to say it; the parser's own words are not those of Go's.
pub(super) fn read(text: &str) -> Result<Document, String> {
    let parser = Parser::new_from_str(text);
    let mut reader = Reader {
        parser,
        line: 1,
        anchors: HashMap::new(),
        aliased: 0,
        anchored: 0,
        weight: 0,
        duplicates: Vec::new(),
    };
    loop {
        match reader.next()? {
            Event::StreamEnd => break,
            Event::DocumentStart(_) => {
                let first = reader.next()?;
                let value = reader.value(first, MOST_DEEP)?;
                return Ok(Document { value, duplicates: reader.duplicates });
            }
            _ => {}
        }
    }
    Ok(Document { value: Value::Null, duplicates: Vec::new() })
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    line: usize,
    /// The values of anchors, with the number of values in each.
    anchors: HashMap<usize, (Value, usize)>,
    aliased: usize,
    anchored: usize,
    /// What all values come to.
    weight: usize,
    duplicates: Vec<String>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(cause)) => Err(format!("yaml: line {}: {}", cause.marker().line(), cause.info())),
            None => Err("yaml: unexpected end of stream".to_owned()),
        }
    }

    fn value(&mut self, event: Event<'t>, depth: usize) -> Result<Value, String> {
        if depth == 0 {
            return Err("yaml: exceeded max depth".to_owned());
        }
        self.weight += match event {
            Event::MappingStart(..) => weight::OBJECT,
            _ => weight::VALUE,
        };
        if self.weight > weight::MOST {
            return Err("yaml: the objects of the document would take more than 64 MiB of memory".to_owned());
        }
        let (anchor, value) = match event {
            Event::Scalar(text, style, anchor, tag) => (anchor, scalar(&text, style, tag.as_deref())?),
            Event::SequenceStart(anchor, _) => (anchor, self.list(depth)?),
            Event::MappingStart(anchor, _) => (anchor, self.map(depth)?),
            Event::Alias(anchor) => return self.alias(anchor, depth),
            _ => return Err("yaml: did not find expected node content".to_owned()),
        };
        if anchor != 0 {
            let size = size(&value);
            // It is kept a second time.
            self.anchored += size;
            if self.anchored > MOST_ALIASED {
                return Err("yaml: document contains excessive aliasing".to_owned());
            }
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn alias(&mut self, anchor: usize, depth: usize) -> Result<Value, String> {
        let (value, size) = self.anchors.get(&anchor).ok_or("yaml: anchor value contains itself")?;
        self.aliased += size;
        if is_deeper_than(value, depth) {
            return Err("yaml: exceeded max depth".to_owned());
        }
        if self.aliased > MOST_ALIASED {
            return Err("yaml: document contains excessive aliasing".to_owned());
        }
        Ok(value.clone())
    }

    fn list(&mut self, depth: usize) -> Result<Value, String> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(Value::Array(list)),
                event => list.push(self.value(event, depth - 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        let mut seen = HashSet::new();
        loop {
            let event = self.next()?;
            let line = self.line;
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = match event {
                Event::MappingEnd => return Ok(Value::Object(map)),
                event => self.value(event, depth - 1)?,
            };
            let next = self.next()?;
            let value = self.value(next, depth - 1)?;
            if merges {
                merge(&mut map, value)?;
                continue;
            }
            // As they are written: `1` and `"1"` are two keys.
            if !seen.insert(key.to_string()) && self.duplicates.len() < MOST_TOLD {
                let quoted = |key: &str| crate::contract::field::quoted(cut(key));
                let key = key.as_str().map_or_else(|| cut(&key.to_string()).to_owned(), quoted);
                self.duplicates.push(format!("line {line}: key {key} already set in map"));
            }
            map.insert(key_text(&key, &value)?, value);
        }
    }
}

/// `<<`: the fields of a map, or of several of which the first counts.
fn merge(map: &mut Map<String, Value>, value: Value) -> Result<(), String> {
    match value {
        Value::Object(fields) => map.extend(fields),
        Value::Array(list) => {
            for value in list.into_iter().rev() {
                match value {
                    Value::Object(fields) => map.extend(fields),
                    _ => {
                        return Err(
                            "yaml: map merge requires map or sequence of maps as the value".to_owned()
                        );
                    }
                }
            }
        }
        _ => return Err("yaml: map merge requires map or sequence of maps as the value".to_owned()),
    }
    Ok(())
}

fn key_text(key: &Value, value: &Value) -> Result<String, String> {
    match key {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(key.to_string()),
        Value::Null => Err(format!("unsupported map key of type: %!s(<nil>), key: <nil>, value: {value}")),
        Value::Array(_) | Value::Object(_) => Err(format!("yaml: invalid map key: {key}")),
    }
}

fn size(value: &Value) -> usize {
    32 + match value {
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::String(text) => text.len(),
        _ => 0,
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let tag = tag.filter(|tag| tag.is_yaml_core_schema()).map_or("", |tag| tag.suffix.as_str());
    if tag == "str" || (tag.is_empty() && style != ScalarStyle::Plain) {
        return Ok(text.into());
    }
    if tag == "binary" {
        let bytes = super::base64::decode(text.as_bytes())
            .map_err(|_| "yaml: !!binary value contains invalid base64 data".to_owned())?;
        return Ok(String::from_utf8_lossy(&bytes).into());
    }
    let value = resolve(text)?;
    let fits = match tag {
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        _ => true,
    };
    if fits { Ok(value) } else { Err(format!("yaml: cannot decode !!str `{text}` as a !!{tag}")) }
}

/// What a plain scalar says.
fn resolve(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Ok(true.into());
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Ok(false.into());
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Err("json: unsupported value: +Inf".to_owned());
        }
        "-.inf" | "-.Inf" | "-.INF" => return Err("json: unsupported value: -Inf".to_owned()),
        ".nan" | ".NaN" | ".NAN" => return Err("json: unsupported value: NaN".to_owned()),
        _ => {}
    }
    if !text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '+' | '-' | '.')) {
        return Ok(text.into());
    }
    let plain = text.replace('_', "");
    if !text.starts_with('.')
        && let Some(whole) = whole(&plain)
    {
        return Ok(whole);
    }
    match plain.parse::<f64>() {
        Ok(number) if is_float(&plain) && number.is_finite() => Ok(floating(number)),
        _ => Ok(text.into()),
    }
}

/// An integer as Go's `strconv` takes it with base 0.
fn whole(text: &str) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|digit: char| digit.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    if negative { 0_i64.checked_sub_unsigned(magnitude).map(Value::from) } else { Some(magnitude.into()) }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits =
        |text: &str| text.len() - text.trim_start_matches(|digit: char| digit.is_ascii_digit()).len();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let before = digits(rest);
    let mut rest = &rest[before..];
    if let Some(fraction) = rest.strip_prefix('.') {
        let behind = digits(fraction);
        if before == 0 && behind == 0 {
            return false;
        }
        rest = &fraction[behind..];
    } else if before == 0 {
        return false;
    }
    let Some(exponent) = rest.strip_prefix(['e', 'E']) else { return rest.is_empty() };
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    !exponent.is_empty() && digits(exponent) == exponent.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        read(text).map(|document| document.value).unwrap()
    }

    #[test]
    fn scalars_are_those_of_yaml_1_1() {
        let text =
            "[yes, off, 'yes', 0x10, 0o10, 010, 09, 1_000, 1e3, .5, -3, 12:30, 2001-01-01, ~, 1.5.2, +a, =]";
        let want = json!([
            true,
            false,
            "yes",
            16,
            8,
            8,
            9,
            1000,
            1000,
            0.5,
            -3,
            "12:30",
            "2001-01-01",
            null,
            "1.5.2",
            "+a",
            "="
        ]);
        assert_eq!(value(text), want);
        assert_eq!(value("[!!str 1, !!binary YQ==, !!int '3', !foo b]"), json!(["1", "a", 3, "b"]));
    }

    #[test]
    fn anchors_and_merges() {
        assert_eq!(value("a: &x {b: 1}\nc: *x\n"), json!({"a": {"b": 1}, "c": {"b": 1}}));
        assert_eq!(value("<<: [{a: b}, {a: d, c: e}]\n"), json!({"a": "b", "c": "e"}));
        assert_eq!(value("1: a\ntrue: b\n1.5: c\n"), json!({"1": "a", "true": "b", "1.5": "c"}));
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for at in 1..9 {
            let item = format!("*a{}", at - 1);
            bomb.push_str(&format!("a{at}: &a{at} [{}]\n", [item.as_str(); 9].join(", ")));
        }
        assert_eq!(read(&bomb).err().unwrap(), "yaml: document contains excessive aliasing");
    }

    #[test]
    fn the_first_document_counts() {
        assert_eq!(value("a: 1\n---\nb: 2\n"), json!({"a": 1}));
        assert_eq!(value(""), Value::Null);
        assert_eq!(value("# nothing\n"), Value::Null);
    }

    #[test]
    fn keys_that_are_there_twice() {
        let document = read("metadata:\n  name: x\n  name: z\n").unwrap();
        assert_eq!(document.duplicates, [r#"line 3: key "name" already set in map"#]);
        assert_eq!(document.value, json!({"metadata": {"name": "z"}}));
    }

    #[test]
    fn what_cannot_be_told() {
        for (text, begin) in [
            ("a: [", "yaml: "),
            ("a: .inf", "json: unsupported value: +Inf"),
            ("~: 1", "unsupported map key of type: "),
            ("? [a]\n: b\n", "yaml: invalid map key: "),
            ("<<: 1", "yaml: map merge requires"),
            ("a: !!float x", "yaml: cannot decode !!str `x` as a !!float"),
        ] {
            let cause = read(text).err().unwrap();
            assert!(cause.starts_with(begin), "{text}: {cause}");
        }
        let deep = "[".repeat(110);
        assert_eq!(read(&deep).err().unwrap(), "yaml: exceeded max depth");
    }
}
