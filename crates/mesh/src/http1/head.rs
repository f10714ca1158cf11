//! Reads heads of requests and responses.

use std::ops::Range;

use super::Fault;
use super::field::{self, Field, Kind, token_byte};

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes, the empty line included.
    pub head: usize,
    /// Headers.
    pub headers: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { head: 64 << 10, headers: 128 }
    }
}

/// Finds the end of a head that arrives in pieces, looking at each byte once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ending {
    seen: usize,
}

impl Ending {
    /// The length of the head at the beginning of `bytes`, which begin where they did when it was asked before; `None` while it is not all
    /// there.
    ///
    /// # Errors
    /// A line that ends with LF alone, which would hide the end, or more bytes than there may be.
    pub fn find(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<Option<usize>, Fault> {
        let rest = bytes.get(self.seen..).unwrap_or_default();
        for at in memchr::memchr_iter(b'\n', rest).map(|at| self.seen + at) {
            // An empty line before the first is let pass (RFC 9112, 2.2).
            match bytes.get(..at) {
                Some([.., b'\r', b'\n', b'\r']) => {
                    return if at < bounds.head {
                        Ok(Some(at + 1))
                    } else {
                        Err(Fault::TooLarge(bounds.head))
                    };
                }
                Some([.., b'\r']) => {}
                _ => return Err(Fault::LineEnd),
            }
        }
        self.seen = bytes.len();
        if bytes.len() >= bounds.head { Err(Fault::TooLarge(bounds.head)) } else { Ok(None) }
    }
}

/// What a method promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Its answer has no body.
    Head,
    /// Its answer is the beginning of a tunnel.
    Connect,
    /// Asking twice is as asking once: GET, OPTIONS, TRACE, PUT, DELETE.
    Idempotent,
    /// Any other.
    Other,
}

impl Method {
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            b"GET" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE" => Self::Idempotent,
            _ => Self::Other,
        }
    }

    /// Whether a request by it may be sent again when it is not known what became of it (RFC 9110, 9.2.2).
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        matches!(self, Self::Head | Self::Idempotent)
    }
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the connection's end.
    Close,
}

/// A head that was read. It holds places in the bytes it was read from, and is to be read into again: its memory stays.
#[derive(Debug)]
pub struct Head {
    pub(super) fields: Vec<Field>,
    /// The method, or a response's version.
    pub(super) method: Range<usize>,
    pub(super) target: Range<usize>,
    pub(super) host: Option<Range<usize>>,
    pub(super) connection_names: bool,
    kind: Method,
    status: u16,
    old: bool,
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    expect: bool,
    framing: Framing,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            method: 0..0,
            target: 0..0,
            host: None,
            connection_names: false,
            kind: Method::Other,
            status: 0,
            old: false,
            close: false,
            keep_alive: false,
            upgrade: false,
            expect: false,
            framing: Framing::None,
        }
    }
}

/// So many options `Connection` may have: each header is looked for among them.
const OPTIONS: usize = 32;

/// What the headers say together.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    wants_upgrade: bool,
    upgrade_to: bool,
    /// One of several `Upgrade` asks for what is not passed on.
    upgrade_barred: bool,
    /// How many options `Connection` has.
    options: usize,
}

impl Said {
    fn upgrades(&self) -> bool {
        self.wants_upgrade && self.upgrade_to && !self.upgrade_barred
    }
}

