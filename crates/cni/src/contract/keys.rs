use serde_json::{Map, Value};

use super::{Code, Error};

/// A JSON object read key by key, with errors that name the key and its value.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    object: &'a Map<String, Value>,
    /// How the object is called in errors: `plugin "bridge"`.
    of: &'a str,
}

impl<'a> Keys<'a> {
    /// Reads `object`, called `of` in errors.
    pub fn new(object: &'a Map<String, Value>, of: &'a str) -> Self {
        Self { object, of }
    }

    /// The value of a key that is there and not null. As in the reference plugins, case is no matter: configurations with
    /// `runtimeconfig` are about.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        let exact = self.object.get(key);
        let found = exact.or_else(|| {
            self.object.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
        });
        found.filter(|value| !value.is_null())
    }

    /// The error for a key whose value cannot be used.
    pub fn refuse(&self, key: &str, wanted: impl std::fmt::Display) -> Error {
        let value = self.get(key).map(short).unwrap_or_else(|| "nothing".into());
        Error::new(
            Code::InvalidConfig,
            format!("cannot use {key:?} of {}: it is {value}, not {wanted}", self.of),
        )
    }

    /// Text; none if the key is absent.
    pub fn text(&self, key: &str) -> Result<Option<&'a str>, Error> {
        self.get(key).map(|v| v.as_str().ok_or_else(|| self.refuse(key, "text"))).transpose()
    }

    /// True or false; false if the key is absent.
    pub fn boolean(&self, key: &str) -> Result<bool, Error> {
        self.get(key).map_or(Ok(false), |v| v.as_bool().ok_or_else(|| self.refuse(key, "true or false")))
    }

    /// True or false, also as text (libcni takes `"disableCheck": "true"`).
    pub fn lenient_boolean(&self, key: &str) -> Result<bool, Error> {
        match self.get(key) {
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => self.boolean(key),
        }
    }

    /// A whole number from 0 on; none if the key is absent.
    pub fn number(&self, key: &str) -> Result<Option<u32>, Error> {
        let read = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
        self.get(key).map(|v| read(v).ok_or_else(|| self.refuse(key, "a whole number from 0 on"))).transpose()
    }

    /// Text that parses; none if the key is absent or its text empty.
    pub fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        text.parse().map(Some).map_err(|e: T::Err| {
            Error::new(Code::InvalidConfig, format!("cannot use {key:?} of {}: {text:?}: {e}", self.of))
        })
    }

    /// An object; none if the key is absent.
    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, Error> {
        self.get(key).map(|v| v.as_object().ok_or_else(|| self.refuse(key, "an object"))).transpose()
    }

    /// A list; empty if the key is absent.
    pub fn list(&self, key: &str) -> Result<&'a [Value], Error> {
        self.get(key)
            .map_or(Ok(&[]), |v| v.as_array().map(Vec::as_slice).ok_or_else(|| self.refuse(key, "a list")))
    }

    /// What serde makes of a key's value; none if the key is absent.
    pub fn decode<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        T::deserialize(value).map(Some).map_err(|e| {
            Error::new(Code::InvalidConfig, format!("cannot use {key:?} of {}: {e}", self.of))
                .hint(format!("it is {}", short(value)))
        })
    }

    /// Refuses keys that the reference plugin knows and this one does not support, unless they say "off".
    pub fn unsupported(&self, keys: &[&str]) -> Result<(), Error> {
        let off = |v: &Value| match v {
            Value::Null | Value::Bool(false) => true,
            Value::Number(n) => n.as_u64() == Some(0),
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            Value::Bool(true) => false,
        };
        match keys.iter().find_map(|key| self.get(key).filter(|v| !off(v)).map(|v| (key, v))) {
            Some((key, value)) => Err(Error::new(
                Code::UnsupportedField,
                format!("{} does not support the field {key:?} (its value is {})", self.of, short(value)),
            )),
            None => Ok(()),
        }
    }
}

/// A value for a message: not the whole of a long one.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
