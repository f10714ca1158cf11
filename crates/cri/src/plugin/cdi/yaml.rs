//! YAML, as far as it says what JSON can say: drivers' tools write it.
//!
//! Anchors are refused: nobody needs them here, and a short text could stand for an endless one.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// How deep lists and maps may lie in one another.
const DEEPEST: usize = 64;

/// The one document of `text`.
///
/// # Errors
/// What it is that cannot be read, with its line.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { parser: Parser::new_from_str(text), line: 1 };
    let mut document = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => break,
            Event::DocumentStart(_) if document.is_some() => {
                return Err(reader.at("there is a second document"));
            }
            Event::DocumentStart(_) => {
                let first = reader.next()?;
                document = Some(reader.value(first, DEEPEST)?);
            }
            _ => {}
        }
    }
    document.ok_or_else(|| "there is no document".to_owned())
}

struct Reader<'t> {
    parser: Parser<'t, saphyr_parser::StrInput<'t>>,
    line: usize,
}

impl<'t> Reader<'t> {
    fn at(&self, what: &str) -> String {
        format!("line {}: {what}", self.line)
    }

    fn next(&mut self) -> Result<Event<'t>, String> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(e)) => Err(e.to_string()),
            None => Err(self.at("the text ends early")),
        }
    }

    fn value(&mut self, event: Event<'t>, depth: usize) -> Result<Value, String> {
        if depth == 0 {
            return Err(self.at("lists and maps lie too deep in one another"));
        }
        match event {
            Event::Scalar(text, style, 0, None) => Ok(scalar(&text, style)),
            Event::SequenceStart(0, None) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(list)),
                        event => list.push(self.value(event, depth - 1)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut map = Map::new();
                loop {
                    let key = match self.next()? {
                        Event::MappingEnd => return Ok(Value::Object(map)),
                        Event::Scalar(text, _, 0, None) => text.into_owned(),
                        _ => return Err(self.at("a key is a word")),
                    };
                    let next = self.next()?;
                    let value = self.value(next, depth - 1)?;
                    if map.insert(key.clone(), value).is_some() {
                        return Err(self.at(&format!("{key:?} is there twice")));
                    }
                }
            }
            _ => Err(self.at("anchors, aliases and tags are not taken: write it out")),
        }
    }
}

/// A word: what stands in quotes is text, the rest may be something else. Numbers that begin with 0 are octal, as the tools
/// that write these files mean it.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = |prefix: &str, radix| {
        let digits =
            text.strip_prefix(prefix).filter(|d| d.starts_with(|c: char| c.is_ascii_alphanumeric()))?;
        u64::from_str_radix(digits, radix).ok()
    };
    let octal = || digits("0o", 8).or_else(|| digits("0x", 16)).or_else(|| digits("0", 8));
    let plain = || {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let number =
            digits.starts_with(|c: char| c.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        if number { text.parse::<i64>().ok() } else { None }
    };
    match (plain(), octal()) {
        (Some(number), _) => Value::Number(Number::from(number)),
        (None, Some(number)) => Value::Number(Number::from(number)),
        (None, None) => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lists_maps_and_words() {
        let text = "---\na: 1\nb:\n- x\n- 'y'\n- {c: true, d: ~}\n# a remark\nmode: 0666\nhex: 0x10\nneg: -1\nv: 1.1.0\n\
                    s: \"5\"\nlong: |\n  two\n  lines\n";
        let want = json!({
            "a": 1, "b": ["x", "y", {"c": true, "d": null}], "mode": 438, "hex": 16, "neg": -1, "v": "1.1.0",
            "s": "5", "long": "two\nlines\n",
        });
        assert_eq!(parse(text).unwrap(), want);
    }

    #[test]
    fn json_is_yaml_too() {
        let value = json!({"a": [1, "0", {"b": null}], "c": {"d": "e: f"}});
        assert_eq!(parse(&value.to_string()).unwrap(), value);
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        for (text, why) in [
            ("a: &x 1\nb: *x", "anchors"),
            ("a: !!int 1", "tags"),
            ("a: 1\na: 2", "twice"),
            ("[1]: 2", "key"),
            ("--- 1\n--- 2\n", "second"),
            (deep.as_str(), "deep"),
            ("", "no document"),
            ("a: [1", ""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
