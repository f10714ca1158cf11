//! Both sides with each other, and with what they may not be sent.

use std::time::Instant;

use super::*;
use crate::h2::Field;
use crate::h2::frame::{LARGEST, PAYLOAD};

pub(super) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "web")];
pub(super) const POST: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/a")];
const OK: [(&str, &str); 1] = [(":status", "200")];

pub(super) fn fields<'a>(pairs: &'a [(&str, &str)]) -> impl Iterator<Item = Field<'a>> + Clone {
    pairs.iter().map(|(name, value)| Field::new(*name, *value))
}

/// What is told, in words: the last header of a head for all of it.
fn told(event: Event<'_>, fields: &Fields) -> String {
    let last = || {
        let field = fields.iter().last().map(|field| (field.name.to_vec(), field.value.to_vec()));
        let (name, value) = field.unwrap_or_default();
        format!("{}={}", String::from_utf8_lossy(&name), String::from_utf8_lossy(&value))
    };
    match event {
        Event::Head { stream, end } => format!("head {stream} {}{}", last(), if end { " end" } else { "" }),
        Event::Trailers { stream } => format!("trailers {stream} {}", last()),
        Event::Informational { stream } => format!("informational {stream} {}", last()),
        Event::Data { stream, bytes, end } if bytes.len() < 20 => {
            format!("data {stream} {}{}", String::from_utf8_lossy(bytes), if end { " end" } else { "" })
        }
        Event::Data { stream, bytes, end } => {
            format!("data {stream} of {}{}", bytes.len(), if end { " end" } else { "" })
        }
        Event::Reset { stream, code, why } => {
            format!("reset {stream} {code}{}", why.map(|why| format!(": {why}")).unwrap_or_default())
        }
        Event::TooLarge { stream } => format!("too large {stream}"),
        Event::Window { stream } => format!("window {stream}"),
        Event::GoAway { last, code } => format!("go away {last} {code}"),
        Event::Pong(data) => format!("pong {}", String::from_utf8_lossy(&data)),
    }
}

/// Gives one side bytes, all of which it must take.
pub(super) fn feed(side: &mut Connection, now: Instant, bytes: &[u8]) -> Result<Vec<String>, Failure> {
    let (mut rest, mut all) = (bytes, Vec::new());
    loop {
        let (used, event) = side.receive(now, rest)?;
        let text = event.map(|event| told(event, side.fields()));
        all.extend(text);
        if used == 0 {
            assert!(rest.is_empty(), "{} bytes are no frame", rest.len());
            return Ok(all);
        }
        rest = &rest[used..];
    }
}

/// Takes what a side has to send.
pub(super) fn taken(side: &mut Connection) -> Vec<u8> {
    let bytes = side.output().to_vec();
    side.sent(bytes.len());
    bytes
}

struct Pair {
    client: Connection,
    server: Connection,
    now: Instant,
}

impl Pair {
    fn new(limits: Limits) -> Self {
        let client = Connection::new(Side::Client, Limits::default());
        let server = Connection::new(Side::Server, limits);
        let mut pair = Self { client, server, now: Instant::now() };
        assert_eq!(pair.server_hears(), ["window 0", "window 0"]);
        pair.client_hears();
        pair.server_hears();
        assert!(pair.client.is_settled() && pair.server.is_settled());
        pair
    }

    fn server_hears(&mut self) -> Vec<String> {
        let bytes = taken(&mut self.client);
        feed(&mut self.server, self.now, &bytes).unwrap()
    }

    fn client_hears(&mut self) -> Vec<String> {
        let bytes = taken(&mut self.server);
        feed(&mut self.client, self.now, &bytes).unwrap()
    }

    fn ask(&mut self, head: &[(&str, &str)], end: bool) -> u32 {
        let stream = self.client.open(fields(head), end).unwrap();
        assert!(self.server_hears()[0].starts_with(&format!("head {stream}")));
        stream
    }
}

