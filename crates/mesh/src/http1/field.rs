//! Names and values of headers.

use super::Fault;

/// Which bytes a name may have, and a value.
const TOKEN: u8 = 1;
const TEXT: u8 = 2;

const BYTES: [u8; 256] = {
    let mut bytes = [0_u8; 256];
    let mut n = 0;
    while n < 256 {
        let byte = n as u8;
        let mark = matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        );
        if byte.is_ascii_alphanumeric() || mark {
            bytes[n] |= TOKEN;
        }
        if byte == b'\t' || (byte >= b' ' && byte != 0x7f) {
            bytes[n] |= TEXT;
        }
        n += 1;
    }
    bytes
};

pub(crate) fn token_byte(byte: u8) -> bool {
    BYTES[usize::from(byte)] & TOKEN != 0
}

pub(crate) fn text_byte(byte: u8) -> bool {
    BYTES[usize::from(byte)] & TEXT != 0
}

/// Whether it may name a header or a method (RFC 9110, 5.6.2).
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| token_byte(*byte))
}

/// A header that means something to whoever passes a message on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    Length,
    /// `Host`.
    Host,
    /// `Transfer-Encoding`.
    Coding,
    /// `Upgrade`.
    Upgrade,
    /// `Expect`.
    Expect,
    /// For the next hop alone, and never passed on: `Keep-Alive`, `Proxy-Connection`, `TE`, `HTTP2-Settings`.
    Hop,
    /// Any other.
    Other,
}

impl Kind {
    /// Of a name, in whatever case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            2 if is("te") => Self::Hop,
            4 if is("host") => Self::Host,
            6 if is("expect") => Self::Expect,
            7 if is("upgrade") => Self::Upgrade,
            10 if is("connection") => Self::Connection,
            10 if is("keep-alive") => Self::Hop,
            14 if is("content-length") => Self::Length,
            14 if is("http2-settings") => Self::Hop,
            16 if is("proxy-connection") => Self::Hop,
            17 if is("transfer-encoding") => Self::Coding,
            _ => Self::Other,
        }
    }

    /// Whether a message without it, or with another, is another message: nothing but the proxy itself may change it.
    #[must_use]
    pub fn frames(self) -> bool {
        !matches!(self, Self::Other | Self::Expect)
    }
}

/// A line of a head: where its name and value are in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    /// Where the line begins, with its name.
    pub(super) start: usize,
    /// Behind the name.
    pub(super) colon: usize,
    /// The value, without blanks around it.
    pub(super) value: (usize, usize),
    /// Behind the line's end.
    pub(super) end: usize,
    pub(super) kind: Kind,
}

/// Reads the line at `start`, of which it is known that somewhere behind it an LF is.
pub(super) fn line(bytes: &[u8], start: usize) -> Result<Field, Fault> {
    let rest = bytes.get(start..).unwrap_or_default();
    let named = rest.iter().position(|byte| !token_byte(*byte)).unwrap_or(rest.len());
    match rest.get(named) {
        Some(b':') if named > 0 => {}
        Some(b' ' | b'\t') if named == 0 => return Err(Fault::Folded),
        Some(b'\n') => return Err(Fault::LineEnd),
        _ => return Err(Fault::Name),
    }
    let colon = start + named;
    let value = bytes.get(colon + 1..).unwrap_or_default();
    let length = value.iter().position(|byte| !text_byte(*byte)).unwrap_or(value.len());
    let end = match value.get(length..).unwrap_or_default() {
        [b'\r', b'\n', ..] => colon + 1 + length + 2,
        [b'\r' | b'\n', ..] => return Err(Fault::LineEnd),
        _ => return Err(Fault::Value),
    };
    let value = value.get(..length).unwrap_or_default();
    let trimmed = value.trim_ascii_start();
    let from = colon + 1 + (length - trimmed.len());
    let to = from + trimmed.trim_ascii_end().len();
    let kind = Kind::of(bytes.get(start..colon).unwrap_or_default());
    Ok(Field { start, colon, value: (from, to), end, kind })
}

/// The elements of a list, without blanks around them and without empty ones (RFC 9110, 5.6.1).
pub(super) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}
