//! From values to bytes ("Message Format"), in little endian.

use super::value::{MAX_SIGNATURE, is_object_path};
use super::{MAX_MESSAGE, Malformed, Type, Value};

/// How deep values nest, of all kinds together.
pub(super) const MAX_DEPTH: u32 = 64;

/// Bytes of a message whose first is at an offset of a multiple of 8.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn pad(&mut self, alignment: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
    }

    pub(super) fn u32(&mut self, number: u32) {
        self.pad(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn string(&mut self, text: &str) -> Result<(), Malformed> {
        if text.contains('\0') {
            return Err(Malformed("a string with a zero byte"));
        }
        self.u32(length(text.len())?);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    fn signature(&mut self, text: &str) -> Result<(), Malformed> {
        if text.len() > MAX_SIGNATURE {
            return Err(Malformed("a signature of more than 255 bytes"));
        }
        self.bytes.push(text.len() as u8);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        Ok(())
    }

    pub(super) fn value(&mut self, value: &Value) -> Result<(), Malformed> {
        self.at_depth(value, 0)
    }

    fn at_depth(&mut self, value: &Value, depth: u32) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed("values nest too deep"));
        }
        self.pad(value.kind().alignment());
        match value {
            Value::Byte(n) => self.bytes.push(*n),
            Value::Bool(b) => self.u32(u32::from(*b)),
            Value::I16(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U16(n) => self.bytes.extend(n.to_le_bytes()),
            Value::I32(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U32(n) | Value::Descriptor(n) => self.u32(*n),
            Value::I64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::U64(n) => self.bytes.extend(n.to_le_bytes()),
            Value::Double(n) => self.bytes.extend(n.to_le_bytes()),
            Value::String(text) => self.string(text)?,
            Value::ObjectPath(path) if !is_object_path(path) => {
                return Err(Malformed("an object path that is none"));
            }
            Value::ObjectPath(path) => self.string(path)?,
            Value::Signature(text) => {
                Type::parse_all(text)?;
                self.signature(text)?;
            }
            Value::Variant(value) => {
                let kind = value.kind().to_string();
                // As whoever reads it will parse it.
                Type::parse(&kind)?;
                self.signature(&kind)?;
                self.at_depth(value, depth + 1)?;
            }
            Value::Array(kind, elements) => self.array(kind, elements, depth)?,
            Value::Struct(fields) if fields.is_empty() => return Err(Malformed("a struct without fields")),
            Value::Struct(fields) => fields.iter().try_for_each(|field| self.at_depth(field, depth + 1))?,
            Value::Entry(entry) => {
                self.at_depth(&entry.0, depth + 1)?;
                self.at_depth(&entry.1, depth + 1)?;
            }
        }
        Ok(())
    }

    fn array(&mut self, kind: &Type, elements: &[Value], depth: u32) -> Result<(), Malformed> {
        self.u32(0);
        let length_at = self.bytes.len() - 4;
        // This padding does not count, and is there even if nothing follows.
        self.pad(kind.alignment());
        let start = self.bytes.len();
        for element in elements {
            if element.kind() != *kind {
                return Err(Malformed("an array of several types"));
            }
            self.at_depth(element, depth + 1)?;
        }
        let length = length(self.bytes.len() - start)?;
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
        Ok(())
    }
}

fn length(bytes: usize) -> Result<u32, Malformed> {
    if bytes > MAX_MESSAGE { Err(Malformed("longer than this client sends")) } else { Ok(bytes as u32) }
}