#[test]
fn a_request_is_answered() {
    let mut pair = Pair::new(Limits::default());
    assert_eq!(pair.client.open(fields(&GET), true), Ok(1));
    assert_eq!(pair.server_hears(), ["head 1 :authority=web end"]);
    pair.server.respond(1, fields(&[(":status", "103"), ("link", "a")]), false).unwrap();
    pair.server.respond(1, fields(&[(":status", "200"), ("content-length", "5")]), false).unwrap();
    assert_eq!(pair.server.data(1, b"hello", true), Ok(5));
    assert_eq!(pair.server.data(1, b"more", true), Err(Gone));
    assert_eq!(
        pair.client_hears(),
        ["informational 1 link=a", "head 1 content-length=5", "data 1 hello end"]
    );
    pair.client.release(1);
    pair.server.release(1);
    assert_eq!((pair.client.streams(), pair.server.streams()), (0, 0));
    assert!(pair.client.output().is_empty() && pair.server.output().is_empty());
}

#[test]
fn trailers_pass_both_ways() {
    let mut pair = Pair::new(Limits::default());
    let stream = pair.ask(&POST, false);
    pair.client.data(stream, b"body", false).unwrap();
    pair.client.trailers(stream, fields(&[("checksum", "7")])).unwrap();
    assert_eq!(pair.server_hears(), ["data 1 body", "trailers 1 checksum=7"]);
    pair.server.respond(stream, fields(&OK), false).unwrap();
    pair.server.trailers(stream, fields(&[("grpc-status", "0")])).unwrap();
    assert_eq!(pair.client_hears(), ["head 1 :status=200", "trailers 1 grpc-status=0"]);
    // And an answer of nothing but a head.
    let stream = pair.ask(&GET, true);
    pair.server.respond(stream, fields(&[(":status", "200"), ("grpc-status", "5")]), true).unwrap();
    assert_eq!(pair.client_hears(), ["head 3 grpc-status=5 end"]);
}

#[test]
fn no_more_is_sent_than_windows_let() {
    let mut pair = Pair::new(Limits { window: 10, ..Limits::default() });
    let (one, other) = (pair.ask(&POST, false), pair.ask(&POST, false));
    assert_eq!(pair.client.data(one, &[b'a'; 25], true), Ok(10));
    assert_eq!(pair.client.data(one, &[b'a'; 15], true), Ok(0));
    assert_eq!(pair.client.data(other, b"other", true), Ok(5));
    assert_eq!(pair.server_hears(), ["data 1 aaaaaaaaaa", "data 3 other end"]);
    // A little is not told, half is.
    pair.server.consumed(one, 4);
    assert!(pair.server.output().is_empty());
    pair.server.consumed(one, 1);
    assert_eq!(pair.client_hears(), ["window 1", "window 0"]);
    assert_eq!(pair.client.room(one), 5);
    assert_eq!(pair.client.data(one, &[b'a'; 15], true), Ok(5));
    // More than was there is not given back.
    pair.server.consumed(one, 1000);
    pair.server_hears();
    pair.server.consumed(one, 1000);
    pair.client_hears();
    assert_eq!(pair.client.room(one), 10);
    assert_eq!(pair.client.data(one, &[b'a'; 10], true), Ok(10));
    assert_eq!(pair.server_hears(), ["data 1 aaaaaaaaaa end"]);
}

#[test]
fn what_goes_past_the_output_counts_like_what_waits_in_it() {
    let mut pair = Pair::new(Limits { window: 1000, ..Limits::default() });
    let stream = pair.ask(&POST, false);
    assert_eq!(pair.client.window(stream), Ok(1000));
    let mut frame = write::data_head(stream, 400).to_vec();
    frame.resize(frame.len() + 400, b'x');
    pair.client.passed(stream, 400);
    assert_eq!(feed(&mut pair.server, pair.now, &frame).unwrap(), ["data 1 of 400"]);
    assert_eq!(pair.client.window(stream), Ok(600));
    assert_eq!(pair.client.data(stream, &[b'x'; 1000], true), Ok(600));
    assert_eq!(pair.client.window(stream), Ok(0));
    pair.client.reset(stream, Code::CANCEL);
    assert_eq!(pair.client.window(stream), Err(Gone));
}

