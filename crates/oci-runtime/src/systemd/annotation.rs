//! Properties from annotations: `org.systemd.property.TimeoutStopUSec: uint64 5000000`, as runc has them.
//!
//! A value is in GVariant's text format, of which this reads what properties are made of: booleans, numbers (with a
//! type's name before them, or `int32`), strings, arrays and tuples of those, and `@as []`.

use std::collections::BTreeMap;

use super::dbus::{Type, Value};
use super::properties::Property;
use crate::contract;
use crate::{Error, Result};

const PREFIX: &str = "org.systemd.property.";
const MAX_DEPTH: u32 = 16;

/// The properties that `annotations` ask for.
pub fn from_annotations(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    annotations.iter().filter_map(|(key, text)| Some(one(key, key.strip_prefix(PREFIX)?, text))).collect()
}

fn one(key: &str, name: &str, text: &str) -> Result<Property> {
    let invalid = |rule: &str| {
        Error::Config(contract::Error::Invalid {
            field: format!("annotations[{key:?}]"),
            value: format!("{text:?}"),
            rule: rule.to_owned(),
        })
    };
    if name.len() < 3 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Err(invalid("must name a property of three letters or more after org.systemd.property."));
    }
    let rule = "must be in GVariant's text format, as in true, uint64 5, 'text' or ['a', 'b']";
    let value = parse(text).ok_or_else(|| invalid(rule))?;
    // The property's name in units' files ends with Sec, and on D-Bus with USec.
    let seconds = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    match seconds {
        Some(stem) => {
            let micros = micros(&value).ok_or_else(|| invalid("must be a number of seconds"))?;
            Ok(Property { name: format!("{stem}USec"), value: Value::U64(micros) })
        }
        None => Ok(Property { name: name.to_owned(), value }),
    }
}

fn micros(value: &Value) -> Option<u64> {
    let whole = match *value {
        Value::Byte(n) => n.into(),
        Value::I16(n) => u64::try_from(n).ok()?,
        Value::U16(n) => n.into(),
        Value::I32(n) => u64::try_from(n).ok()?,
        Value::U32(n) => n.into(),
        Value::I64(n) => u64::try_from(n).ok()?,
        Value::U64(n) => n,
        Value::Double(n) if (0.0..1e12).contains(&n) => return Some((n * 1e6) as u64),
        _ => return None,
    };
    whole.checked_mul(1_000_000)
}

/// A whole text as one value.
fn parse(text: &str) -> Option<Value> {
    let mut text = Text(text);
    let value = text.value(None, 0)?;
    text.skip();
    text.0.is_empty().then_some(value)
}

struct Text<'a>(&'a str);

impl Text<'_> {
    fn skip(&mut self) {
        self.0 = self.0.trim_start();
    }

    fn eat(&mut self, letter: char) -> bool {
        self.skip();
        let rest = self.0.strip_prefix(letter);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn word(&mut self) -> &str {
        let end = self.0.find(|c: char| !c.is_ascii_alphanumeric() && !"+-._".contains(c));
        let (word, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        word
    }

    /// The next value, of type `wanted` if that is known.
    fn value(&mut self, wanted: Option<&Type>, depth: u32) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip();
        match self.0.chars().next()? {
            '\'' | '"' => text(self.quoted()?, wanted),
            '[' => self.array(wanted, depth),
            '(' => self.tuple(wanted, depth),
            '@' => {
                self.0 = &self.0[1..];
                let end = self.0.find(char::is_whitespace)?;
                let (kind, rest) = self.0.split_at(end);
                self.0 = rest;
                self.value(Some(&Type::parse(kind).ok()?), depth + 1)
            }
            _ => match self.word() {
                "true" if matches!(wanted, None | Some(Type::Bool)) => Some(Value::Bool(true)),
                "false" if matches!(wanted, None | Some(Type::Bool)) => Some(Value::Bool(false)),
                word if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    number(word, wanted)
                }
                word => {
                    let kind = keyword(word)?;
                    self.value(Some(&kind), depth + 1)
                }
            },
        }
    }

    fn quoted(&mut self) -> Option<String> {
        let quote = self.0.chars().next()?;
        let mut out = String::new();
        let mut letters = self.0.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                letter if letter == quote => {
                    self.0 = &self.0[at + quote.len_utf8()..];
                    return Some(out);
                }
                '\0' => return None,
                '\\' => out.push(match letters.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    same @ ('\\' | '\'' | '"') => same,
                    _ => return None,
                }),
                letter => out.push(letter),
            }
        }
        None
    }

    fn list(
        &mut self,
        close: char,
        mut each: impl FnMut(&mut Self, usize) -> Option<Value>,
    ) -> Option<Vec<Value>> {
        let mut values = Vec::new();
        while !self.eat(close) {
            if !values.is_empty() && !self.eat(',') {
                return None;
            }
            // A tuple of one has a comma after it.
            if close == ')' && values.len() == 1 && self.eat(close) {
                break;
            }
            values.push(each(self, values.len())?);
        }
        Some(values)
    }

    fn array(&mut self, wanted: Option<&Type>, depth: u32) -> Option<Value> {
        self.eat('[');
        let mut element = match wanted {
            None => None,
            Some(Type::Array(element)) => Some((**element).clone()),
            Some(_) => return None,
        };
        let values = self.list(']', |text, _| {
            let value = text.value(element.as_ref(), depth + 1)?;
            // The first decides for the others.
            (*element.get_or_insert_with(|| value.kind()) == value.kind()).then_some(value)
        })?;
        Some(Value::array(element?, values))
    }

    fn tuple(&mut self, wanted: Option<&Type>, depth: u32) -> Option<Value> {
        self.eat('(');
        let kinds = match wanted {
            None => None,
            Some(Type::Struct(kinds)) => Some(kinds),
            Some(_) => return None,
        };
        let values = self.list(')', |text, index| match kinds {
            Some(kinds) => text.value(Some(kinds.get(index)?), depth + 1),
            None => text.value(None, depth + 1),
        })?;
        (!values.is_empty() && kinds.is_none_or(|kinds| kinds.len() == values.len()))
            .then_some(Value::Struct(values))
    }
}

