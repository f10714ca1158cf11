//! Netlink's wire form: messages of attributes, written into one buffer and read back in place.
//!
//! Reading is for bytes from outside: every length is checked, and what does not fit ends the iteration.

use super::uapi::{NLA_F_NESTED, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;

const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// Requests that leave in one `sendmsg`, in order, each with the words for its failure.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) buffer: Vec<u8>,
    pub(crate) requests: Vec<Request>,
    /// Set when an attribute outgrew its 16-bit length: the batch is refused instead of sent mangled.
    pub(crate) overflow: bool,
}

/// Where a request lies in its batch, and how its failure reads.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) offset: usize,
    pub(crate) verb: &'static str,
    pub(crate) object: String,
    /// The kernel will answer with an acknowledgement or the end of a dump.
    pub(crate) answered: bool,
    /// It will answer with one message or an error.
    pub(crate) single: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// No request yet.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Starts a request of type `kind`. `verb` and `object` are the words of its failure ("cannot *verb* *object*").
    /// `header` is the family's fixed header; attributes follow through the returned [`Message`].
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        verb: &'static str,
        object: impl Into<String>,
    ) -> Message<'_> {
        let offset = self.buffer.len();
        let flags = flags | NLM_F_REQUEST;
        let answered = flags & NLM_F_ACK != 0 || flags & NLM_F_DUMP == NLM_F_DUMP;
        self.requests.push(Request { offset, verb, object: object.into(), answered, single: false });
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 8]);
        let mut message = Message { batch: self, offset };
        message.append(header);
        message
    }

    /// Starts a request that the kernel answers with one message, or an error.
    pub fn question(
        &mut self,
        kind: u16,
        header: &[u8],
        verb: &'static str,
        object: impl Into<String>,
    ) -> Message<'_> {
        let message = self.message(kind, 0, header, verb, object);
        if let Some(last) = message.batch.requests.last_mut() {
            (last.answered, last.single) = (true, true);
        }
        message
    }

    /// Asks for an acknowledgement of the last request (a transaction is answered once, at its end).
    pub(crate) fn acknowledge_last(&mut self) {
        if let Some(last) = self.requests.last_mut() {
            last.answered = true;
            if let Some(flags) = self.buffer.get_mut(last.offset + 6..last.offset + 8) {
                let asked = u16::from_ne_bytes([flags[0], flags[1]]) | NLM_F_ACK;
                flags.copy_from_slice(&asked.to_ne_bytes());
            }
        }
    }
}

/// A request being written. Its length is settled when it goes out of scope.
#[derive(Debug)]
pub struct Message<'a> {
    batch: &'a mut Batch,
    offset: usize,
}

impl Message<'_> {
    fn append(&mut self, bytes: &[u8]) {
        let buffer = &mut self.batch.buffer;
        buffer.extend_from_slice(bytes);
        buffer.resize(align(buffer.len()), 0);
    }

    /// An attribute with raw bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let Ok(len) = u16::try_from(value.len() + 4) else {
            self.batch.overflow = true;
            return self;
        };
        self.batch.buffer.extend_from_slice(&len.to_ne_bytes());
        self.batch.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.append(value);
        self
    }

    /// A NUL-terminated string.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// 32 bits in the machine's order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// 64 bits in the machine's order.
    pub fn u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// 16 bits in network order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in network order (nf_tables speaks so).
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute that holds attributes, written by `inside`.
    pub fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Message<'_>)) -> &mut Self {
        self.nest_after(kind, &[], inside)
    }

    /// A nest whose attributes follow a fixed header (the peer of a veth).
    pub fn nest_after(
        &mut self,
        kind: u16,
        header: &[u8],
        inside: impl FnOnce(&mut Message<'_>),
    ) -> &mut Self {
        let start = self.batch.buffer.len();
        self.batch.buffer.extend_from_slice(&[0; 2]);
        self.batch.buffer.extend_from_slice(&(kind | NLA_F_NESTED).to_ne_bytes());
        self.append(header);
        inside(self);
        match u16::try_from(self.batch.buffer.len() - start) {
            Ok(len) => self.batch.buffer[start..start + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.batch.overflow = true,
        }
        self
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        let len = self.batch.buffer.len() - self.offset;
        match u32::try_from(len) {
            Ok(len) => self.batch.buffer[self.offset..self.offset + 4].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.batch.overflow = true,
        }
    }
}

/// A message as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// `nlmsg_seq`: which request this answers.
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket that it is for, or of the one that has made what it tells of.
    pub port: u32,
    /// Everything after the `nlmsghdr`.
    pub body: &'a [u8],
}

/// The messages of a datagram. Ends at the first one that does not fit.
#[derive(Debug, Clone)]
pub struct Messages<'a>(&'a [u8]);

impl<'a> Messages<'a> {
    /// Reads `datagram`.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Received<'a>> {
        let len = read_u32(self.0, 0)? as usize;
        let body = self.0.get(HEADER..len)?;
        let message = Received {
            kind: read_u16(self.0, 4)?,
            flags: read_u16(self.0, 6)?,
            sequence: read_u32(self.0, 8)?,
            port: read_u32(self.0, 12)?,
            body,
        };
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes in some bytes. Ends at the first one that does not fit.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Reads what follows a fixed header of `header` bytes.
    pub fn after(bytes: &'a [u8], header: usize) -> Self {
        Self(bytes.get(align(header)..).unwrap_or_default())
    }

    /// The first attribute of type `kind`.
    pub fn find(self, kind: u16) -> Option<Attribute<'a>> {
        let mut rest = self;
        rest.by_ref().find(|attribute| attribute.kind == kind)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let len = usize::from(read_u16(self.0, 0)?);
        let kind = read_u16(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(4..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Attribute { kind, value })
    }
}