#[test]
fn a_stream_that_rests_holds_the_window_of_all_until_it_is_released() {
    let all = 70_000;
    let mut pair = Pair::new(Limits { window: 1 << 20, all, ..Limits::default() });
    let stream = pair.ask(&POST, false);
    let body = vec![b'x'; all as usize + 1];
    let mut sent = 0;
    while let Ok(count @ 1..) = pair.client.data(stream, &body[sent..], true) {
        sent += count;
        pair.server_hears();
    }
    assert_eq!((sent, pair.client.room(stream)), (all as usize, 0));
    let other = pair.ask(&POST, false);
    assert_eq!(pair.client.data(other, b"x", true), Ok(0));
    pair.server.release(stream);
    assert_eq!(pair.client_hears(), ["reset 1 CANCEL", "window 0"]);
    assert_eq!(pair.client.data(other, b"x", true), Ok(1));
    assert_eq!(pair.client.data(stream, b"x", true), Err(Gone));
}

#[test]
fn streams_that_rest_leave_room_for_the_others() {
    let mut pair = Pair::new(Limits::default());
    let Limits { streams, window, .. } = pair.server.limits;
    let body = vec![b'x'; window as usize];
    // All but one have as much on their way as they may, of which nobody takes anything.
    for _ in 1..streams {
        let stream = pair.ask(&POST, false);
        let mut sent = 0;
        while let Ok(count @ 1..) = pair.client.data(stream, &body[sent..], false) {
            sent += count;
            pair.server_hears();
        }
        assert_eq!(sent, body.len());
    }
    let last = pair.ask(&POST, false);
    let mut sent = 0;
    while sent < 10 * body.len() {
        let count = pair.client.data(last, &body, false).unwrap();
        assert!(count > 0, "no more than {sent} bytes pass");
        sent += count;
        pair.server_hears();
        pair.server.consumed(last, count as u32);
        pair.client_hears();
    }
}

#[test]
fn long_bodies_are_cut_and_the_queue_is_bounded() {
    let limits = Limits { window: 1 << 20, all: 1 << 20, queue: 40_000, ..Limits::default() };
    let mut pair = Pair::new(limits);
    pair.client.limits.queue = 40_000;
    let stream = pair.ask(&POST, false);
    let body = vec![b'x'; 100_000];
    let first = pair.client.data(stream, &body, true).unwrap();
    assert_eq!(first, 40_000);
    assert_eq!(pair.client.data(stream, &body, true), Ok(0), "it waits until something is sent");
    assert_eq!(pair.server_hears(), ["data 1 of 16384", "data 1 of 16384", "data 1 of 7232"]);
    assert!(pair.client.data(stream, &body[first..], true).unwrap() > 0);
}

#[test]
fn heads_that_nobody_takes_are_told() {
    let mut pair = Pair::new(Limits::default());
    let long = "x".repeat(2000);
    let head = [(":status", "200"), ("x", &*long)];
    let most = 2 * pair.server.limits.queue;
    let stream = pair.ask(&GET, true);
    // An answer of 1xx is bounded by nothing else.
    let informational = [(":status", "103"), ("x", &*long)];
    while !pair.server.is_full() {
        assert!(pair.server.output().len() < most);
        // Too large for a table, so that each takes its bytes.
        pair.server.encoder.allow(0);
        pair.server.respond(stream, fields(&informational), false).unwrap();
    }
    pair.server.sent(most / 2);
    assert!(!pair.server.is_full());
    pair.server.respond(stream, fields(&head), true).unwrap();
    // A client opens nothing behind so much.
    while !pair.client.is_full() {
        pair.client.ping([0; 8]);
    }
    assert_eq!(pair.client.open(fields(&GET), true), Err(Refused::Full));
    taken(&mut pair.client);
    assert!(pair.client.open(fields(&GET), true).is_ok());
}

#[test]
fn windows_of_open_streams_follow_the_settings() {
    let mut pair = Pair::new(Limits::default());
    let stream = pair.ask(&POST, false);
    pair.client.data(stream, &[b'x'; 1000], false).unwrap();
    pair.server_hears();
    let room = pair.client.room(stream);
    let mut settings = Vec::new();
    write::settings(&mut settings, &[(id::WINDOW, 100), (id::STREAMS, 1)]);
    assert_eq!(feed(&mut pair.client, pair.now, &settings), Ok(vec!["window 0".into()]));
    // It was 64 KiB, of which 1000 bytes are sent: less than nothing is left.
    assert_eq!((room, pair.client.room(stream)), ((64 << 10) - 1000, 0));
    assert_eq!(pair.client.open(fields(&GET), true), Err(Refused::Full));
    let mut settings = Vec::new();
    write::settings(&mut settings, &[(id::WINDOW, 1500), (id::STREAMS, 2)]);
    feed(&mut pair.client, pair.now, &settings).unwrap();
    assert_eq!(pair.client.room(stream), 500);
    assert_eq!(pair.client.open(fields(&GET), true), Ok(3));
}

