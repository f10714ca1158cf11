//! Values read by a schema, as Go's decoder reads them into Kubernetes' types.

use super::errors::Errors;
use super::scan::{Begin, Scan, Scanner, floating};
use super::{base64, time};
use crate::contract::quantity::Quantity;
use crate::schema::{Presence, Schema, Shape};
use serde_json::{Map, Value};

/// Reads one body.
pub(super) struct Decoder<'b, 's> {
    pub(super) scanner: Scanner<'b>,
    pub(super) errors: Errors<'b, 's>,
}

impl<'s> Decoder<'_, 's> {
    /// Reads the next value into `slot`. What is there already is kept where a field comes twice, as in Go: objects take
    /// the fields of both. Null leaves `slot` without a value, or as it is.
    pub(super) fn value(&mut self, schema: Schema<'s>, slot: &mut Value) -> Scan<()> {
        let begin = self.scanner.begin()?;
        match (schema.shape(), begin) {
            (Shape::Any, _) => self.any(schema, begin, slot),
            (_, Begin::Null) => {
                self.scanner.literal(begin)?;
                if clears(schema) {
                    *slot = Value::Null;
                }
                Ok(())
            }
            (Shape::Quantity, _) => self.quantity(begin, slot),
            (Shape::IntOrString, _) => self.int_or_string(begin, slot),
            (Shape::Time | Shape::MicroTime, _) => self.time(schema, begin, slot),
            (Shape::Object, Begin::Object) => self.object(schema, slot),
            (Shape::Map, Begin::Object) => self.map(schema, slot),
            (Shape::List, Begin::List) => self.list(schema, slot),
            (Shape::String | Shape::Duration, Begin::String) => {
                *slot = Value::String(self.scanner.string()?.into_owned());
                Ok(())
            }
            (Shape::Bytes, Begin::String) => self.bytes(slot),
            (Shape::Bytes, Begin::List) => self.list_of_bytes(slot),
            (Shape::Boolean, Begin::True | Begin::False) => {
                self.scanner.literal(begin)?;
                *slot = Value::Bool(begin == Begin::True);
                Ok(())
            }
            (Shape::Int32 | Shape::Int64 | Shape::Number, Begin::Number) => self.number(schema, slot),
            _ => {
                self.errors.mismatch(begin.words(), schema);
                self.scanner.skip().map(drop)
            }
        }
    }

    fn object(&mut self, schema: Schema<'s>, slot: &mut Value) -> Scan<()> {
        let map = made(slot);
        let owner = schema.node().name.as_deref().map(|name| name.rsplit('.').next().unwrap_or(name));
        let outside = self.errors.place();
        let mut seen = 0_u128;
        let mut first = true;
        self.scanner.enter()?;
        while let Some(key) = self.scanner.key(first)? {
            first = false;
            if outside.is_top() {
                let begin = self.scanner.begin()?;
                self.errors.type_meta(&key, begin, &self.scanner);
            }
            if let Some((at, name, field)) = schema.find(&key) {
                let bit = 1_u128.checked_shl(u32::try_from(at).unwrap_or(u32::MAX)).unwrap_or(0);
                let again = seen & bit != 0;
                seen |= bit;
                if again {
                    self.errors.duplicate(name);
                }
                self.errors.go_to_field(owner, field.node().within.as_deref(), name);
                let mut value = if again { map.remove(name).unwrap_or_default() } else { Value::Null };
                self.value(field, &mut value)?;
                if !value.is_null() {
                    map.insert(name.to_owned(), value);
                }
            } else if let Some(rest) = schema.items() {
                self.errors.go_to_key(key.clone());
                let mut value = Value::Null;
                self.value(rest, &mut value)?;
                map.insert(key.into_owned(), value);
            } else if schema.node().preserve_unknown {
                map.insert(key.into_owned(), self.scanner.any()?);
            } else {
                self.errors.unknown(&key);
                self.scanner.skip()?;
            }
            self.errors.return_to(outside);
        }
        Ok(())
    }

    fn map(&mut self, schema: Schema<'s>, slot: &mut Value) -> Scan<()> {
        let map = made(slot);
        let Some(values) = schema.items() else {
            *slot = self.scanner.any()?;
            return Ok(());
        };
        let outside = self.errors.place();
        let mut seen: Map<String, Value> = Map::new();
        let mut first = true;
        self.scanner.enter()?;
        while let Some(key) = self.scanner.key(first)? {
            first = false;
            if seen.contains_key(&*key) {
                self.errors.duplicate(&key);
            }
            self.errors.go_to_key(key.clone());
            let mut value = Value::Null;
            self.value(values, &mut value)?;
            if value.is_null() {
                value = super::zero::of(values);
            }
            seen.insert(key.into_owned(), value);
            self.errors.return_to(outside);
        }
        if map.is_empty() {
            *map = seen;
        } else {
            map.extend(seen);
        }
        Ok(())
    }

    fn list(&mut self, schema: Schema<'s>, slot: &mut Value) -> Scan<()> {
        let Some(items) = schema.items() else {
            *slot = self.scanner.any()?;
            return Ok(());
        };
        // Go reuses the items of a list that was there before.
        let before = match slot.take() {
            Value::Array(before) => before,
            _ => Vec::new(),
        };
        let mut before = before.into_iter();
        let mut list = Vec::new();
        let outside = self.errors.place();
        self.scanner.enter()?;
        while self.scanner.item(list.is_empty())? {
            self.errors.go_to_item(list.len());
            let mut value = before.next().unwrap_or_default();
            self.value(items, &mut value)?;
            if value.is_null() {
                value = super::zero::of(items);
            }
            list.push(value);
            self.errors.return_to(outside);
        }
        *slot = Value::Array(list);
        Ok(())
    }

    fn number(&mut self, schema: Schema<'s>, slot: &mut Value) -> Scan<()> {
        let text = self.scanner.number()?;
        let value = match schema.shape() {
            Shape::Int32 => text.parse::<i32>().ok().map(Value::from),
            Shape::Int64 => text.parse::<i64>().ok().map(Value::from),
            _ => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(floating),
        };
        match value {
            Some(value) => *slot = value,
            None => self.errors.mismatch(&format!("number {text}"), schema),
        }
        Ok(())
    }

    fn quantity(&mut self, begin: Begin, slot: &mut Value) -> Scan<()> {
        // As Kubernetes reads it: quotes are taken off, escapes are not looked at, numbers are taken as they are written.
        let written = self.scanner.skip()?;
        let written = if begin == Begin::String { &written[1..written.len() - 1] } else { written };
        match Quantity::parse(String::from_utf8_lossy(written).trim()) {
            Ok(quantity) => *slot = Value::String(quantity.to_string()),
            Err(cause) => self.errors.fatal(cause.to_string()),
        }
        Ok(())
    }

    fn int_or_string(&mut self, begin: Begin, slot: &mut Value) -> Scan<()> {
        match begin {
            Begin::String => *slot = Value::String(self.scanner.string()?.into_owned()),
            Begin::Number => {
                let text = self.scanner.number()?;
                match text.parse::<i32>() {
                    Ok(number) => *slot = number.into(),
                    Err(_) => self.errors.fatal_mismatch(&format!("number {text}"), "int32"),
                }
            }
            begin => {
                self.errors.fatal_mismatch(begin.words(), "int32");
                self.scanner.skip()?;
            }
        }
        Ok(())
    }

    fn time(&mut self, schema: Schema<'s>, begin: Begin, slot: &mut Value) -> Scan<()> {
        if begin != Begin::String {
            self.errors.fatal_mismatch(begin.words(), "string");
            return self.scanner.skip().map(drop);
        }
        let text = self.scanner.string()?;
        match time::canonical(&text, schema.shape() == Shape::MicroTime) {
            Ok(canonical) => *slot = canonical,
            Err(cause) => self.errors.fatal(cause),
        }
        Ok(())
    }

    fn bytes(&mut self, slot: &mut Value) -> Scan<()> {
        let text = self.scanner.string()?;
        match base64::decode(text.as_bytes()) {
            Ok(bytes) => *slot = Value::String(base64::encode(&bytes)),
            Err(at) => self.errors.saved(format!("illegal base64 data at input byte {at}")),
        }
        Ok(())
    }

    /// Go's bytes are a list of numbers too.
    fn list_of_bytes(&mut self, slot: &mut Value) -> Scan<()> {
        let mut bytes = Vec::new();
        self.scanner.enter()?;
        while self.scanner.item(bytes.is_empty())? {
            let begin = self.scanner.begin()?;
            let written = String::from_utf8_lossy(self.scanner.skip()?);
            match (begin, written.parse::<u8>()) {
                (Begin::Number, Ok(byte)) => bytes.push(byte),
                (Begin::Null, _) => bytes.push(0),
                (Begin::Number, Err(_)) => self.errors.mismatch_of(&format!("number {written}"), "uint8"),
                (begin, _) => self.errors.mismatch_of(begin.words(), "uint8"),
            }
        }
        *slot = Value::String(base64::encode(&bytes));
        Ok(())
    }

    /// Values of any kind, and those of which Kubernetes' types say in code what they take.
    fn any(&mut self, schema: Schema<'s>, begin: Begin, slot: &mut Value) -> Scan<()> {
        let name = schema.node().name.as_deref().unwrap_or_default();
        let kind = name.rsplit('.').next().unwrap_or_default();
        let Some(props) = schema.items().filter(|_| kind.starts_with("JSONSchemaPropsOr")) else {
            *slot = self.scanner.any()?;
            return Ok(());
        };
        match (kind, begin) {
            (_, Begin::Object) => {
                let muted = self.errors.mute();
                *slot = Value::Null;
                self.object(props, slot)?;
                self.errors.unmute(muted);
            }
            ("JSONSchemaPropsOrBool", Begin::True | Begin::False) | (_, Begin::Null) => {
                *slot = self.scanner.any()?
            }
            ("JSONSchemaPropsOrBool", _) => {
                self.errors.fatal("boolean or JSON schema expected".to_owned());
                self.scanner.skip()?;
            }
            ("JSONSchemaPropsOrArray", Begin::List) => {
                let mut list = Vec::new();
                self.scanner.enter()?;
                let muted = self.errors.mute();
                while self.scanner.item(list.is_empty())? {
                    let mut item = Value::Null;
                    self.value(props, &mut item)?;
                    list.push(item);
                }
                self.errors.unmute(muted);
                *slot = Value::Array(list);
            }
            (_, Begin::List) => *slot = self.scanner.any()?,
            _ => {
                self.scanner.skip()?;
            }
        }
        Ok(())
    }
}

/// Whether null takes away what was there: it does of pointers, lists and maps, and is passed over elsewhere.
fn clears(schema: Schema<'_>) -> bool {
    match schema.shape() {
        Shape::List | Shape::Map | Shape::Bytes => true,
        Shape::Quantity | Shape::IntOrString | Shape::Time | Shape::MicroTime => true,
        _ => matches!(schema.node().presence, Presence::Keep | Presence::Null),
    }
}

fn made(slot: &mut Value) -> &mut Map<String, Value> {
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("was made an object just now"),
    }
}
