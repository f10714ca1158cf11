//! Follows a body to its end.

use super::field::{Kind, text_byte, token_byte};
use super::{Fault, Framing};

/// So many bytes of extensions one chunk may have, and all chunks of a body together: nobody means anything by them.
const EXTENSION: u16 = 256;
const EXTENSIONS: u32 = 16 << 10;
/// So many bytes of trailers.
const TRAILERS: u16 = 8 << 10;
/// The longest name of a header that may not be a trailer.
const NAME: usize = 17;

/// What is left of a body. It is asked about the bytes behind a head as they arrive, and says how many belong to it.
#[derive(Debug, Clone)]
pub struct Body {
    state: State,
    extensions: u32,
    trailers: u16,
    name: [u8; NAME],
    named: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    Close,
    Size { value: u64, digits: u8 },
    Extension { value: u64, length: u16 },
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataLf,
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
}

/// The first bytes of those that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// So many of them belong together.
    pub used: usize,
    /// Whether they are what is meant, or but say how much of it comes.
    pub data: bool,
}

impl Body {
    /// Of a message that says so.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::Close => State::Close,
        };
        Self { state, extensions: 0, trailers: 0, name: [0; NAME], named: 0 }
    }

    /// Whether all of it was there.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the connection's end is its end.
    #[must_use]
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::Close
    }

    /// Whether something of it has begun that says that more comes: a length, a chunk to the end of its line, or trailers. Between two chunks
    /// nothing has, nor where the connection's end is its end.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        !matches!(self.state, State::Done | State::Close | State::Size { digits: 0, .. })
    }

    /// How many bytes of data are next for certain.
    #[must_use]
    pub fn ahead(&self) -> u64 {
        match self.state {
            State::Length(left) | State::Data(left) => left,
            State::Close => u64::MAX,
            _ => 0,
        }
    }

    /// Takes note that so many of the bytes that are [`Body::ahead`] went by unread.
    pub fn pass(&mut self, count: u64) {
        let left = |left: u64| left.saturating_sub(count);
        self.state = match self.state {
            State::Length(n) if left(n) == 0 => State::Done,
            State::Length(n) => State::Length(left(n)),
            State::Data(n) if left(n) == 0 => State::DataEnd,
            State::Data(n) => State::Data(left(n)),
            other => other,
        };
    }

    /// How many of these bytes belong to it.
    ///
    /// # Errors
    /// They break the rules of chunks or trailers (RFC 9112, 7.1).
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(rest @ [_, ..]) = bytes.get(used..) {
            if self.is_done() {
                break;
            }
            used += self.next(rest)?.used;
        }
        Ok(used)
    }

    /// The next of these bytes that belong together; nothing where there is no byte, or the body is done.
    ///
    /// # Errors
    /// As [`Body::take`].
    pub fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let ahead = usize::try_from(self.ahead()).unwrap_or(usize::MAX);
        if ahead > 0 {
            let used = ahead.min(bytes.len());
            self.pass(used as u64);
            return Ok(Piece { used, data: true });
        }
        let mut used = 0;
        for byte in bytes {
            if matches!(self.state, State::Data(_) | State::Done) {
                break;
            }
            self.state = self.step(*byte)?;
            used += 1;
        }
        Ok(Piece { used, data: false })
    }

    fn step(&mut self, byte: u8) -> Result<State, Fault> {
        Ok(match (self.state, byte) {
            (State::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                // 15 digits are less than 2^60.
                if digits == 15 {
                    return Err(Fault::Chunk("is larger than any body"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Fault::Chunk("has no size")),
            (State::Size { value, .. }, b';') => State::Extension { value, length: 0 },
            (State::Size { value, .. } | State::Extension { value, .. }, b'\r') => State::SizeEnd(value),
            (State::Size { .. }, _) => return Err(Fault::Chunk("has a size that is no number")),
            (State::Extension { value, length }, _) if text_byte(byte) => {
                self.extensions += 1;
                if length == EXTENSION || self.extensions > EXTENSIONS {
                    return Err(Fault::Chunk("has an extension without end"));
                }
                State::Extension { value, length: length + 1 }
            }
            (State::Extension { .. }, _) => {
                return Err(Fault::Chunk("has an extension with a control character"));
            }
            (State::SizeEnd(0), b'\n') => State::Trailer,
            (State::SizeEnd(value), b'\n') => State::Data(value),
            (State::DataEnd, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size { value: 0, digits: 0 },
            (State::SizeEnd(_) | State::DataEnd | State::DataLf, _) => {
                return Err(Fault::Chunk("does not end with CR LF"));
            }
            (State::Trailer, b'\r') => State::LastLf,
            (State::LastLf, b'\n') => State::Done,
            (
                State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerLf | State::LastLf,
                _,
            ) => {
                return self.trailer(byte);
            }
            // Bytes of data are never stepped over one by one.
            (State::Done | State::Length(_) | State::Close | State::Data(_), _) => self.state,
        })
    }

    fn trailer(&mut self, byte: u8) -> Result<State, Fault> {
        self.trailers += 1;
        if self.trailers > TRAILERS {
            return Err(Fault::Trailer("has no end"));
        }
        match (self.state, byte) {
            (State::Trailer | State::TrailerName, _) if token_byte(byte) => {
                if self.state == State::Trailer {
                    self.named = 0;
                }
                if let Some(place) = self.name.get_mut(self.named) {
                    *place = byte;
                }
                self.named += 1;
                Ok(State::TrailerName)
            }
            (State::TrailerName, b':') => {
                // A longer name is none of them.
                let name = self.name.get(..self.named).unwrap_or_default();
                if Kind::of(name) == Kind::Other {
                    Ok(State::TrailerValue)
                } else {
                    Err(Fault::Trailer("is a header that says how to read or where to send a message"))
                }
            }
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if text_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::Trailer),
            (State::TrailerLf | State::LastLf, _) => Err(Fault::Trailer("does not end with CR LF")),
            (State::TrailerValue, _) => Err(Fault::Trailer("has a control character")),
            _ => Err(Fault::Trailer("has a name that is none")),
        }
    }
}
