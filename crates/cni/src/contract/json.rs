//! JSON as it is written: serde_json keeps the last of two keys of one name and says nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads a configuration. In a `sysctl` object a key that is there twice is refused: which of the two values counts would
/// be anybody's guess. Elsewhere the last one counts, as it does for libcni.
pub(crate) fn configuration(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Read { once: false }.deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

/// Reads one value; of an object each key may be there only once if `once`.
#[derive(Clone, Copy)]
struct Read {
    once: bool,
}

impl<'de> DeserializeSeed<'de> for Read {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Read {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Self { once: false })? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut values = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            if self.once && values.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} of \"sysctl\" is duplicated")));
            }
            let inside = Self { once: key.eq_ignore_ascii_case("sysctl") };
            values.insert(key, object.next_value_seed(inside)?);
        }
        Ok(values.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        for text in [
            r#"{"a":[1,-2,3.5,"x",true,null,{"b":{}}],"c":18446744073709551615}"#,
            "7",
            r#"{"a":1,"a":2}"#,
            r#"{"sysctl":{"a":"1","b":{"c":1,"c":2}}}"#,
            r#"{"sysctl":[{"a":1,"a":2}]}"#,
        ] {
            let ours = configuration(text.as_bytes()).unwrap();
            assert_eq!(ours, serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
        for bad in ["", "{", "[1,]", "{} {}", "nul"] {
            assert!(configuration(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = "[".repeat(10_000);
        assert!(configuration(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_duplicated_sysctl_is_refused_wherever_it_is() {
        for text in [
            r#"{"sysctl":{"net.a":"1","net.a":"1"}}"#,
            r#"{"plugins":[{"args":{"cni":{"sysctl":{"net.a":"1","net.b":"1","net.a":"2"}}}}]}"#,
        ] {
            let error = configuration(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("\"net.a\" of \"sysctl\" is duplicated"), "{error}");
        }
    }
}