#[test]
fn who_has_no_stream_and_nothing_to_send_holds_no_buffer() {
    let mut pair = Pair::new(Limits::default());
    let stream = pair.ask(&GET, true);
    pair.server.respond(stream, fields(&OK), true).unwrap();
    assert_eq!(pair.client_hears(), [format!("head {stream} :status=200 end")]);
    // All of it was sent before the stream was released.
    for side in [&mut pair.client, &mut pair.server] {
        assert!(side.output().is_empty() && side.out.capacity() > 0 && side.coded.capacity() > 0);
        side.release(stream);
        assert!(side.output().is_empty());
        assert_eq!((side.out.capacity(), side.coded.capacity(), side.block.capacity()), (0, 0, 0));
    }
    assert!(pair.client.fields().get(b":status").is_none());
}

#[test]
fn a_stream_ends_alone() {
    let mut pair = Pair::new(Limits::default());
    let (one, other) = (pair.ask(&POST, false), pair.ask(&POST, false));
    pair.client.reset(one, Code::CANCEL);
    assert_eq!(pair.server_hears(), ["reset 1 CANCEL"]);
    assert_eq!(pair.server.respond(one, fields(&OK), true), Err(Gone));
    // It is there until it is released.
    assert_eq!(pair.server.streams(), 2);
    pair.server.release(one);
    assert_eq!(pair.server.streams(), 1);
    // An answer that does not wait for the rest of its request: the client need not send it.
    pair.server.respond(other, fields(&OK), true).unwrap();
    pair.server.release(other);
    assert_eq!(pair.client_hears(), ["head 3 :status=200 end", "reset 3 NO_ERROR"]);
    // What was on its way meanwhile is let pass, and its window given back.
    let mut late = Vec::new();
    write::data(&mut late, other, b"late", true);
    assert_eq!(feed(&mut pair.server, pair.now, &late), Ok(vec![]));
    assert_eq!(pair.server.owed, 4);
}

#[test]
fn a_server_leaves_in_two_steps() {
    let mut pair = Pair::new(Limits::default());
    let one = pair.ask(&GET, true);
    pair.server.leave(false);
    assert!(pair.server.is_leaving() && !pair.server.has_left());
    // This one was on its way.
    let other = pair.client.open(fields(&GET), true).unwrap();
    assert_eq!(pair.server_hears(), ["head 3 :authority=web end"]);
    assert_eq!(pair.client_hears(), [format!("go away {LARGEST} NO_ERROR")]);
    assert_eq!(pair.client.open(fields(&GET), true), Err(Refused::Leaving));
    pair.server.leave(true);
    pair.server.leave(true);
    assert_eq!(pair.client_hears(), ["go away 3 NO_ERROR"]);
    for stream in [one, other] {
        pair.server.respond(stream, fields(&OK), true).unwrap();
        pair.server.release(stream);
    }
    assert_eq!(pair.client_hears(), ["head 1 :status=200 end", "head 3 :status=200 end"]);
    // Who does not listen is not answered.
    let mut late = Vec::new();
    write::headers(&mut late, 5, &[0x82, 0x86, 0x84], true, PAYLOAD);
    assert_eq!(feed(&mut pair.server, pair.now, &late), Ok(vec![]));
    assert!(pair.server.output().is_empty() && pair.server.has_left());
    // Nor is it read for ever.
    let read = |n: &u32| {
        let mut late = Vec::new();
        write::headers(&mut late, 2 * n + 7, &[0x82, 0x86, 0x84], true, PAYLOAD);
        feed(&mut pair.server, pair.now, &late).is_ok()
    };
    let count = (0..3000).take_while(read).count();
    assert!((500..2000).contains(&count), "{count}");
}

