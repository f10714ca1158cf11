//! Frames, read as they arrive.

use bytes::{BufMut, BytesMut};

use crate::mux::{Header, Malformed};

pub(super) mod opcode {
    //! What a frame is (section 5.2).
    pub(crate) const CONTINUATION: u8 = 0;
    pub(crate) const TEXT: u8 = 1;
    pub(crate) const BINARY: u8 = 2;
    pub(crate) const CLOSE: u8 = 8;
    pub(crate) const PING: u8 = 9;
    pub(crate) const PONG: u8 = 10;
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The most that a control frame carries (section 5.5).
const CONTROL_MAX: usize = 125;

/// Which side of the connection this is: a client masks what it sends, a server must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that asked for the connection.
    Client,
    /// The side that was asked.
    Server,
}

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A part of a message, which may be spread over many frames.
    Data {
        /// The bytes, unmasked; can be none.
        bytes: &'a mut [u8],
        /// A message begins.
        first: bool,
        /// It ends.
        last: bool,
        /// It is a text, not bytes.
        text: bool,
    },
    /// To be answered with the same bytes.
    Ping(Vec<u8>),
    /// The answer to a ping.
    Pong,
    /// The peer sends nothing more; it is to be answered with the same.
    Close {
        /// Section 7.4; 1000 is a normal end, 1005 stands for none given.
        code: u16,
    },
}

/// Reads frames from bytes that arrive in pieces. No more is kept of them than a control frame.
#[derive(Debug)]
pub struct Parser {
    side: Side,
    header: Vec<u8>,
    payload: Option<Payload>,
    /// The message of which more frames are to come: whether it is a text, and whether nothing of it has been given yet.
    message: Option<bool>,
    closed: bool,
}

#[derive(Debug)]
struct Payload {
    opcode: u8,
    fin: bool,
    left: u64,
    mask: [u8; 4],
    /// Nothing of a message has been given yet.
    first: bool,
    control: Vec<u8>,
}

impl Parser {
    /// One that has read nothing yet, on this side of a connection.
    #[must_use]
    pub fn new(side: Side) -> Parser {
        Parser { side, header: Vec::new(), payload: None, message: None, closed: false }
    }