impl Head {
    /// Reads a request's head, `bytes` being all of it to the empty line.
    ///
    /// # Errors
    /// It breaks a rule of RFC 9112, or one of this module's. What was read before is lost.
    pub fn request(&mut self, bytes: &[u8], bounds: &Bounds) -> Result<(), Fault> {
        self.clear();
        let mut at = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
        const LINE: &str = "\"METHOD TARGET HTTP/1.1\"";
        let until = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default();
            rest.iter().position(|byte| !(0x21..=0x7e).contains(byte)).map(|n| from + n)
        };
        let method_end = until(at).ok_or(Fault::FirstLine(LINE))?;
        self.method = at..method_end;
        let method = bytes.get(self.method.clone()).unwrap_or_default();
        if !field::is_token(method) || method.len() > 64 || bytes.get(method_end) != Some(&b' ') {
            return Err(Fault::FirstLine(LINE));
        }
        self.kind = Method::of(method);
        at = method_end + 1;
        let target_end = until(at).ok_or(Fault::FirstLine(LINE))?;
        self.target = at..target_end;
        match bytes.get(target_end) {
            _ if self.target.is_empty() => return Err(Fault::FirstLine(LINE)),
            Some(b' ') => {}
            Some(0x80..) => return Err(Fault::Target("has a byte that must be percent-encoded")),
            _ => return Err(Fault::FirstLine(LINE)),
        }
        at = match bytes.get(target_end + 1..).unwrap_or_default() {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b'\r', b'\n', ..] => {
                self.old = *minor == b'0';
                target_end + 1 + 10
            }
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r', b'\n', ..]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Fault::Version);
            }
            _ => return Err(Fault::FirstLine(LINE)),
        };
        let said = self.read_fields(bytes, at, bounds)?;
        if self.host.is_none() && !self.old {
            return Err(Fault::Host("is missing"));
        }
        self.framing = match (said.length, said.chunked) {
            (Some(_), true) => return Err(Fault::Coding("and Content-Length are both there")),
            (None, true) => Framing::Chunked,
            (Some(0) | None, false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
        };
        if self.kind == Method::Connect && self.framing != Framing::None {
            return Err(Fault::Length("or Transfer-Encoding is in a CONNECT"));
        }
        self.upgrade = said.upgrades() && !self.old;
        Ok(())
    }

    /// Reads the head of the response to a request by `method`, `bytes` being all of it to the empty line.
    ///
    /// # Errors
    /// As [`Head::request`].
    pub fn response(&mut self, bytes: &[u8], method: Method, bounds: &Bounds) -> Result<(), Fault> {
        self.clear();
        const LINE: &str = "\"HTTP/1.1 STATUS REASON\"";
        let (status, rest) = match bytes {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ (b'0' | b'1'), b' ', rest @ ..] => {
                self.old = *minor == b'0';
                rest.split_at_checked(3).ok_or(Fault::FirstLine(LINE))?
            }
            [b'H', b'T', b'T', b'P', b'/', _, b'.', _, b' ', ..] => return Err(Fault::Version),
            _ => return Err(Fault::FirstLine(LINE)),
        };
        if !status.iter().all(u8::is_ascii_digit) {
            return Err(Fault::FirstLine(LINE));
        }
        self.status = status.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        if !(100..600).contains(&self.status) {
            return Err(Fault::FirstLine(LINE));
        }
        // The blank before an empty reason is left out by many.
        let reason = match rest {
            [b' ', ..] => rest.iter().position(|byte| !field::text_byte(*byte)).unwrap_or(rest.len()),
            _ => 0,
        };
        if !rest.get(reason..).unwrap_or_default().starts_with(b"\r\n") {
            return Err(Fault::FirstLine(LINE));
        }
        self.method = 0..8;
        self.target = 9..12 + reason;
        let said = self.read_fields(bytes, 12 + reason + 2, bounds)?;
        if said.chunked && said.length.is_some() {
            return Err(Fault::Coding("and Content-Length are both there"));
        }
        let tunnel = self.status == 101 || (method == Method::Connect && self.status / 100 == 2);
        let bodyless = method == Method::Head || matches!(self.status, 100..=199 | 204 | 304);
        self.framing = match (said.length, said.chunked) {
            _ if tunnel || bodyless => Framing::None,
            (None, true) => Framing::Chunked,
            (Some(0), _) => Framing::None,
            (Some(length), _) => Framing::Length(length),
            (None, false) => Framing::Close,
        };
        self.upgrade = tunnel;
        if self.status == 101 && !said.upgrades() {
            return Err(Fault::FirstLine("a 101 with Connection: upgrade and Upgrade"));
        }
        Ok(())
    }

    fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    fn read_fields(&mut self, bytes: &[u8], mut at: usize, bounds: &Bounds) -> Result<Said, Fault> {
        let mut said = Said::default();
        loop {
            match bytes.get(at..).unwrap_or_default() {
                [b'\r', b'\n'] => return self.agreed(said),
                [] | [b'\r', ..] | [b'\n', ..] => return Err(Fault::LineEnd),
                _ => {}
            }
            if self.fields.len() >= bounds.headers {
                return Err(Fault::TooMany(bounds.headers));
            }
            let field = field::line(bytes, at)?;
            at = field.end;
            if field.kind != Kind::Other {
                let value = bytes.get(field.value.0..field.value.1).unwrap_or_default();
                self.note(&field, value, &mut said)?;
            }
            self.fields.push(field);
        }
    }

    fn note(&mut self, field: &Field, value: &[u8], said: &mut Said) -> Result<(), Fault> {
        match field.kind {
            Kind::Host => {
                if self.host.is_some() {
                    return Err(Fault::Host("is there twice"));
                }
                if !value.iter().all(|byte| host_byte(*byte)) {
                    return Err(Fault::Host("has a character that no host has"));
                }
                self.host = Some(field.value.0..field.value.1);
            }
            Kind::Length => {
                if said.length.is_some() {
                    return Err(Fault::Length("is there twice"));
                }
                said.length = Some(length(value)?);
            }
            Kind::Coding => {
                if said.chunked {
                    return Err(Fault::Coding("is there twice"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::UnknownCoding);
                }
                said.chunked = true;
            }
            Kind::Connection => {
                for option in field::list(value) {
                    said.options += 1;
                    if said.options > OPTIONS {
                        return Err(Fault::Connection);
                    }
                    match option {
                        _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
                        _ if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                        _ if option.eq_ignore_ascii_case(b"upgrade") => said.wants_upgrade = true,
                        _ => match Kind::of(option) {
                            Kind::Hop => {}
                            Kind::Other if option.iter().all(|byte| token_byte(*byte)) => {
                                self.connection_names = true;
                            }
                            _ => return Err(Fault::Connection),
                        },
                    }
                }
            }
            // HTTP/2 over an upgraded connection would be a tunnel that nobody reads; it may be declined (RFC 9110, 7.8).
            Kind::Upgrade => {
                said.upgrade_to = true;
                said.upgrade_barred |= field::list(value).any(|name| {
                    name.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"h2c"))
                        || name.get(..3).is_some_and(|name| name.eq_ignore_ascii_case(b"tls"))
                });
            }
            Kind::Expect => self.expect = true,
            Kind::Hop | Kind::Other => {}
        }
        Ok(())
    }

    fn agreed(&self, said: Said) -> Result<Said, Fault> {
        // Who speaks 1.0 may not know of chunks: its framing cannot be trusted (RFC 9112, 6.1).
        if self.old && said.chunked { Err(Fault::Coding("is in a message of HTTP/1.0")) } else { Ok(said) }
    }

    /// The method's promise.
    #[must_use]
    pub fn method(&self) -> Method {
        self.kind
    }

    /// The method's name, of a request.
    #[must_use]
    pub fn method_name<'b>(&self, bytes: &'b [u8]) -> &'b str {
        text(bytes, &self.method)
    }

    /// The target, as it stands.
    #[must_use]
    pub fn target<'b>(&self, bytes: &'b [u8]) -> &'b str {
        text(bytes, &self.target)
    }

    /// The value of `Host`.
    #[must_use]
    pub fn host<'b>(&self, bytes: &'b [u8]) -> Option<&'b str> {
        self.host.as_ref().map(|host| text(bytes, host))
    }

    /// The status, of a response.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether it is of HTTP/1.0.
    #[must_use]
    pub fn is_old(&self) -> bool {
        self.old
    }

    /// Whether its sender goes on with this connection after it.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        !self.close && (!self.old || self.keep_alive)
    }

    /// Whether a request asks for another protocol (and not for HTTP/2 or TLS), or a response begins a tunnel.
    #[must_use]
    pub fn upgrades(&self) -> bool {
        self.upgrade
    }

    /// Whether the sender waits for a 100 before the body.
    #[must_use]
    pub fn expects(&self) -> bool {
        self.expect && !self.old
    }

    /// Where its body ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// How many headers it has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.fields.len()
    }

    /// Names, as they stand, and values.
    pub fn headers<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = (&'b [u8], &'b [u8])> {
        self.fields.iter().map(|field| {
            let part = |from, to| bytes.get(from..to).unwrap_or_default();
            (part(field.start, field.colon), part(field.value.0, field.value.1))
        })
    }
}

fn text<'b>(bytes: &'b [u8], range: &Range<usize>) -> &'b str {
    bytes.get(range.clone()).and_then(|part| str::from_utf8(part).ok()).unwrap_or_default()
}

/// A number of decimal digits and nothing else; no body has 2^63 bytes.
pub(crate) fn length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::Length("is not a number of bytes"));
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Of a name or address and a port, without user and without the comma that some split at.
pub(crate) fn host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'%'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
                | b':'
                | b'['
                | b']'
        )
}
