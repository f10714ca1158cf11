//! The tokens of JSON, with the messages of Go's `encoding/json` where they are malformed.

use crate::contract::field::quoted;
use serde_json::{Map, Number, Value};
use std::borrow::Cow;

/// How deep objects and lists may be in each other, in bodies and in what JSON patches make. What reads the store takes no more than 128 levels, and the field
/// sets of an object lie a few levels deeper than the object.
pub(crate) const MOST_DEEP: usize = 100;

/// What is malformed.
#[derive(Debug)]
pub(super) struct Syntax(pub(super) String);

pub(super) type Scan<T> = Result<T, Syntax>;

/// What a value begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    Object,
    List,
    String,
    Number,
    True,
    False,
    Null,
}

impl Begin {
    /// As errors of types name it.
    pub(super) fn words(self) -> &'static str {
        match self {
            Begin::Object => "object",
            Begin::List => "array",
            Begin::String => "string",
            Begin::Number => "number",
            Begin::True | Begin::False => "bool",
            Begin::Null => "null",
        }
    }
}

/// A position in a body.
#[derive(Clone)]
pub(super) struct Scanner<'b> {
    bytes: &'b [u8],
    at: usize,
    depth: usize,
}

impl<'b> Scanner<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Scanner<'b> {
        Scanner { bytes, at: 0, depth: 0 }
    }

    /// The kind of the next value, which is not taken yet.
    pub(super) fn begin(&mut self) -> Scan<Begin> {
        match self.next()? {
            b'{' => Ok(Begin::Object),
            b'[' => Ok(Begin::List),
            b'"' => Ok(Begin::String),
            b'-' | b'0'..=b'9' => Ok(Begin::Number),
            b't' => Ok(Begin::True),
            b'f' => Ok(Begin::False),
            b'n' => Ok(Begin::Null),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    /// Goes into the object or list that [`begin`](Scanner::begin) found.
    pub(super) fn enter(&mut self) -> Scan<()> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MOST_DEEP { Err(Syntax("exceeded max depth".to_owned())) } else { Ok(()) }
    }

    /// The next key of an object, with its colon; `None` at its end.
    pub(super) fn key(&mut self, first: bool) -> Scan<Option<Cow<'b, str>>> {
        let mut byte = self.next()?;
        if byte == b'}' {
            self.at += 1;
            self.depth -= 1;
            return Ok(None);
        }
        if !first {
            if byte != b',' {
                return Err(self.unexpected("after object key:value pair"));
            }
            self.at += 1;
            byte = self.next()?;
        }
        if byte != b'"' {
            return Err(self.unexpected("looking for beginning of object key string"));
        }
        let key = self.string()?;
        if self.next()? != b':' {
            return Err(self.unexpected("after object key"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// Whether a list has another item.
    pub(super) fn item(&mut self, first: bool) -> Scan<bool> {
        match self.next()? {
            b']' => {
                self.at += 1;
                self.depth -= 1;
                Ok(false)
            }
            _ if first => Ok(true),
            b',' => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.unexpected("after array element")),
        }
    }

    /// That nothing follows.
    pub(super) fn end(&mut self) -> Scan<()> {
        match self.next() {
            Ok(_) => Err(self.unexpected("after top-level value")),
            Err(_) => Ok(()),
        }
    }

    pub(super) fn string(&mut self) -> Scan<Cow<'b, str>> {
        self.at += 1;
        let begin = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = String::from_utf8_lossy(&self.bytes[begin..self.at]);
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => return self.escaped(begin).map(Cow::Owned),
                Some(0..0x20) => return Err(self.unexpected("in string literal")),
                Some(_) => self.at += 1,
                None => return Err(ended()),
            }
        }
    }

    /// The rest of a string that has escapes; `begin` is where it began.
    fn escaped(&mut self, begin: usize) -> Scan<String> {
        let mut text = String::from_utf8_lossy(&self.bytes[begin..self.at]).into_owned();
        let mut plain = self.at;
        loop {
            let byte = *self.bytes.get(self.at).ok_or_else(ended)?;
            if byte == b'"' || byte == b'\\' {
                text.push_str(&String::from_utf8_lossy(&self.bytes[plain..self.at]));
                self.at += 1;
                if byte == b'"' {
                    return Ok(text);
                }
                text.push(self.escape()?);
                plain = self.at;
            } else if byte < 0x20 {
                return Err(self.unexpected("in string literal"));
            } else {
                self.at += 1;
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Scan<char> {
        let character = match self.bytes.get(self.at).ok_or_else(ended)? {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
            b'u' => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(character)
    }

    /// Four digits, and the other half of a surrogate pair; a half alone is told as U+FFFD.
    fn unicode(&mut self) -> Scan<char> {
        let first = self.four_digits()?;
        if !(0xd800..0xdc00).contains(&first) || !self.bytes[self.at..].starts_with(b"\\u") {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        let behind_first = self.at;
        self.at += 2;
        let second = self.four_digits()?;
        if (0xdc00..0xe000).contains(&second) {
            let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
            return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        self.at = behind_first;
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Scan<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(*self.bytes.get(self.at).ok_or_else(ended)?).to_digit(16);
            code = code * 16 + digit.ok_or_else(|| self.unexpected("in \\u hexadecimal character escape"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// A number, as it is written.
    pub(super) fn number(&mut self) -> Scan<&'b str> {
        let begin = self.at;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        if self.bytes.get(self.at) == Some(&b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(str::from_utf8(&self.bytes[begin..self.at]).unwrap_or_default())
    }

    fn digits(&mut self, place: &str) -> Scan<()> {
        match self.bytes.get(self.at) {
            Some(b'0'..=b'9') => {}
            Some(_) => return Err(self.unexpected(place)),
            None => return Err(ended()),
        }
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    /// `true`, `false` or `null`, which [`begin`](Scanner::begin) found.
    pub(super) fn literal(&mut self, begin: Begin) -> Scan<()> {
        let word = match begin {
            Begin::True => "true",
            Begin::False => "false",
            _ => "null",
        };
        for expected in word.bytes() {
            let byte = *self.bytes.get(self.at).ok_or_else(ended)?;
            if byte != expected {
                let place = format!("in literal {word} (expecting '{}')", char::from(expected));
                return Err(self.unexpected(&place));
            }
            self.at += 1;
        }
        Ok(())
    }

    /// Passes over a value, and returns how it is written.
    pub(super) fn skip(&mut self) -> Scan<&'b [u8]> {
        let begin_at = self.begin()?;
        let start = self.at;
        match begin_at {
            Begin::Object => {
                self.enter()?;
                let mut first = true;
                while self.key(first)?.is_some() {
                    first = false;
                    self.skip()?;
                }
            }
            Begin::List => {
                self.enter()?;
                let mut first = true;
                while self.item(first)? {
                    first = false;
                    self.skip()?;
                }
            }
            Begin::String => drop(self.string()?),
            Begin::Number => drop(self.number()?),
            word => self.literal(word)?,
        }
        Ok(&self.bytes[start..self.at])
    }

    /// A value as it is. Of a field that is there twice the last one counts.
    pub(super) fn any(&mut self) -> Scan<Value> {
        Ok(match self.begin()? {
            Begin::Object => {
                self.enter()?;
                let mut map = Map::new();
                while let Some(key) = self.key(map.is_empty())? {
                    let value = self.any()?;
                    map.insert(key.into_owned(), value);
                }
                Value::Object(map)
            }
            Begin::List => {
                self.enter()?;
                let mut list = Vec::new();
                while self.item(list.is_empty())? {
                    list.push(self.any()?);
                }
                Value::Array(list)
            }
            Begin::String => Value::String(self.string()?.into_owned()),
            Begin::Number => number(self.number()?),
            Begin::Null => {
                self.literal(Begin::Null)?;
                Value::Null
            }
            word => {
                self.literal(word)?;
                Value::Bool(word == Begin::True)
            }
        })
    }

    fn next(&mut self) -> Scan<u8> {
        while let Some(byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(ended())
    }

    fn unexpected(&self, place: &str) -> Syntax {
        let Some(byte) = self.bytes.get(self.at) else { return ended() };
        let character = match byte {
            b'\'' => r"'\''".to_owned(),
            b'"' => "'\"'".to_owned(),
            byte => {
                let text = quoted(&char::from(*byte).to_string());
                format!("'{}'", &text[1..text.len() - 1])
            }
        };
        Syntax(format!("invalid character {character} {place}"))
    }
}

fn ended() -> Syntax {
    Syntax("unexpected end of JSON input".to_owned())
}

/// A number as Go keeps it: whole ones as integers where they are written as such, others as 64-bit floating point. One
/// that is too large for that is told as null.
pub(super) fn number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    if let Ok(whole) = text.parse::<u64>() {
        return whole.into();
    }
    text.parse().map_or(Value::Null, floating)
}

/// A floating point number as Go writes it: without a fraction where it has none.
#[expect(clippy::cast_possible_truncation, reason = "it is whole, and within what an i64 holds")]
pub(super) fn floating(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        return (number as i64).into();
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}