    /// Reads from the front of `input`, and unmasks it in place. Gives how many bytes were used, and what they make;
    /// `None` means that all were used and nothing is whole.
    ///
    /// # Errors
    /// The bytes are no WebSocket frames; nothing that follows can be read.
    pub fn next<'a>(&mut self, input: &'a mut [u8]) -> Result<(usize, Option<Piece<'a>>), Malformed> {
        if self.closed {
            // Nothing after a farewell means anything.
            return Ok((input.len(), None));
        }
        let mut used = 0;
        while self.payload.is_none() {
            let missing = header_length(&self.header) - self.header.len();
            if missing == 0 {
                self.payload = Some(self.begin()?);
                self.header.clear();
                break;
            }
            let rest = input.get(used..).unwrap_or_default();
            if rest.is_empty() {
                return Ok((used, None));
            }
            let part = rest.get(..missing.min(rest.len())).unwrap_or_default();
            self.header.extend_from_slice(part);
            used += part.len();
        }
        let Some(payload) = &mut self.payload else { return Ok((used, None)) };
        let rest = input.get_mut(used..).unwrap_or_default();
        let length = usize::try_from(payload.left).unwrap_or(usize::MAX).min(rest.len());
        let bytes = rest.get_mut(..length).unwrap_or_default();
        payload.mask = unmask(bytes, payload.mask);
        payload.left -= length as u64;
        used += length;
        let whole = payload.left == 0;
        if payload.opcode < opcode::CLOSE {
            if bytes.is_empty() && !whole {
                return Ok((used, None));
            }
            let first = std::mem::replace(&mut payload.first, false);
            let last = whole && payload.fin;
            let text = self.message.unwrap_or_default();
            if whole {
                self.payload = None;
            }
            if last {
                self.message = None;
            }
            return Ok((used, Some(Piece::Data { bytes, first, last, text })));
        }
        payload.control.extend_from_slice(bytes);
        if !whole {
            return Ok((used, None));
        }
        let (opcode, control) = (payload.opcode, std::mem::take(&mut payload.control));
        self.payload = None;
        Ok((used, Some(self.control(opcode, control)?)))
    }

    /// Checks a header that is whole, and that its frame may come now.
    fn begin(&mut self) -> Result<Payload, Malformed> {
        let (first, second) = match self.header.as_slice() {
            [first, second, ..] => (*first, *second),
            _ => (0, 0),
        };
        let (fin, opcode) = (first & FIN != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(wrong("it uses an extension that was not agreed on"));
        }
        if (second & MASKED != 0) != (self.side == Side::Server) {
            return Err(wrong("it is masked and must not be, or is not and must be"));
        }
        let extended = self.header.get(2..2 + extended_length(second)).unwrap_or_default();
        let left = match extended.len() {
            0 => u64::from(second & !MASKED),
            _ => extended.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        };
        if left > i64::MAX as u64 {
            return Err(wrong("its length is not a number"));
        }
        let mask =
            self.header.get(2 + extended.len()..).and_then(|mask| mask.try_into().ok()).unwrap_or_default();
        let mut begins = false;
        match opcode {
            opcode::TEXT | opcode::BINARY if self.message.is_some() => {
                return Err(wrong("a message begins within another"));
            }
            opcode::TEXT | opcode::BINARY => {
                begins = true;
                self.message = Some(opcode == opcode::TEXT);
            }
            opcode::CONTINUATION if self.message.is_none() => return Err(wrong("it continues no message")),
            opcode::CONTINUATION => {}
            opcode::CLOSE..=opcode::PONG if !fin || left > CONTROL_MAX as u64 => {
                return Err(wrong("a control frame is in pieces, or has more than 125 bytes"));
            }
            opcode::CLOSE..=opcode::PONG => {}
            _ => return Err(wrong("its opcode is not known")),
        }
        Ok(Payload { opcode, fin, left, mask, first: begins, control: Vec::new() })
    }

    fn control(&mut self, opcode: u8, control: Vec<u8>) -> Result<Piece<'static>, Malformed> {
        match (opcode, control.as_slice()) {
            (opcode::PING, _) => Ok(Piece::Ping(control)),
            (opcode::PONG, _) => Ok(Piece::Pong),
            (_, [_]) => Err(wrong("a farewell has half a code")),
            (_, code) => {
                self.closed = true;
                let code = code.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                Ok(Piece::Close { code })
            }
        }
    }
}

fn wrong(why: &'static str) -> Malformed {
    Malformed { what: "a WebSocket frame", why }
}

/// How many bytes of length follow the second byte.
fn extended_length(second: u8) -> usize {
    match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

/// How long a header is, as far as that can be told from its beginning.
fn header_length(begun: &[u8]) -> usize {
    let Some(second) = begun.get(1) else { return 2 };
    let mask = if second & MASKED != 0 { 4 } else { 0 };
    2 + extended_length(*second) + mask
}

/// Unmasks, or masks; gives the mask as it goes on after these bytes.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) -> [u8; 4] {
    if mask == [0; 4] {
        return mask;
    }
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
    let mut next = mask;
    next.rotate_left(rest.len() % 4);
    next
}

/// The front of a frame that is a message of its own.
pub(super) fn header(opcode: u8, length: usize, mask: Option<[u8; 4]>) -> Header {
    let masked = if mask.is_some() { MASKED } else { 0 };
    let header = Header::EMPTY.push(&[FIN | opcode]);
    let header = match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ ..126), _) => header.push(&[masked | length]),
        (_, Ok(length)) => header.push(&[masked | 126]).push(&length.to_be_bytes()),
        _ => header.push(&[masked | 127]).push(&(length as u64).to_be_bytes()),
    };
    mask.map_or(header, |mask| header.push(&mask))
}

