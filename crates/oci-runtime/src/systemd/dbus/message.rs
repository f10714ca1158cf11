//! Messages: a header of fields, and a body of values.

use std::sync::Arc;

use super::read::Reader;
use super::write::Writer;
use super::{Malformed, Type, Value};

/// No message to or from systemd comes near; the specification allows 128 MiB.
pub const MAX_MESSAGE: usize = 1 << 20;

/// The part of the header before its fields, and their length.
const FIXED: usize = 16;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks for a method.
    Call,
    /// Its answer.
    Return,
    /// Its failure.
    Error,
    /// Tells of an event.
    Signal,
    /// Of a later version: to be ignored.
    Other,
}

/// A message. Fields that it does not have are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Its number at its sender, which is not 0.
    pub serial: u32,
    /// The call that it answers.
    pub reply_to: Option<u32>,
    /// The object that it is from or for.
    pub path: String,
    /// The interface of `member`.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// The error's name.
    pub error: String,
    /// Whom it is for: a name on the bus.
    pub destination: String,
    /// Who sent it, as the bus says.
    pub sender: String,
    /// Its values.
    pub body: Vec<Value>,
}

impl Message {
    /// An empty message of a kind.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            serial: 1,
            reply_to: None,
            path: String::new(),
            interface: String::new(),
            member: String::new(),
            error: String::new(),
            destination: String::new(),
            sender: String::new(),
            body: Vec::new(),
        }
    }

    /// A call of a method of an object of the service `destination`.
    pub fn call(destination: &str, path: &str, interface: &str, member: &str, body: Vec<Value>) -> Self {
        Self {
            path: path.into(),
            interface: interface.into(),
            member: member.into(),
            destination: destination.into(),
            body,
            ..Self::new(Kind::Call)
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// A value that no message can carry (a string with a zero byte in it), or more than [`MAX_MESSAGE`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let kind = match self.kind {
            Kind::Call => 1,
            Kind::Return => 2,
            Kind::Error => 3,
            Kind::Signal => 4,
            Kind::Other => return Err(Malformed("a message of no kind")),
        };
        let mut body = Writer::default();
        self.body.iter().try_for_each(|value| body.value(value))?;
        let mut message = Writer::default();
        message.bytes.extend([b'l', kind, 0, 1]);
        message.u32(body.bytes.len() as u32);
        message.u32(self.serial);
        message.value(&Value::array(Type::Struct(vec![Type::Byte, Type::Variant]), self.fields()))?;
        message.pad(8);
        message.bytes.extend(body.bytes);
        if message.bytes.len() > MAX_MESSAGE {
            return Err(Malformed("longer than this client sends"));
        }
        Ok(message.bytes)
    }

    /// The header's fields.
    fn fields(&self) -> Vec<Value> {
        let signature: String = self.body.iter().map(|value| value.kind().to_string()).collect();
        let texts = [
            (1, Value::ObjectPath(self.path.clone())),
            (2, Value::text(&self.interface)),
            (3, Value::text(&self.member)),
            (4, Value::text(&self.error)),
            (6, Value::text(&self.destination)),
            (7, Value::text(&self.sender)),
        ];
        let texts = texts.into_iter().filter(|(_, value)| value.as_text() != Some(""));
        let reply = self.reply_to.map(|serial| (5, Value::U32(serial)));
        let signature = (!signature.is_empty()).then_some((8, Value::Signature(signature)));
        let pair = |(code, value)| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
        texts.chain(reply).chain(signature).map(pair).collect()
    }
}

/// The header's fields that count here.
#[derive(Debug, Default)]
struct Fields {
    path: Option<String>,
    interface: Option<String>,
    member: Option<String>,
    error: Option<String>,
    reply_to: Option<u32>,
    destination: Option<String>,
    sender: Option<String>,
    signature: Option<String>,
}