/// One attribute, borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without the nested and byte-order flags.
    pub kind: u16,
    /// Its bytes.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The attributes inside.
    pub fn nested(self) -> Attributes<'a> {
        Attributes(self.value)
    }

    /// One byte, if there is one.
    pub fn u8(self) -> Option<u8> {
        self.value.first().copied()
    }

    /// 16 bits in network order.
    pub fn be16(self) -> Option<u16> {
        self.value.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// 32 bits in the machine's order.
    pub fn u32(self) -> Option<u32> {
        read_u32(self.value, 0)
    }

    /// 32 bits in network order.
    pub fn be32(self) -> Option<u32> {
        self.value.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// 64 bits in network order.
    pub fn be64(self) -> Option<u64> {
        self.value.first_chunk().copied().map(u64::from_be_bytes)
    }

    /// Text up to its NUL; what is not UTF-8 is replaced.
    pub fn text(self) -> String {
        let end = self.value.iter().position(|&b| b == 0).unwrap_or(self.value.len());
        String::from_utf8_lossy(self.value.get(..end).unwrap_or_default()).into_owned()
    }

    /// An address of 4 or 16 bytes.
    pub fn address(self) -> Option<std::net::IpAddr> {
        match self.value.len() {
            4 => self.value.first_chunk::<4>().map(|b| (*b).into()),
            16 => self.value.first_chunk::<16>().map(|b| (*b).into()),
            _ => None,
        }
    }
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Attributes in attributes, as deep as the kernel has them.
    #[derive(Debug, Clone, PartialEq)]
    enum Tree {
        Value(Vec<u8>),
        Nest(Vec<(u16, Tree)>),
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let value = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Tree::Value);
        value.prop_recursive(4, 32, 4, |inner| {
            proptest::collection::vec((1u16..0x3fff, inner), 1..4).prop_map(Tree::Nest)
        })
    }

    fn write(m: &mut Message<'_>, kind: u16, tree: &Tree) {
        match tree {
            Tree::Value(bytes) => m.bytes(kind, bytes),
            Tree::Nest(inner) => {
                m.nest(kind, |m| inner.iter().for_each(|(kind, tree)| write(m, *kind, tree)))
            }
        };
    }

    fn reads_back(attribute: Attribute<'_>, tree: &Tree) -> bool {
        match tree {
            Tree::Value(bytes) => attribute.value == bytes,
            Tree::Nest(inner) => {
                let found: Vec<_> = attribute.nested().collect();
                found.len() == inner.len()
                    && found
                        .iter()
                        .zip(inner)
                        .all(|(a, (kind, tree))| a.kind == *kind && reads_back(*a, tree))
            }
        }
    }

    proptest! {
        #[test]
        fn attributes_read_back_as_written(
            header in proptest::collection::vec(any::<u8>(), 0..24),
            messages in proptest::collection::vec((1u16..0x3fff, tree()), 1..4),
        ) {
            let mut batch = Batch::new();
            for (kind, tree) in &messages {
                write(&mut batch.message(*kind, 0, &header, "test", "nothing"), *kind, tree);
            }
            let received: Vec<_> = Messages::new(&batch.buffer).collect();
            prop_assert_eq!(received.len(), messages.len());
            for (message, (kind, tree)) in received.iter().zip(&messages) {
                prop_assert_eq!(message.kind, *kind);
                let attributes: Vec<_> = Attributes::after(message.body, header.len()).collect();
                prop_assert_eq!(attributes.len(), 1);
                prop_assert!(reads_back(attributes[0], tree));
            }
        }

        #[test]
        fn any_bytes_end_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in Messages::new(&bytes) {
                prop_assert!(message.body.len() < bytes.len());
            }
            for attribute in Attributes::new(&bytes) {
                prop_assert!(attribute.value.len() < bytes.len());
                let _ = attribute.nested().map(Attribute::text).count();
            }
        }
    }

    #[test]
    fn a_message_reads_back_as_written() {
        let mut batch = Batch::new();
        {
            let mut message = batch.message(7, NLM_F_ACK, &[1, 2, 3, 4], "test", "nothing");
            message.u32(1, 42).text(2, "eth0").nest(3, |inner| {
                inner.u8(1, 9).be16(2, 0x1234);
            });
        }
        let received: Vec<_> = Messages::new(&batch.buffer).collect();
        assert_eq!(received.len(), 1);
        assert_eq!((received[0].kind, &received[0].body[..4]), (7, &[1, 2, 3, 4][..]));
        let attributes = Attributes::after(received[0].body, 4);
        assert_eq!(attributes.find(1).unwrap().u32(), Some(42));
        assert_eq!(attributes.find(2).unwrap().text(), "eth0");
        assert_eq!(attributes.find(3).unwrap().nested().find(2).unwrap().be16(), Some(0x1234));
    }

    #[test]
    fn what_does_not_fit_ends_the_reading() {
        for bytes in
            [&[][..], &[1], &[0; 16], &[255; 16], &[3, 0, 0, 0], &[8, 0, 1, 0, 1], &[17, 0, 0, 0, 0, 0, 0, 0]]
        {
            assert_eq!(Attributes::new(bytes).filter(|a| a.value.len() > bytes.len()).count(), 0);
            assert_eq!(Messages::new(bytes).count(), 0);
        }
    }

    #[test]
    fn an_attribute_too_long_refuses_the_batch() {
        let mut batch = Batch::new();
        batch.message(1, 0, &[], "test", "nothing").bytes(1, &vec![0; 70_000]);
        assert!(batch.overflow);
    }
}