/// Writes a whole frame, masked if this side must.
pub(super) fn write(side: Side, opcode: u8, parts: &[&[u8]], out: &mut BytesMut) {
    let length = parts.iter().map(|part| part.len()).sum();
    let mask = (side == Side::Client).then(new_mask);
    out.put_slice(header(opcode, length, mask).as_slice());
    let start = out.len();
    parts.iter().for_each(|part| out.put_slice(part));
    if let (Some(mask), Some(payload)) = (mask, out.get_mut(start..)) {
        unmask(payload, mask);
    }
}

/// A mask that nobody can foresee, so that no proxy can be made to see an HTTP request in what is sent.
fn new_mask() -> [u8; 4] {
    let mut mask = [0; 4];
    // It fails only before the kernel has its first random numbers; the handshake has had its own by then.
    let _ = aws_lc_rs::rand::fill(&mut mask);
    mask
}

/// A farewell.
pub(super) fn close(side: Side, code: u16, why: &str, out: &mut BytesMut) {
    let why = why.as_bytes().get(..why.len().min(CONTROL_MAX - 2)).unwrap_or_default();
    write(side, opcode::CLOSE, &[&code.to_be_bytes(), why], out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything that comes out of `bytes` when they arrive in pieces of these lengths.
    fn read(side: Side, bytes: &[u8], lengths: &[usize]) -> Result<Vec<(Vec<u8>, bool, bool)>, Malformed> {
        let mut parser = Parser::new(side);
        let mut messages = Vec::new();
        let mut bytes = bytes.to_vec();
        let mut rest = bytes.as_mut_slice();
        let mut lengths = lengths.iter().cycle();
        while !rest.is_empty() {
            let length = lengths.next().copied().unwrap_or(1).clamp(1, rest.len());
            let (mut piece, after) = rest.split_at_mut(length);
            while !piece.is_empty() {
                let (used, found) = parser.next(piece)?;
                if let Some(Piece::Data { bytes, first, last, .. }) = found {
                    messages.push((bytes.to_vec(), first, last));
                }
                piece = piece.get_mut(used..).expect("no more than there was");
            }
            rest = after;
        }
        Ok(messages)
    }

    proptest! {
        #[test]
        fn messages_come_back(
            messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..70_000), 1..5),
            lengths in proptest::collection::vec(1_usize..5000, 1..8),
            client in any::<bool>(),
        ) {
            let (from, to) = if client { (Side::Client, Side::Server) } else { (Side::Server, Side::Client) };
            let mut sent = BytesMut::new();
            for message in &messages {
                write(from, opcode::PING, &[b"hello"], &mut sent);
                write(from, opcode::BINARY, &[message], &mut sent);
            }
            let mut received: Vec<Vec<u8>> = Vec::new();
            for (bytes, first, _) in read(to, &sent, &lengths).expect("frames") {
                if first {
                    received.push(Vec::new());
                }
                received.last_mut().expect("begun").extend(bytes);
            }
            prop_assert_eq!(received, messages);
        }

        #[test]
        fn rubbish_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), client in any::<bool>()) {
            let _ = read(if client { Side::Client } else { Side::Server }, &bytes, &[7, 1, 30]);
        }
    }

    #[test]
    fn what_the_rfc_forbids_is_an_error() {
        for (what, bytes) in [
            ("not masked", &[0x82, 0x01, b'a'][..]),
            ("an extension", &[0xc2, 0x80, 0, 0, 0, 0]),
            ("an unknown opcode", &[0x83, 0x80, 0, 0, 0, 0]),
            ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0]),
            ("a ping in pieces", &[0x09, 0x80, 0, 0, 0, 0]),
            ("a long ping", &[0x89, 0xfe, 0, 200, 0, 0, 0, 0]),
            ("half a code", &[0x88, 0x81, 0, 0, 0, 0, 3]),
            ("a message in a message", &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0]),
            ("a length above all", &[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            read(Side::Server, bytes, &[100]).expect_err(what);
        }
    }
}