#[test]
fn who_parts_for_good_says_so() {
    for parts in [true, false] {
        let mut pair = Pair::new(Limits::default());
        match parts {
            true => pair.server.part(),
            false => pair.server.leave(true),
        }
        assert_eq!(pair.client_hears(), ["go away 0 NO_ERROR"]);
        assert!(pair.client.is_leaving());
        assert_eq!(pair.client.has_parted(), parts);
    }
}

#[test]
fn a_sign_of_life_comes_back() {
    let mut pair = Pair::new(Limits::default());
    pair.client.ping(*b"are you?");
    assert_eq!(pair.server_hears(), [""; 0]);
    assert_eq!(pair.client_hears(), ["pong are you?"]);
}

#[test]
fn a_head_that_is_too_large_can_be_answered() {
    let mut pair = Pair::new(Limits { fields: Bounds { size: 1000, count: 20 }, ..Limits::default() });
    let long = "x".repeat(2000);
    let mut head = GET.to_vec();
    head.push(("long", &long));
    let stream = pair.client.open(fields(&head), true).unwrap();
    assert_eq!(pair.server_hears(), [format!("too large {stream}")]);
    pair.server.respond(stream, fields(&[(":status", "431")]), true).unwrap();
    assert_eq!(pair.client_hears(), ["head 1 :status=431 end"]);
    // The tables of both still agree.
    pair.ask(&GET, true);
    pair.server.release(1);
    pair.client_hears();
}

/// A server that has been greeted, and a stream 1 of it whose request goes on.
fn greeted() -> (Connection, Instant) {
    let mut server = Connection::new(Side::Server, Limits::default());
    let now = Instant::now();
    let mut bytes = PREFACE.to_vec();
    write::settings(&mut bytes, &[]);
    // POST / of http, by the static table.
    write::headers(&mut bytes, 1, &[0x83, 0x86, 0x84], false, PAYLOAD);
    assert_eq!(feed(&mut server, now, &bytes).unwrap().len(), 2);
    taken(&mut server);
    (server, now)
}

