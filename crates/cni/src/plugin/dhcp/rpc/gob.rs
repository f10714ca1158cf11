//! As much of Go's gob encoding as calls of the reference daemon need: integers, text, bytes, lists and structures.
//!
//! A stream is of messages: a length, a type's number (negative: its definition follows), a value. Structures are fields
//! that are not zero, each with the distance from the one before; who reads goes by the fields' names.

use std::collections::BTreeMap;

/// Values may hold values, but not without end.
const DEPTH: u8 = 12;

/// A value as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Int(i64),
    Uint(u64),
    /// Text and bytes look the same.
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Struct(BTreeMap<String, Value>),
}

impl Value {
    /// A structure's field; none if it is zero or not there.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Struct(fields) => fields.get(name),
            _ => None,
        }
    }

    pub(super) fn bytes(&self, field: &str) -> &[u8] {
        match self.field(field) {
            Some(Self::Bytes(bytes)) => bytes,
            _ => &[],
        }
    }

    pub(super) fn text(&self, field: &str) -> String {
        String::from_utf8_lossy(self.bytes(field)).into_owned()
    }

    pub(super) fn list(&self, field: &str) -> &[Self] {
        match self.field(field) {
            Some(Self::List(list)) => list,
            _ => &[],
        }
    }

    pub(super) fn int(&self, field: &str) -> Option<i64> {
        match self.field(field) {
            Some(Self::Int(number)) => Some(*number),
            _ => None,
        }
    }
}

pub(super) const INT: i64 = 2;
pub(super) const UINT: i64 = 3;
pub(super) const BYTES: i64 = 5;
pub(super) const TEXT: i64 = 6;
const WIRE_TYPE: i64 = 16;

#[derive(Debug, Clone)]
enum Type {
    List(i64),
    Struct(Vec<(String, i64)>),
}

/// Reads the messages of one stream. What it does not understand, or has no end, is none.
#[derive(Debug)]
pub(super) struct Decoder {
    types: BTreeMap<i64, Type>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        // How a type's definition looks is a type too.
        let structure = |fields: &[(&str, i64)]| {
            Type::Struct(fields.iter().map(|(name, id)| ((*name).to_owned(), *id)).collect())
        };
        let wire = [("ArrayT", 17), ("SliceT", 19), ("StructT", 20), ("MapT", 23), ("GobEncoderT", 24)];
        let types = BTreeMap::from([
            (WIRE_TYPE, structure(&wire)),
            (17, structure(&[("CommonType", 18), ("Elem", INT), ("Len", INT)])),
            (18, structure(&[("Name", TEXT), ("Id", INT)])),
            (19, structure(&[("CommonType", 18), ("Elem", INT)])),
            (20, structure(&[("CommonType", 18), ("Field", 22)])),
            (21, structure(&[("Name", TEXT), ("Id", INT)])),
            (22, Type::List(21)),
            (23, structure(&[("CommonType", 18), ("Key", INT), ("Elem", INT)])),
            (24, structure(&[("CommonType", 18)])),
        ]);
        Self { types }
    }

    /// The next value of the stream `bytes`, which then begins behind it. `Ok(None)`: it has not all come yet.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Value>, Malformed> {
        let mut rest = *bytes;
        loop {
            let before = rest;
            let Some(length) = whole_uint(&mut rest)? else {
                *bytes = before;
                return Ok(None);
            };
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            let Some((mut message, behind)) = rest.split_at_checked(length) else {
                *bytes = before;
                return Ok(None);
            };
            rest = behind;
            let id = int(&mut message)?;
            if id >= 0 {
                // What is no structure has a zero before it.
                let structure = matches!(self.types.get(&id), Some(Type::Struct(_)));
                if !structure && uint(&mut message)? != 0 {
                    return Err(Malformed);
                }
                let value = self.value(id, &mut message, DEPTH)?;
                *bytes = rest;
                return if message.is_empty() { Ok(Some(value)) } else { Err(Malformed) };
            }
            let definition = self.value(WIRE_TYPE, &mut message, DEPTH)?;
            self.define(id.checked_neg().ok_or(Malformed)?, &definition)?;
        }
    }

    fn define(&mut self, id: i64, definition: &Value) -> Result<(), Malformed> {
        let list = definition.field("SliceT").map(|t| Type::List(t.int("Elem").unwrap_or(0)));
        let fields = |t: &Value| {
            let field = |f: &Value| (f.text("Name"), f.int("Id").unwrap_or(0));
            Type::Struct(t.list("Field").iter().map(field).collect())
        };
        let kind = list.or_else(|| definition.field("StructT").map(fields)).ok_or(Malformed)?;
        // Those that define definitions stay as they are.
        if id <= 63 || self.types.insert(id, kind).is_some() { Err(Malformed) } else { Ok(()) }
    }

    fn value(&self, id: i64, bytes: &mut &[u8], depth: u8) -> Result<Value, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        match id {
            INT => return int(bytes).map(Value::Int),
            UINT => return uint(bytes).map(Value::Uint),
            BYTES | TEXT => return take(bytes).map(|bytes| Value::Bytes(bytes.to_vec())),
            _ => {}
        }
        match self.types.get(&id).ok_or(Malformed)? {
            Type::List(of) => {
                let count = usize::try_from(uint(bytes)?).map_err(|_| Malformed)?;
                // Each is a byte at least.
                if count > bytes.len() {
                    return Err(Malformed);
                }
                (0..count).map(|_| self.value(*of, bytes, depth)).collect::<Result<_, _>>().map(Value::List)
            }
            Type::Struct(fields) => {
                let mut found = BTreeMap::new();
                let mut next = 0;
                loop {
                    let step = usize::try_from(uint(bytes)?).map_err(|_| Malformed)?;
                    if step == 0 {
                        return Ok(Value::Struct(found));
                    }
                    next = step.checked_add(next).ok_or(Malformed)?;
                    let (name, of) = fields.get(next - 1).ok_or(Malformed)?;
                    found.insert(name.clone(), self.value(*of, bytes, depth)?);
                }
            }
        }
    }
}

