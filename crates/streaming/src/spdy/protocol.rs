//! SPDY as a protocol of streams.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::Malformed;
use super::frame::{FIN, Frame, Parser, kind};
use super::headers::Headers;
use super::inflate::Storer;
use crate::mux::{Event, Framing, Header, Protocol, Reset, WINDOW};

/// What the whole connection may be ahead of its reader. Streams have windows of their own, and this one is granted anew
/// as bytes arrive, so it never holds anybody back.
const SESSION_WINDOW: u32 = 1 << 30;

/// What a data frame carries at most: small enough that streams take turns.
const LONGEST: usize = 32 * 1024;

/// One side of a SPDY connection.
pub(crate) struct Spdy {
    parser: Parser,
    storer: Storer,
    client: bool,
    next_stream: u32,
    next_ping: u32,
    last_seen: u32,
    /// Bytes received since the connection's window was last granted anew.
    received: u32,
}

impl Spdy {
    /// The side that opens streams.
    pub(crate) fn client() -> Spdy {
        let mut parser = Parser::new();
        // Nobody opens streams towards it, and replies' headers say nothing.
        parser.seal();
        Spdy::new(parser, true)
    }

    /// The side that takes them.
    pub(crate) fn server() -> Spdy {
        Spdy::new(Parser::new(), false)
    }

    fn new(parser: Parser, client: bool) -> Spdy {
        let first = if client { 1 } else { 2 };
        Spdy {
            parser,
            storer: Storer::default(),
            client,
            next_stream: first,
            next_ping: first,
            last_seen: 0,
            received: 0,
        }
    }

    /// The window of the connection is granted anew in large steps.
    fn count(&mut self, length: usize, out: &mut BytesMut) {
        self.received = self.received.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        if self.received >= SESSION_WINDOW / 2 {
            let received = std::mem::take(&mut self.received);
            self.credit(0, received, out);
        }
    }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8003);
    out.put_u16(kind);
    let length = u32::try_from(length).unwrap_or_default();
    out.put_u32(u32::from(flags) << 24 | length & 0x00ff_ffff);
}

impl Protocol for Spdy {
    fn begin(&mut self, out: &mut BytesMut) {
        control(out, kind::SETTINGS, 0, 12);
        out.put_u32(1);
        out.put_u32(7);
        out.put_u32(u32::try_from(WINDOW).unwrap_or(u32::MAX));
        self.credit(0, SESSION_WINDOW, out);
    }