fn text(text: String, wanted: Option<&Type>) -> Option<Value> {
    Some(match wanted {
        None | Some(Type::String) => Value::String(text),
        Some(Type::ObjectPath) => Value::ObjectPath(text),
        Some(Type::Signature) => Value::Signature(text),
        Some(_) => return None,
    })
}

fn keyword(word: &str) -> Option<Type> {
    Some(match word {
        "boolean" => Type::Bool,
        "byte" => Type::Byte,
        "int16" => Type::I16,
        "uint16" => Type::U16,
        "int32" => Type::I32,
        "uint32" => Type::U32,
        "int64" => Type::I64,
        "uint64" => Type::U64,
        "double" => Type::Double,
        "string" => Type::String,
        "objectpath" => Type::ObjectPath,
        "signature" => Type::Signature,
        _ => return None,
    })
}

fn number(word: &str, wanted: Option<&Type>) -> Option<Value> {
    let wide = || -> Option<i128> {
        let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        let number = match digits.strip_prefix("0x") {
            Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
            None => i128::from(digits.parse::<u64>().ok()?),
        };
        Some(sign * number)
    };
    Some(match wanted {
        Some(Type::Byte) => Value::Byte(u8::try_from(wide()?).ok()?),
        Some(Type::I16) => Value::I16(i16::try_from(wide()?).ok()?),
        Some(Type::U16) => Value::U16(u16::try_from(wide()?).ok()?),
        Some(Type::U32) => Value::U32(u32::try_from(wide()?).ok()?),
        Some(Type::I64) => Value::I64(i64::try_from(wide()?).ok()?),
        Some(Type::U64) => Value::U64(u64::try_from(wide()?).ok()?),
        Some(Type::Double) => Value::Double(word.parse().ok()?),
        Some(Type::I32) => Value::I32(i32::try_from(wide()?).ok()?),
        None if word.contains('.') => Value::Double(word.parse().ok()?),
        None => Value::I32(i32::try_from(wide()?).ok()?),
        Some(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn property(key: &str, text: &str) -> Result<Vec<Property>> {
        from_annotations(&[(format!("{PREFIX}{key}"), text.to_owned())].into())
    }

    #[test]
    fn values_read_as_gvariant_writes_them() {
        let strings = |list: &[&str]| Value::array(Type::String, list.iter().map(|s| Value::text(*s)));
        for (text, value) in [
            ("true", Value::Bool(true)),
            ("42", Value::I32(42)),
            ("-1", Value::I32(-1)),
            ("2.5", Value::Double(2.5)),
            ("uint64 5000000", Value::U64(5_000_000)),
            ("byte 0xff", Value::Byte(255)),
            ("'SIG\\'KILL'", Value::text("SIG'KILL")),
            ("\"a\"", Value::text("a")),
            ("['a', 'b']", strings(&["a", "b"])),
            ("@as []", strings(&[])),
            ("@a(st) []", Value::array(Type::Struct(vec![Type::String, Type::U64]), [])),
            ("('a', uint64 1)", Value::Struct(vec![Value::text("a"), Value::U64(1)])),
            ("@(t) (7,)", Value::Struct(vec![Value::U64(7)])),
            ("objectpath '/a'", Value::ObjectPath("/a".into())),
        ] {
            let found = property("Something", text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(found, [Property { name: "Something".into(), value }], "{text}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (text, micros) in [("5", 5_000_000), ("uint64 7", 7_000_000), ("1.5", 1_500_000)] {
            let found = property("TimeoutStopSec", text).unwrap();
            assert_eq!(
                found,
                [Property { name: "TimeoutStopUSec".into(), value: Value::U64(micros) }],
                "{text}"
            );
        }
        assert!(property("TimeoutStopSec", "'soon'").is_err());
        assert!(property("TimeoutStopSec", "-1").is_err());
        assert_eq!(property("TimeoutStopUSec", "uint64 5").unwrap()[0].value, Value::U64(5));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (key, text) in [
            ("Ab", "true"),
            ("A-b-c", "true"),
            ("Abc", ""),
            ("Abc", "maybe"),
            ("Abc", "['a', 1]"),
            ("Abc", "[]"),
            ("Abc", "'open"),
            ("Abc", "uint16 70000"),
            ("Abc", "1 2"),
            ("Abc", "()"),
            ("Abc", "@as 5"),
            ("Abc", "@"),
            ("Abc", "uint64 'a'"),
            ("Abc", "['a' 'b']"),
            ("Abc", "'\\q'"),
            ("Abc", "99999999999"),
        ] {
            let error = property(key, text).unwrap_err().to_string();
            assert!(error.contains(PREFIX), "{key} {text}: {error}");
        }
        let other = [("org.example".to_owned(), "x".to_owned())].into();
        assert!(from_annotations(&other).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[-\\[\\](){}'\"@a-z0-9, .\\\\\u{e4}]{0,40}") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn a_text_that_nests_for_ever_is_refused() {
        assert!(parse(&"[".repeat(100_000)).is_none());
        assert!(parse(&"@as ".repeat(100_000)).is_none());
        assert!(parse(&"uint64 ".repeat(100_000)).is_none());
    }
}