impl Message {
    /// How many bytes the message takes that begins here, or `None` if too few have come to tell.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let Some(fixed) = bytes.get(..FIXED) else { return Ok(None) };
        let mut reader = Reader::new(fixed, is_big_endian(fixed[0])?);
        reader.u32()?;
        let body = reader.u32()? as usize;
        reader.u32()?;
        let fields = reader.u32()? as usize;
        if fields > MAX_MESSAGE || body > MAX_MESSAGE {
            return Err(Malformed("longer than this client takes"));
        }
        Ok(Some((FIXED + fields).next_multiple_of(8) + body))
    }

    /// Reads one message, whose bytes are all there and no more (see [`length`](Self::length)).
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let length = Self::length(bytes)?.ok_or(Malformed("it ends too early"))?;
        if length != bytes.len() {
            return Err(Malformed("a length that is not its own"));
        }
        let big_endian = is_big_endian(bytes[0])?;
        let mut header = Reader::new(bytes, big_endian);
        header.byte()?;
        let kind = match header.byte()? {
            0 => return Err(Malformed("a message of no kind")),
            1 => Kind::Call,
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        header.byte()?;
        if header.byte()? != 1 {
            return Err(Malformed("a version other than 1"));
        }
        let body_length = header.u32()? as usize;
        let serial = header.u32()?;
        if serial == 0 {
            return Err(Malformed("a serial number of 0"));
        }
        let fields = Fields::read(&mut header)?;
        header.pad(8)?;
        let mut rest = Reader::new(&bytes[length - body_length..], big_endian);
        let mut body = Vec::new();
        for kind in Type::parse_all(fields.signature.as_deref().unwrap_or_default())? {
            body.push(rest.value(&kind)?);
        }
        if !rest.at_end() {
            return Err(Malformed("a body longer than its signature"));
        }
        fields.check(kind)?;
        Ok(Self {
            kind,
            serial,
            reply_to: fields.reply_to,
            path: fields.path.unwrap_or_default(),
            interface: fields.interface.unwrap_or_default(),
            member: fields.member.unwrap_or_default(),
            error: fields.error.unwrap_or_default(),
            destination: fields.destination.unwrap_or_default(),
            sender: fields.sender.unwrap_or_default(),
            body,
        })
    }

    /// The text of the body's value at `index`.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.body.get(index).and_then(Value::as_text)
    }
}

impl Fields {
    fn read(header: &mut Reader<'_>) -> Result<Self, Malformed> {
        let list = header.value(&Type::Array(Arc::new(Type::Struct(vec![Type::Byte, Type::Variant]))))?;
        let Value::Array(_, list) = list else { return Err(Malformed("a header without fields")) };
        let mut fields = Self::default();
        for field in list {
            let Value::Struct(pair) = field else { continue };
            let [Value::Byte(code), Value::Variant(value)] = pair.as_slice() else { continue };
            fields.put(*code, value)?;
        }
        Ok(fields)
    }

    fn put(&mut self, code: u8, value: &Value) -> Result<(), Malformed> {
        let slot = match (code, value) {
            (1, Value::ObjectPath(_)) => &mut self.path,
            (2, Value::String(_)) => &mut self.interface,
            (3, Value::String(_)) => &mut self.member,
            (4, Value::String(_)) => &mut self.error,
            (6, Value::String(_)) => &mut self.destination,
            (7, Value::String(_)) => &mut self.sender,
            (8, Value::Signature(signature)) => {
                self.signature = Some(signature.clone());
                return Ok(());
            }
            (5, Value::U32(serial)) if *serial != 0 => {
                self.reply_to = Some(*serial);
                return Ok(());
            }
            (0, _) => return Err(Malformed("a header field of no kind")),
            (1..=8, _) => return Err(Malformed("a header field of the wrong type")),
            // Descriptors, and what later versions add.
            _ => return Ok(()),
        };
        *slot = value.as_text().map(str::to_owned);
        Ok(())
    }

    /// Every kind has fields that it cannot be without.
    fn check(&self, kind: Kind) -> Result<(), Malformed> {
        let there = match kind {
            Kind::Call => self.path.is_some() && self.member.is_some(),
            Kind::Return => self.reply_to.is_some(),
            Kind::Error => self.reply_to.is_some() && self.error.is_some(),
            Kind::Signal => self.path.is_some() && self.interface.is_some() && self.member.is_some(),
            Kind::Other => true,
        };
        if there { Ok(()) } else { Err(Malformed("a header without a field that it needs")) }
    }
}