    fn read<'a>(&mut self, bytes: &'a mut [u8], out: &mut BytesMut) -> Result<(usize, Event<'a>), Malformed> {
        let mut rest: &'a [u8] = bytes;
        let before = rest.len();
        let frame = self.parser.next(&mut rest)?;
        let used = before - rest.len();
        let event = match frame {
            None
            | Some(
                Frame::Unknown | Frame::Headers { fin: false, .. } | Frame::Settings { initial_window: None },
            ) => Event::Nothing,
            Some(Frame::SynStream { stream, fin, headers }) => {
                if self.client || stream % 2 == 0 {
                    return Err(Malformed {
                        what: "SYN_STREAM",
                        why: "the stream's number is not one of a client's",
                    });
                }
                self.last_seen = stream;
                Event::Open { stream, headers, fin }
            }
            Some(Frame::SynReply { stream, fin }) => Event::Reply { stream, fin },
            Some(Frame::RstStream { stream, .. }) => Event::Reset { stream },
            Some(Frame::Headers { stream, fin: true }) => {
                Event::Data { stream, bytes: Cow::Borrowed(&[]), fin: true }
            }
            Some(Frame::Settings { initial_window: Some(initial) }) => Event::Window { initial },
            Some(Frame::Ping { id }) => {
                if (id % 2 == 1) != self.client {
                    control(out, kind::PING, 0, 4);
                    out.put_u32(id);
                }
                Event::Nothing
            }
            Some(Frame::GoAway) => Event::Bye { orderly: false },
            Some(Frame::WindowUpdate { stream, bytes }) => Event::Credit { stream, bytes },
            Some(Frame::Data { stream, .. }) if !self.client && stream > self.last_seen => {
                return Err(Malformed { what: "a SPDY data frame", why: "its stream was never opened" });
            }
            Some(Frame::Data { stream, bytes, fin }) => {
                self.count(bytes.len(), out);
                Event::Data { stream, bytes: Cow::Borrowed(bytes), fin }
            }
        };
        Ok((used, event))
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn data(&mut self, stream: u32, payload: &[u8], _out: &mut BytesMut) -> Framing {
        let length = u32::try_from(payload.len()).unwrap_or_default();
        Framing::Plain(Header::EMPTY.push(&stream.to_be_bytes()).push(&length.to_be_bytes()))
    }

    fn end(&mut self, stream: u32, out: &mut BytesMut) {
        out.put_u32(stream);
        out.put_u32(u32::from(FIN) << 24);
    }

    fn reset(&mut self, stream: u32, why: Reset, out: &mut BytesMut) {
        control(out, kind::RST_STREAM, 0, 8);
        out.put_u32(stream);
        out.put_u32(match why {
            Reset::ProtocolError => 1,
            Reset::Refused => 3,
            Reset::Cancel => 5,
            Reset::FlowControl => 7,
        });
    }

    fn open(&mut self, headers: &Headers, out: &mut BytesMut) -> u32 {
        let stream = self.next_stream;
        self.next_stream = self.next_stream.saturating_add(2);
        let block = self.storer.block(&headers.block());
        control(out, kind::SYN_STREAM, 0, 10 + block.len());
        out.put_u32(stream);
        out.put_u32(0);
        out.put_u16(0);
        out.put_slice(&block);
        stream
    }

    fn reply(&mut self, stream: u32, out: &mut BytesMut) {
        let block = self.storer.block(&Headers::default().block());
        control(out, kind::SYN_REPLY, 0, 4 + block.len());
        out.put_u32(stream);
        out.put_slice(&block);
    }

    fn credit(&mut self, stream: u32, bytes: u32, out: &mut BytesMut) {
        control(out, kind::WINDOW_UPDATE, 0, 8);
        out.put_u32(stream);
        out.put_u32(bytes);
    }

    fn ping(&mut self, out: &mut BytesMut) {
        control(out, kind::PING, 0, 4);
        out.put_u32(self.next_ping);
        self.next_ping = self.next_ping.checked_add(2).unwrap_or(self.next_ping % 2 + 2);
    }

    /// Its pings have numbers, and only one that was sent can be answered; no client gives up for want of an answer.
    fn alive(&mut self, _: &mut BytesMut) {}

    fn seal(&mut self) {
        self.parser.seal();
    }

    fn bye(&mut self, out: &mut BytesMut) {
        control(out, kind::GOAWAY, 0, 8);
        out.put_u32(self.last_seen);
        out.put_u32(0);
    }

    fn complain(&mut self, _: Malformed, out: &mut BytesMut) {
        control(out, kind::GOAWAY, 0, 8);
        out.put_u32(self.last_seen);
        out.put_u32(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What one side says.
    #[derive(Debug, Clone)]
    enum Say {
        Open(Vec<(String, String)>),
        Data(u32, Vec<u8>),
        End(u32),
        Reset(u32),
        Credit(u32, u32),
        Ping,
    }

    fn say() -> impl Strategy<Value = Say> {
        let stream = 1_u32..20;
        prop_oneof![
            proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,40}"), 0..4).prop_map(Say::Open),
            (stream.clone(), proptest::collection::vec(any::<u8>(), 1..3000))
                .prop_map(|(id, bytes)| Say::Data(id, bytes)),
            stream.clone().prop_map(Say::End),
            stream.clone().prop_map(Say::Reset),
            (stream, 1_u32..1000).prop_map(|(id, bytes)| Say::Credit(id, bytes)),
            Just(Say::Ping),
        ]
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(says in proptest::collection::vec(say(), 0..20), piece in 1_usize..5000) {
            let (mut client, mut out) = (Spdy::client(), BytesMut::new());
            let mut expected = Heard::default();
            for say in says {
                match say {
                    Say::Open(mut pairs) => {
                        pairs.sort();
                        pairs.dedup_by(|a, b| a.0 == b.0);
                        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                        let headers = Headers::new(&pairs);
                        let stream = client.open(&headers, &mut out);
                        expected.push(format!("open {stream} {headers:?}"));
                    }
                    Say::Data(stream, bytes) => {
                        let Framing::Plain(header) = client.data(stream, &bytes, &mut out) else { unreachable!() };
                        out.put_slice(header.as_slice());
                        out.put_slice(&bytes);
                        expected.data(stream, &bytes);
                    }
                    Say::End(stream) => {
                        client.end(stream, &mut out);
                        expected.push(format!("end {stream}"));
                    }
                    Say::Reset(stream) => {
                        client.reset(stream, Reset::Cancel, &mut out);
                        expected.push(format!("reset {stream} 5"));
                    }
                    Say::Credit(stream, bytes) => {
                        client.credit(stream, bytes, &mut out);
                        expected.push(format!("credit {stream} {bytes}"));
                    }
                    Say::Ping => {
                        client.ping(&mut out);
                        expected.push("ping".to_owned());
                    }
                }
            }
            prop_assert_eq!(hear(&out, piece), expected);
        }
    }

    /// What was said or heard: pieces of a stream that follow each other are one.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Heard(Vec<(String, Vec<u8>)>);

    impl Heard {
        fn push(&mut self, what: String) {
            self.0.push((what, Vec::new()));
        }

        fn data(&mut self, stream: u32, bytes: &[u8]) {
            let what = format!("data {stream}");
            match self.0.last_mut() {
                Some((last, so_far)) if *last == what => so_far.extend(bytes),
                _ => self.0.push((what, bytes.to_vec())),
            }
        }
    }

    /// What a parser makes of bytes that come in pieces.
    fn hear(bytes: &[u8], piece: usize) -> Heard {
        let (mut parser, mut heard) = (Parser::new(), Heard::default());
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                match parser.next(&mut piece).expect("frames") {
                    None => {}
                    Some(Frame::Data { stream, bytes: [], fin: true }) => heard.push(format!("end {stream}")),
                    Some(Frame::Data { stream, bytes, .. }) => heard.data(stream, bytes),
                    Some(Frame::SynStream { stream, headers, .. }) => {
                        heard.push(format!("open {stream} {:?}", headers.expect("read")));
                    }
                    Some(Frame::RstStream { stream, status }) => {
                        heard.push(format!("reset {stream} {status}"))
                    }
                    Some(Frame::WindowUpdate { stream, bytes }) => {
                        heard.push(format!("credit {stream} {bytes}"))
                    }
                    Some(Frame::Ping { .. }) => heard.push("ping".to_owned()),
                    Some(other) => panic!("nobody said {other:?}"),
                }
            }
        }
        heard
    }
}