/// Bytes that are no gob, or of a kind that is not read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the gob of a DHCP daemon's call")]
pub(super) struct Malformed;

fn uint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    whole_uint(bytes)?.ok_or(Malformed)
}

/// A number below 128 is a byte; a greater one is the negated count of its bytes, and they. `Ok(None)`: it is not all
/// there.
fn whole_uint(bytes: &mut &[u8]) -> Result<Option<u64>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    if first < 128 {
        *bytes = rest;
        return Ok(Some(first.into()));
    }
    let count = usize::from(first.wrapping_neg());
    if count > 8 {
        return Err(Malformed);
    }
    let Some((number, rest)) = rest.split_at_checked(count) else { return Ok(None) };
    *bytes = rest;
    Ok(Some(number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))))
}

/// The sign is the lowest bit, and negative numbers are complemented.
fn int(bytes: &mut &[u8]) -> Result<i64, Malformed> {
    let number = uint(bytes)?;
    let half = (number >> 1).cast_signed();
    Ok(if number & 1 == 0 { half } else { !half })
}

fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(uint(bytes)?).map_err(|_| Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

/// Writes a message's content.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn uint(&mut self, number: u64) -> &mut Self {
        if number < 128 {
            self.bytes.push(number as u8);
        } else {
            let bytes = number.to_be_bytes();
            let zeros = (number.leading_zeros() / 8) as usize;
            self.bytes.push((8 - zeros as u8).wrapping_neg());
            self.bytes.extend(bytes.iter().skip(zeros));
        }
        self
    }

    pub(super) fn int(&mut self, number: i64) -> &mut Self {
        let bits = number.cast_unsigned() << 1;
        self.uint(if number < 0 { !bits } else { bits })
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.uint(bytes.len() as u64);
        self.bytes.extend(bytes);
        self
    }

    /// A structure: `write` writes its fields.
    pub(super) fn structure(&mut self, write: impl FnOnce(&mut Fields<'_>)) -> &mut Self {
        write(&mut Fields { writer: self, last: 0 });
        self.uint(0)
    }

    /// The message of a value, or of a definition: its type's number, and what was written.
    pub(super) fn message(id: i64, write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut content = Self::default();
        write(content.int(id));
        let mut message = Self::default();
        message.bytes(&content.bytes);
        message.bytes
    }
}

