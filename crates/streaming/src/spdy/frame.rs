//! Frames, read as they arrive.

use super::Malformed;
use super::headers::Headers;
use super::inflate::Inflater;

/// What a control frame may have after its header. Kubernetes' own have under 200 bytes.
const CONTROL_MAX: usize = 16 * 1024;

/// The bit that makes a frame a control frame.
const CONTROL: u8 = 0x80;

/// This side of the stream sends nothing more.
pub(super) const FIN: u8 = 0x01;

pub(super) mod kind {
    //! Types of control frames.
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const SETTINGS: u16 = 4;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GOAWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
    pub(crate) const WINDOW_UPDATE: u16 = 9;
}

/// A frame, or a piece of a data frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A stream is opened.
    SynStream {
        /// Its number: odd from a client, even from a server, always growing.
        stream: u32,
        /// The opener will send nothing.
        fin: bool,
        /// `None` once [`Parser::seal`] was called.
        headers: Option<Headers>,
    },
    /// A stream is taken. Its headers say nothing in Kubernetes and are not read.
    SynReply {
        /// Which.
        stream: u32,
        /// The taker will send nothing.
        fin: bool,
    },
    /// A stream is cut off.
    RstStream {
        /// Which.
        stream: u32,
        /// Why (section 2.6.3).
        status: u32,
    },
    /// The peer's preferences (section 2.6.4). Only the initial window of streams matters here.
    Settings {
        /// The initial window, if it is among them.
        initial_window: Option<u32>,
    },
    /// To be sent back if it is the peer's own.
    Ping {
        /// Odd from a client, even from a server.
        id: u32,
    },
    /// The peer takes no more streams.
    GoAway,
    /// More headers for a stream; they say nothing in Kubernetes and are not read.
    Headers {
        /// Which.
        stream: u32,
        /// Nothing more comes.
        fin: bool,
    },
    /// More may be sent.
    WindowUpdate {
        /// On which stream; 0 for the connection.
        stream: u32,
        /// How much more.
        bytes: u32,
    },
    /// Bytes of a stream, as they came: a data frame can be many of these.
    Data {
        /// Which.
        stream: u32,
        /// The bytes; none for a frame that only ends the stream.
        bytes: &'a [u8],
        /// Nothing more comes.
        fin: bool,
    },
    /// A control frame of a type that is not known, which is skipped as the protocol demands.
    Unknown,
}

/// Reads frames from bytes that arrive in pieces. No more is kept of them than a control frame.
pub struct Parser {
    header: [u8; 8],
    have: usize,
    body: Body,
    inflater: Option<Inflater>,
    /// The highest number of a stream that the peer opened.
    last_opened: u32,
}

enum Body {
    /// The header is not whole yet.
    None,
    Control {
        kind: u16,
        flags: u8,
        left: usize,
        bytes: Vec<u8>,
    },
    Data {
        stream: u32,
        fin: bool,
        left: usize,
    },
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

impl Parser {
    /// One that has read nothing yet.
    #[must_use]
    pub fn new() -> Parser {
        Parser { header: [0; 8], have: 0, body: Body::None, inflater: Some(Inflater::new()), last_opened: 0 }
    }

    /// Reads no more headers: what is needed for that is let go.
    pub fn seal(&mut self) {
        self.inflater = None;
    }

