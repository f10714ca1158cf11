//! From bytes to values. Strict: padding is zero, strings are UTF-8 and end with their zero byte, lengths fit.

use std::sync::Arc;

use super::value::is_object_path;
use super::write::MAX_DEPTH;
use super::{Malformed, Type, Value};

/// Reads values from bytes whose first is at an offset of a multiple of 8.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], big_endian: bool) -> Self {
        Self { bytes, at: 0, big_endian }
    }

    pub(super) fn at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub(super) fn pad(&mut self, alignment: usize) -> Result<(), Malformed> {
        let padding = self.take(self.at.next_multiple_of(alignment) - self.at)?;
        if padding.iter().any(|&b| b != 0) {
            return Err(Malformed("padding that is not zero"));
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(Malformed("it ends too early"))?;
        self.at += count;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.pad(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.number()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn text(&mut self, length: usize) -> Result<String, Malformed> {
        let text = self.take(length)?;
        if self.take(1)? != [0] || text.contains(&0) {
            return Err(Malformed("a string that does not end with its only zero byte"));
        }
        String::from_utf8(text.to_vec()).map_err(|_| Malformed("a string that is not UTF-8"))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let length = self.u32()?;
        self.text(length as usize)
    }

    pub(super) fn signature(&mut self) -> Result<String, Malformed> {
        let length = self.byte()?;
        self.text(usize::from(length))
    }

    pub(super) fn value(&mut self, kind: &Type) -> Result<Value, Malformed> {
        self.at_depth(kind, 0)
    }

    fn at_depth(&mut self, kind: &Type, depth: u32) -> Result<Value, Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed("values nest too deep"));
        }
        Ok(match kind {
            Type::Byte => Value::Byte(self.byte()?),
            Type::Bool => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Malformed("a boolean that is neither 0 nor 1")),
            },
            Type::I16 => Value::I16(i16::from_le_bytes(self.number()?)),
            Type::U16 => Value::U16(u16::from_le_bytes(self.number()?)),
            Type::I32 => Value::I32(i32::from_le_bytes(self.number()?)),
            Type::U32 => Value::U32(self.u32()?),
            Type::I64 => Value::I64(i64::from_le_bytes(self.number()?)),
            Type::U64 => Value::U64(u64::from_le_bytes(self.number()?)),
            Type::Double => Value::Double(f64::from_le_bytes(self.number()?)),
            Type::String => Value::String(self.string()?),
            Type::ObjectPath => {
                let path = self.string()?;
                if !is_object_path(&path) {
                    return Err(Malformed("an object path that is none"));
                }
                Value::ObjectPath(path)
            }
            Type::Signature => {
                let signature = self.signature()?;
                Type::parse_all(&signature)?;
                Value::Signature(signature)
            }
            Type::Descriptor => Value::Descriptor(self.u32()?),
            Type::Variant => {
                let kind = Type::parse(&self.signature()?)?;
                Value::Variant(Box::new(self.at_depth(&kind, depth + 1)?))
            }
            Type::Array(element) => Value::Array(Arc::clone(element), self.array(element, depth)?),
            Type::Struct(fields) => {
                self.pad(8)?;
                let fields = fields.iter().map(|field| self.at_depth(field, depth + 1));
                Value::Struct(fields.collect::<Result<_, _>>()?)
            }
            Type::Entry(entry) => {
                self.pad(8)?;
                let key = self.at_depth(&entry.0, depth + 1)?;
                Value::Entry(Box::new((key, self.at_depth(&entry.1, depth + 1)?)))
            }
        })
    }

    fn array(&mut self, element: &Type, depth: u32) -> Result<Vec<Value>, Malformed> {
        let length = self.u32()? as usize;
        self.pad(element.alignment())?;
        let end = self.at.checked_add(length).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(Malformed("an array longer than its message"))?;
        // Every element takes a byte at least, so this ends; nothing is reserved on the length's word.
        let mut elements = Vec::new();
        while self.at < end {
            elements.push(self.at_depth(element, depth + 1)?);
        }
        if self.at == end {
            Ok(elements)
        } else {
            Err(Malformed("an array whose last element is longer than it"))
        }
    }
}