/// Writes a structure's fields in their order, counted from 1. What is zero is left out.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    writer: &'a mut Writer,
    last: u64,
}

impl Fields<'_> {
    pub(super) fn field(&mut self, number: u64) -> &mut Writer {
        self.writer.uint(number - self.last);
        self.last = number;
        self.writer
    }

    pub(super) fn bytes(&mut self, number: u64, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.field(number).bytes(bytes);
        }
    }

    pub(super) fn int(&mut self, number: u64, value: i64) {
        if value != 0 {
            self.field(number).int(value);
        }
    }

    pub(super) fn list<T>(&mut self, number: u64, list: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        if !list.is_empty() {
            let writer = self.field(number).uint(list.len() as u64);
            list.iter().for_each(|item| write(writer, item));
        }
    }
}

/// The definition of a structure.
pub(super) fn define_struct(id: i64, name: &str, fields: &[(&str, i64)]) -> Vec<u8> {
    define(id, 3, name, |kind| {
        kind.list(2, fields, |writer, (name, id)| {
            writer.structure(|field| {
                field.bytes(1, name.as_bytes());
                field.int(2, *id);
            });
        });
    })
}

/// The definition of a list.
pub(super) fn define_list(id: i64, of: i64) -> Vec<u8> {
    define(id, 2, "", |kind| kind.int(2, of))
}

fn define(id: i64, kind: u64, name: &str, write: impl FnOnce(&mut Fields<'_>)) -> Vec<u8> {
    Writer::message(-id, |writer| {
        writer.structure(|wire| {
            wire.field(kind).structure(|kind| {
                kind.field(1).structure(|common| {
                    common.bytes(1, name.as_bytes());
                    common.int(2, id);
                });
                write(kind);
            });
        });
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_its_documentation() {
        let written = |number| Writer::default().uint(number).bytes.clone();
        assert_eq!((written(0), written(7), written(256)), (vec![0], vec![7], vec![0xfe, 1, 0]));
        // -129 and 1<<40 of integers; the structure {22, 33} of package gob's documentation.
        assert_eq!(Writer::default().int(-129).bytes, [0xfe, 1, 1]);
        let stream: &[u8] = &[
            0x1f, 0xff, 0x81, 0x03, 0x01, 0x01, 0x05, 0x50, 0x6f, 0x69, 0x6e, 0x74, 0x01, 0xff, 0x82, 0x00,
            0x01, 0x02, 0x01, 0x01, 0x58, 0x01, 0x04, 0x00, 0x01, 0x01, 0x59, 0x01, 0x04, 0x00, 0x00, 0x00,
            0x07, 0xff, 0x82, 0x01, 0x2c, 0x01, 0x42, 0x00,
        ];
        let mut rest = stream;
        let value = Decoder::new().next(&mut rest).unwrap().unwrap();
        assert_eq!((value.int("X"), value.int("Y"), rest.len()), (Some(22), Some(33), 0));
        assert_eq!(define_struct(65, "Point", &[("X", INT), ("Y", INT)]), stream[..32]);
        for length in 0..stream.len() {
            assert_eq!(Decoder::new().next(&mut &stream[..length]), Ok(None), "{length}");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        // A list of itself.
        let mut stream = define_list(65, 65);
        stream.extend(Writer::message(65, |writer| {
            writer.uint(0);
            for _ in 0..40 {
                writer.uint(1);
            }
        }));
        assert_eq!(Decoder::new().next(&mut &stream[..]), Err(Malformed));
        assert_eq!(Decoder::new().next(&mut &[0x80][..]), Err(Malformed));
        // The type of types is not to be changed.
        assert_eq!(Decoder::new().next(&mut &define_list(16, INT)[..]), Err(Malformed));
    }

    proptest! {
        #[test]
        fn numbers(number in any::<i64>(), unsigned in any::<u64>()) {
            let mut writer = Writer::default();
            writer.int(number).uint(unsigned);
            let mut bytes = writer.bytes.as_slice();
            prop_assert_eq!((int(&mut bytes), uint(&mut bytes), bytes.len()), (Ok(number), Ok(unsigned), 0));
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::new().next(&mut &bytes[..]);
        }
    }
}