fn is_big_endian(mark: u8) -> Result<bool, Malformed> {
    match mark {
        b'l' => Ok(false),
        b'B' => Ok(true),
        _ => Err(Malformed("a byte order that is neither little nor big")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<u8>().prop_map(Value::Byte),
            any::<bool>().prop_map(Value::Bool),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            (-1e300..1e300).prop_map(Value::Double),
            "[^\0]{0,9}".prop_map(Value::String),
            "(/[a-z_0-9]{1,4}){1,3}".prop_map(Value::ObjectPath),
            Just(Value::Signature("a{sv}(it)".into())),
            any::<u32>().prop_map(Value::Descriptor),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        leaf().prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                inner.clone().prop_map(|v| Value::Variant(Box::new(v))),
                prop::collection::vec(inner.clone(), 1..5).prop_map(Value::Struct),
                // All of one kind: the first one, some times, or none of them.
                (inner.clone(), 0..4_usize)
                    .prop_map(|(v, n)| Value::array(v.kind(), std::iter::repeat_n(v, n))),
                prop::collection::vec((any::<u16>(), inner.clone()), 0..4).prop_map(|pairs| {
                    let entry = |(k, v)| Value::Entry(Box::new((Value::U16(k), Value::Variant(Box::new(v)))));
                    Value::array(
                        Type::Entry(Box::new((Type::U16, Type::Variant))),
                        pairs.into_iter().map(entry),
                    )
                }),
            ]
        })
    }

    fn message() -> impl Strategy<Value = Message> {
        let kinds = prop_oneof![Just(Kind::Call), Just(Kind::Return), Just(Kind::Error), Just(Kind::Signal)];
        (kinds, 1..u32::MAX, prop::collection::vec(value(), 0..5)).prop_map(|(kind, serial, body)| {
            let reply_to = matches!(kind, Kind::Return | Kind::Error).then_some(serial / 2 + 1);
            let error = if kind == Kind::Error { "org.example.Bad" } else { "" };
            Message {
                kind,
                serial,
                reply_to,
                error: error.into(),
                ..Message::call("org.example", "/org/example", "org.example.Face", "Do", body)
            }
        })
    }

    proptest! {
        #[test]
        fn a_message_reads_as_it_was_written(message in message()) {
            // What nests deeper than signatures may is refused on either side.
            if let Ok(bytes) = message.to_bytes() {
                prop_assert_eq!(Message::length(&bytes).unwrap(), Some(bytes.len()));
                prop_assert_eq!(Message::read(&bytes).unwrap(), message);
            }
        }

        #[test]
        fn a_message_cut_short_is_refused(message in message(), part in 0.0..1.0_f64) {
            if let Ok(bytes) = message.to_bytes() {
                let cut = (bytes.len() as f64 * part) as usize;
                prop_assert!(Message::read(&bytes[..cut]).is_err());
            }
        }

        #[test]
        fn no_bytes_are_too_much(message in message(), at in any::<prop::sample::Index>(), byte: u8) {
            if let Ok(mut bytes) = message.to_bytes() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
                if let Ok(read) = Message::read(&bytes) {
                    prop_assert!(read.kind == Kind::Other || read.to_bytes().is_ok());
                }
            }
        }
    }

    /// The bytes of GetId as dbus-send sends them, in both byte orders.
    #[test]
    fn bytes_are_those_of_the_specification() {
        let call = Message { serial: 2, ..Message::call("a.b", "/a", "a.b", "M", vec![Value::text("x")]) };
        let little = call.to_bytes().unwrap();
        let want: &[u8] = &[
            b'l', 1, 0, 1, 6, 0, 0, 0, 2, 0, 0, 0, 0x47, 0, 0, 0, //
            1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'a', 0, 0, 0, 0, 0, 0, //
            2, 1, b's', 0, 3, 0, 0, 0, b'a', b'.', b'b', 0, 0, 0, 0, 0, //
            3, 1, b's', 0, 1, 0, 0, 0, b'M', 0, 0, 0, 0, 0, 0, 0, //
            6, 1, b's', 0, 3, 0, 0, 0, b'a', b'.', b'b', 0, 0, 0, 0, 0, //
            8, 1, b'g', 0, 1, b's', 0, 0, //
            1, 0, 0, 0, b'x', 0,
        ];
        assert_eq!(little, want);
        let mut big = want.to_vec();
        big[0] = b'B';
        for at in [4, 8, 12, 20, 36, 52, 68, 88] {
            big[at..at + 4].reverse();
        }
        assert_eq!(Message::read(&big).unwrap(), call);
    }

    #[test]
    fn lengths_beyond_all_bounds_are_refused_before_anything_is_read() {
        let mut bytes = vec![b'l', 2, 0, 1, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0];
        assert!(Message::length(&bytes).is_err());
        bytes[4..8].fill(0);
        bytes[12..].fill(0xff);
        assert!(Message::length(&bytes).is_err());
        assert_eq!(Message::length(&bytes[..15]), Ok(None));
        assert!(Message::length(b"HTTP/1.1 400 Bad").is_err());
    }
}