    /// Reads from the front of `input`. `None` means that all of it was used and no frame is whole.
    ///
    /// # Errors
    /// The bytes are no SPDY/3.1; nothing that follows can be read.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, Malformed> {
        if matches!(self.body, Body::None) {
            let missing = self.header.len() - self.have;
            let (part, rest) = input.split_at(missing.min(input.len()));
            if let Some(place) = self.header.get_mut(self.have..self.have + part.len()) {
                place.copy_from_slice(part);
            }
            self.have += part.len();
            *input = rest;
            if self.have < self.header.len() {
                return Ok(None);
            }
            self.have = 0;
            self.body = body(self.header)?;
        }
        match &mut self.body {
            Body::None => Ok(None),
            Body::Data { stream, fin, left } => {
                let stream = *stream;
                let (bytes, rest) = input.split_at((*left).min(input.len()));
                *left -= bytes.len();
                *input = rest;
                let whole = *left == 0;
                let fin = *fin && whole;
                if whole {
                    self.body = Body::None;
                }
                Ok((whole || !bytes.is_empty()).then_some(Frame::Data { stream, bytes, fin }))
            }
            Body::Control { kind, flags, left, bytes } => {
                let (part, rest) = input.split_at((*left).min(input.len()));
                bytes.extend_from_slice(part);
                *left -= part.len();
                *input = rest;
                if *left > 0 {
                    return Ok(None);
                }
                let (kind, flags, bytes) = (*kind, *flags, std::mem::take(bytes));
                self.body = Body::None;
                self.control(kind, flags, &bytes).map(Some)
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, body: &[u8]) -> Result<Frame<'static>, Malformed> {
        let fin = flags & FIN != 0;
        match kind {
            kind::SYN_STREAM => {
                let (stream, rest) = stream(body, "SYN_STREAM")?;
                // Ids grow, so that a stream is never two (section 2.3.2).
                if stream <= self.last_opened {
                    return Err(Malformed {
                        what: "SYN_STREAM",
                        why: "its stream's number is not above the last",
                    });
                }
                self.last_opened = stream;
                // The stream it belongs to, its priority and its slot: nothing that matters here.
                let block = rest.get(6..).ok_or(Malformed { what: "SYN_STREAM", why: "it is too short" })?;
                let headers = self
                    .inflater
                    .as_mut()
                    .map(|inflater| Headers::parse(&inflater.block(block)?))
                    .transpose()?;
                Ok(Frame::SynStream { stream, fin, headers })
            }
            kind::SYN_REPLY => Ok(Frame::SynReply { stream: stream(body, "SYN_REPLY")?.0, fin }),
            kind::HEADERS => {
                let (stream, block) = stream(body, "HEADERS")?;
                // The compression goes on over all blocks, so this one is inflated though nobody wants it.
                self.inflater.as_mut().map(|inflater| inflater.block(block)).transpose()?;
                Ok(Frame::Headers { stream, fin })
            }
            kind::RST_STREAM => {
                let (stream, status) = stream(body, "RST_STREAM")?;
                Ok(Frame::RstStream { stream, status: word(status, "RST_STREAM")? })
            }
            kind::SETTINGS => settings(body),
            kind::PING => Ok(Frame::Ping { id: word(body, "PING")? }),
            kind::GOAWAY if body.len() == 8 => Ok(Frame::GoAway),
            kind::GOAWAY => Err(Malformed { what: "GOAWAY", why: "it has not 8 bytes" }),
            kind::WINDOW_UPDATE => {
                let (first, rest) = body.split_at_checked(4).unwrap_or_default();
                let (stream, bytes) = (word(first, "WINDOW_UPDATE")?, word(rest, "WINDOW_UPDATE")?);
                if bytes == 0 {
                    return Err(Malformed { what: "WINDOW_UPDATE", why: "it grants nothing" });
                }
                Ok(Frame::WindowUpdate { stream: stream & 0x7fff_ffff, bytes: bytes & 0x7fff_ffff })
            }
            _ => Ok(Frame::Unknown),
        }
    }
}

/// What a frame's header says of what follows.
fn body(header: [u8; 8]) -> Result<Body, Malformed> {
    let [a, b, c, d, flags, x, y, z] = header;
    let left = u32::from_be_bytes([0, x, y, z]) as usize;
    if a & CONTROL == 0 {
        let stream = u32::from_be_bytes([a, b, c, d]);
        if stream == 0 {
            return Err(Malformed { what: "a SPDY data frame", why: "it belongs to stream 0" });
        }
        return Ok(Body::Data { stream, fin: flags & FIN != 0, left });
    }
    if (a & !CONTROL, b) != (0, 3) {
        return Err(Malformed { what: "a SPDY control frame", why: "it is not of version 3" });
    }
    if left > CONTROL_MAX {
        return Err(Malformed { what: "a SPDY control frame", why: "it has more than 16 KiB" });
    }
    Ok(Body::Control { kind: u16::from_be_bytes([c, d]), flags, left, bytes: Vec::new() })
}

/// The stream's number in front, and what follows.
fn stream<'a>(body: &'a [u8], what: &'static str) -> Result<(u32, &'a [u8]), Malformed> {
    let (number, rest) = body.split_first_chunk::<4>().ok_or(Malformed { what, why: "it is too short" })?;
    match u32::from_be_bytes(*number) & 0x7fff_ffff {
        0 => Err(Malformed { what, why: "it is about stream 0" }),
        number => Ok((number, rest)),
    }
}

/// A body of one number.
fn word(body: &[u8], what: &'static str) -> Result<u32, Malformed> {
    let word = body.try_into().map_err(|_| Malformed { what, why: "it has not the length it must have" })?;
    Ok(u32::from_be_bytes(word))
}

fn settings(body: &[u8]) -> Result<Frame<'static>, Malformed> {
    const INITIAL_WINDOW_SIZE: u32 = 7;
    let wrong = Malformed { what: "SETTINGS", why: "its length does not fit its count" };
    let (count, entries) = body.split_first_chunk::<4>().ok_or(wrong)?;
    let (pairs, rest) = entries.as_chunks::<8>();
    if !rest.is_empty() || pairs.len() != u32::from_be_bytes(*count) as usize {
        return Err(wrong);
    }
    let window =
        pairs.iter().find(|[_, a, b, c, ..]| u32::from_be_bytes([0, *a, *b, *c]) == INITIAL_WINDOW_SIZE);
    Ok(Frame::Settings {
        initial_window: window.map(|[.., a, b, c, d]| u32::from_be_bytes([*a, *b, *c, *d]) & 0x7fff_ffff),
    })
}