/// A frame of any kind.
fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[test]
fn what_breaks_the_rules_ends_the_connection() {
    let large = LARGEST.to_be_bytes();
    for (bytes, code) in [
        // Streams that cannot be.
        (raw(0, 0, 3, b"a"), Code::PROTOCOL_ERROR),
        (raw(3, 0, 3, &[0; 4]), Code::PROTOCOL_ERROR),
        (raw(8, 0, 3, &[0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        (raw(8, 0, 2, &[0, 0, 0, 1]), Code::PROTOCOL_ERROR),
        (raw(1, 5, 2, &[0x82, 0x86, 0x84]), Code::PROTOCOL_ERROR),
        // Blocks of headers: another frame within, a piece of none, of another stream, and what cannot be read.
        ([raw(1, 0, 3, &[0x82]), raw(6, 0, 0, &[0; 8])].concat(), Code::PROTOCOL_ERROR),
        ([raw(1, 0, 3, &[0x82]), raw(9, 4, 5, &[0x86])].concat(), Code::PROTOCOL_ERROR),
        ([raw(1, 0, 3, &[0x82]), raw(0xfa, 0, 0, &[])].concat(), Code::PROTOCOL_ERROR),
        (raw(9, 4, 1, &[0x86]), Code::PROTOCOL_ERROR),
        (raw(1, 5, 3, &[0x80]), Code::COMPRESSION_ERROR),
        // Of streams that have ended, and pushes.
        ([raw(1, 5, 5, &[0x82, 0x86, 0x84]), raw(1, 5, 3, &[0x82])].concat(), Code::STREAM_CLOSED),
        ([raw(1, 5, 5, &[0x82, 0x86, 0x84]), raw(0, 0, 3, b"a")].concat(), Code::STREAM_CLOSED),
        (raw(5, 4, 1, &[0, 0, 0, 2, 0x82]), Code::PROTOCOL_ERROR),
        // Windows and settings.
        (raw(8, 0, 0, &large), Code::FLOW_CONTROL_ERROR),
        (raw(8, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR),
        (raw(4, 0, 0, &[0, 2, 0, 0, 0, 2]), Code::PROTOCOL_ERROR),
        (raw(4, 0, 0, &[0, 4, 0xff, 0, 0, 0]), Code::FLOW_CONTROL_ERROR),
        (
            [raw(8, 0, 1, &[0x7f, 0, 0, 0]), raw(4, 0, 0, &[0, 4, 0x7f, 0, 0, 0])].concat(),
            Code::FLOW_CONTROL_ERROR,
        ),
        (vec![0, 0x40, 1, 0, 0, 0, 0, 0, 1], Code::FRAME_SIZE_ERROR),
    ] {
        let (mut server, now) = greeted();
        let failed = feed(&mut server, now, &bytes).expect_err(&format!("{bytes:?}"));
        assert_eq!(failed.code, code, "{bytes:?}: {failed}");
        // The peer is told, and nothing goes on.
        let told = taken(&mut server);
        let at = told.len() - failed.why.len() - 8 - crate::h2::frame::HEAD;
        let (frame, _) = crate::h2::frame::read(&told[at..], PAYLOAD as u32).unwrap().unwrap();
        assert!(
            matches!(frame, crate::h2::frame::Frame::GoAway { code: its, about, .. } if its == code && about == failed.why.as_bytes())
        );
        assert_eq!(server.receive(now, &raw(6, 0, 0, &[0; 8])), Err(failed));
        assert_eq!(server.respond(1, fields(&OK), true), Err(Gone));
    }
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", b"\0"] {
        let mut server = Connection::new(Side::Server, Limits::default());
        assert_eq!(feed(&mut server, Instant::now(), bytes).unwrap_err().code, Code::PROTOCOL_ERROR);
    }
    let mut server = Connection::new(Side::Server, Limits::default());
    let bytes = [&PREFACE[..], &raw(6, 0, 0, &[0; 8])].concat();
    assert_eq!(feed(&mut server, Instant::now(), &bytes).unwrap_err().code, Code::PROTOCOL_ERROR);
}

#[test]
fn what_breaks_the_rules_of_a_stream_ends_the_stream() {
    let end = [raw(0, 1, 1, b"")].concat();
    for (bytes, code) in [
        (raw(1, 5, 3, &[0x82, 0x86]), Code::PROTOCOL_ERROR),
        (raw(1, 5, 3, &[0x82, 0x86, 0x84, 0x82]), Code::PROTOCOL_ERROR),
        (raw(1, 4, 1, &[0x0f, 0x0d, 0x01, b'1']), Code::PROTOCOL_ERROR),
        (raw(1, 5, 1, &[0x82]), Code::PROTOCOL_ERROR),
        (raw(1, 5, 3, &[0x82, 0x86, 0x84, 0x0f, 0x0d, 0x01, b'1']), Code::PROTOCOL_ERROR),
        ([end.clone(), raw(0, 0, 1, b"a")].concat(), Code::STREAM_CLOSED),
        ([end.clone(), raw(1, 5, 1, &[])].concat(), Code::STREAM_CLOSED),
        (raw(8, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        (raw(8, 0, 1, &LARGEST.to_be_bytes()), Code::FLOW_CONTROL_ERROR),
        (raw(2, 0, 1, &[0; 4]), Code::FRAME_SIZE_ERROR),
        // Data that is more, or less, than was announced.
        (
            [raw(1, 4, 3, &[0x83, 0x86, 0x84, 0x0f, 0x0d, 1, b'1']), raw(0, 0, 3, b"ab")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            [raw(1, 4, 3, &[0x83, 0x86, 0x84, 0x0f, 0x0d, 1, b'2']), raw(0, 1, 3, b"a")].concat(),
            Code::PROTOCOL_ERROR,
        ),
        (
            [raw(1, 4, 3, &[0x83, 0x86, 0x84, 0x0f, 0x0d, 1, b'2']), raw(1, 5, 3, &[])].concat(),
            Code::PROTOCOL_ERROR,
        ),
    ] {
        let (mut server, now) = greeted();
        feed(&mut server, now, &bytes).unwrap();
        let told = taken(&mut server);
        let at = told.len() - 13;
        let (frame, _) = crate::h2::frame::read(&told[at..], PAYLOAD as u32).unwrap().unwrap();
        assert!(
            matches!(frame, crate::h2::frame::Frame::Reset { code: its, .. } if its == code),
            "{bytes:?}: {frame:?}"
        );
        // The connection goes on.
        assert_eq!(feed(&mut server, now, &raw(1, 5, 9, &[0x82, 0x86, 0x84])).unwrap().len(), 1);
    }
}

#[test]
fn more_than_a_window_is_refused() {
    let (mut server, now) = greeted();
    server.limits.window = 10;
    feed(&mut server, now, &raw(4, 1, 0, &[])).unwrap();
    let head = raw(1, 4, 3, &[0x83, 0x86, 0x84]);
    feed(&mut server, now, &head).unwrap();
    let told = feed(&mut server, now, &raw(0, 0, 3, &[b'x'; 11])).unwrap();
    assert_eq!(told, ["reset 3 FLOW_CONTROL_ERROR: more data than a stream's window lets"]);
    // Of all streams together it ends the connection.
    let (mut server, now) = greeted();
    server.in_window = 20;
    assert!(feed(&mut server, now, &raw(0, 0, 1, &[b'x'; 20])).is_ok());
    let failed = feed(&mut server, now, &raw(0, 0, 1, b"x")).unwrap_err();
    assert_eq!(failed.code, Code::FLOW_CONTROL_ERROR);
    // Padding counts as well, and is given back by nobody but us.
    let (mut server, now) = greeted();
    let padded = raw(0, 8, 1, &[&[200][..], b"x", &[0; 200]].concat());
    assert_eq!(feed(&mut server, now, &padded).unwrap(), ["data 1 x"]);
    assert_eq!((server.owed, server.streams[&1].held), (201, 1));
}

#[test]
fn an_answer_that_is_none_ends_its_stream() {
    for (answer, why) in [
        (raw(1, 5, 1, &[0x82]), "a pseudo-header that no answer has"),
        (raw(0, 0, 1, b"a"), "data before a head"),
        (raw(1, 5, 1, &[0x08, 3, b'1', b'0', b'3']), "an answer of 1xx is the last"),
        (raw(1, 4, 1, &[0x08, 3, b'1', b'0', b'1']), ":status is 101"),
        (raw(1, 5, 1, &[0x88, 0x0f, 0x0d, 1, b'1']), "content-length of an answer without data"),
        ([raw(1, 4, 1, &[0x89]), raw(0, 1, 1, b"a")].concat(), "more data than content-length says"),
    ] {
        let mut client = Connection::new(Side::Client, Limits::default());
        let now = Instant::now();
        feed(&mut client, now, &raw(4, 0, 0, &[])).unwrap();
        client.open(fields(&GET), true).unwrap();
        let told = feed(&mut client, now, &answer).unwrap();
        assert_eq!(told.last().unwrap(), &format!("reset 1 PROTOCOL_ERROR: {why}"));
    }
    // A HEAD is answered with a length and no data.
    let mut client = Connection::new(Side::Client, Limits::default());
    let now = Instant::now();
    feed(&mut client, now, &raw(4, 0, 0, &[])).unwrap();
    client.open(fields(&[(":method", "HEAD"), (":scheme", "http"), (":path", "/")]), true).unwrap();
    let told = feed(&mut client, now, &raw(1, 5, 1, &[0x88, 0x0f, 0x0d, 1, b'7']));
    assert_eq!(told.unwrap(), ["head 1 content-length=7 end"]);
    // A server sends no pushes to whoever wants none, and does not ask for any.
    let mut client = Connection::new(Side::Client, Limits::default());
    assert!(feed(&mut client, now, &raw(4, 0, 0, &[0, 2, 0, 0, 0, 0])).is_ok());
    let failed = feed(&mut client, now, &raw(4, 0, 0, &[0, 2, 0, 0, 0, 1])).unwrap_err();
    assert_eq!(failed.code, Code::PROTOCOL_ERROR);
    // A server opens no streams, and answers none that were not asked.
    for stream in [2, 3] {
        let mut client = Connection::new(Side::Client, Limits::default());
        feed(&mut client, now, &raw(4, 0, 0, &[])).unwrap();
        client.open(fields(&GET), true).unwrap();
        let failed = feed(&mut client, now, &raw(1, 5, stream, &[0x88])).unwrap_err();
        assert_eq!(failed.code, Code::PROTOCOL_ERROR);
    }
}
