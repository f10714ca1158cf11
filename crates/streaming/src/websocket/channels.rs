//! Kubernetes' channels: the first byte of each message is the number of the stream it belongs to.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, BytesMut};

use super::frame::{self, Parser, Piece, Side, opcode};
use crate::mux::{Event, Framing, Malformed, Protocol, Reset};
use crate::spdy::Headers;

/// The channel on which version 5 closes others: its message is the number of the one that ends.
const CLOSE: u8 = 255;

/// What a message carries at most.
const LONGEST: usize = 32 * 1024;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Bytes as they are; the channel's number is a byte.
    Binary,
    /// Base64 in text messages; the channel's number is a digit.
    Base64,
}

/// One side of a connection with channels.
pub(crate) struct Channels {
    side: Side,
    parser: Parser,
    encoding: Encoding,
    /// Whether a channel can be closed alone: version 5.
    closes: bool,
    message: Message,
    /// Base64 that is not a whole group yet.
    group: Vec<u8>,
    said_goodbye: bool,
}

/// The message that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// Its channel is not known yet.
    Begins,
    Of(u8),
    /// It closes the channel whose number comes next.
    Closes,
    /// It closed one, and is to have no more bytes.
    Closed,
}

impl Channels {
    pub(crate) fn new(side: Side, encoding: Encoding, closes: bool) -> Channels {
        let parser = Parser::new(side);
        Channels {
            side,
            parser,
            encoding,
            closes,
            message: Message::Begins,
            group: Vec::new(),
            said_goodbye: false,
        }
    }

    /// What a part of a message means.
    fn data<'a>(&mut self, mut bytes: &'a [u8], last: bool) -> Result<Event<'a>, Malformed> {
        if self.message == Message::Begins {
            // An empty message is a sign of life.
            let Some((number, rest)) = bytes.split_first() else { return Ok(Event::Nothing) };
            self.message = match (self.encoding, *number) {
                (Encoding::Binary, CLOSE) if self.closes => Message::Closes,
                (Encoding::Binary, number) => Message::Of(number),
                (Encoding::Base64, number) => Message::Of(number.wrapping_sub(b'0')),
            };
            self.group.clear();
            bytes = rest;
        }
        let message = self.message;
        if last {
            self.message = Message::Begins;
        }
        match message {
            Message::Of(channel) => {
                let stream = u32::from(channel);
                let bytes = match self.encoding {
                    Encoding::Binary => Cow::Borrowed(bytes),
                    Encoding::Base64 => Cow::Owned(self.decode(bytes, last)?),
                };
                Ok(Event::Data { stream, bytes, fin: false })
            }
            Message::Closes => match bytes {
                [] if !last => Ok(Event::Nothing),
                [channel] => {
                    if !last {
                        self.message = Message::Closed;
                    }
                    Ok(Event::Data { stream: u32::from(*channel), bytes: Cow::Borrowed(&[]), fin: true })
                }
                _ => Err(wrong("a message that closes a channel must have its number and no more")),
            },
            Message::Closed if bytes.is_empty() => Ok(Event::Nothing),
            Message::Closed | Message::Begins => {
                Err(wrong("a message that closes a channel must have its number and no more"))
            }
        }
    }

    /// Decodes what makes whole groups of four; the rest waits for more.
    fn decode(&mut self, bytes: &[u8], last: bool) -> Result<Vec<u8>, Malformed> {
        self.group.extend_from_slice(bytes);
        let whole = if last { self.group.len() } else { self.group.len() / 4 * 4 };
        let groups = self.group.get(..whole).unwrap_or_default();
        let decoded = STANDARD.decode(groups).map_err(|_| wrong("it is not base64"))?;
        self.group.drain(..whole);
        Ok(decoded)
    }
}

fn wrong(why: &'static str) -> Malformed {
    Malformed { what: "a WebSocket message", why }
}

impl Protocol for Channels {
    fn begin(&mut self, _: &mut BytesMut) {}

    fn read<'a>(&mut self, bytes: &'a mut [u8], out: &mut BytesMut) -> Result<(usize, Event<'a>), Malformed> {
        let (used, piece) = self.parser.next(bytes)?;
        let event = match piece {
            None | Some(Piece::Pong) => Event::Nothing,
            Some(Piece::Data { bytes, last, .. }) => self.data(bytes, last)?,
            Some(Piece::Ping(payload)) => {
                frame::write(self.side, opcode::PONG, &[&payload], out);
                Event::Nothing
            }
            Some(Piece::Close { .. }) => {
                self.bye(out);
                Event::Bye { orderly: true }
            }
        };
        Ok((used, event))
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn data(&mut self, stream: u32, payload: &[u8], out: &mut BytesMut) -> Framing {
        let channel = u8::try_from(stream).unwrap_or(u8::MAX);
        match (self.encoding, self.side) {
            (Encoding::Binary, Side::Server) => {
                Framing::Plain(frame::header(opcode::BINARY, payload.len() + 1, None).push(&[channel]))
            }
            (Encoding::Binary, Side::Client) => {
                frame::write(self.side, opcode::BINARY, &[&[channel], payload], out);
                Framing::Encoded
            }
            (Encoding::Base64, _) => {
                let encoded = STANDARD.encode(payload);
                frame::write(
                    self.side,
                    opcode::TEXT,
                    &[&[channel.wrapping_add(b'0')], encoded.as_bytes()],
                    out,
                );
                Framing::Encoded
            }
        }
    }

    fn end(&mut self, stream: u32, out: &mut BytesMut) {
        // Only clients say it: kubectl takes a message on channel 255 for one of an unknown stream, and complains.
        if self.closes && self.side == Side::Client {
            let channel = u8::try_from(stream).unwrap_or(u8::MAX);
            frame::write(self.side, opcode::BINARY, &[&[CLOSE, channel]], out);
        }
    }

    fn reset(&mut self, _: u32, _: Reset, _: &mut BytesMut) {}

    fn open(&mut self, _: &Headers, _: &mut BytesMut) -> u32 {
        // Channels are there from the start; nobody opens one.
        u32::MAX
    }

    fn reply(&mut self, _: u32, _: &mut BytesMut) {}

    fn credit(&mut self, _: u32, _: u32, _: &mut BytesMut) {}

    fn ping(&mut self, out: &mut BytesMut) {
        frame::write(self.side, opcode::PING, &[], out);
    }

    /// An answer to no ping (RFC 6455, 5.5.3).
    fn alive(&mut self, out: &mut BytesMut) {
        frame::write(self.side, opcode::PONG, &[], out);
    }

    fn seal(&mut self) {}

    fn bye(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            frame::close(self.side, 1000, "", out);
        }
    }

    fn complain(&mut self, malformed: Malformed, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            frame::close(self.side, 1002, malformed.why, out);
        }
    }
}

impl Channels {
    /// A message that says nothing, on a channel: by it clients know that the connection stands.
    pub(crate) fn greeting(channel: u8, encoding: Encoding, out: &mut BytesMut) {
        match encoding {
            Encoding::Binary => out.put_slice(&[0x82, 1, channel]),
            Encoding::Base64 => out.put_slice(&[0x81, 1, channel.wrapping_add(b'0')]),
        }
    }
}
