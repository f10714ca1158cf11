//! What a peer of HTTP/2 sends, as it arrives in pieces: the first byte says how long these are, and which side reads them. However they come they
//! say the same, are answered the same, and what is answered are frames.

use std::time::Instant;

use mesh::h2::frame::{PAYLOAD, PREFACE, read};
use mesh::h2::{Code, Connection, Event, Field, Limits, Side};

pub fn run(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let side = if first & 0x80 == 0 { Side::Server } else { Side::Client };
    let now = Instant::now();
    let whole = talk(bytes, usize::MAX, side, now);
    let pieces = talk(bytes, usize::from(first & 0x7f).max(1), side, now);
    assert_eq!(whole, pieces);
    let mut rest = &whole.1[..];
    if side == Side::Client {
        rest = rest.strip_prefix(PREFACE).expect("a client begins so");
    }
    while !rest.is_empty() {
        let (_, used) = read(rest, PAYLOAD as u32).expect("it is no fault").expect("it is whole");
        rest = rest.get(used..).expect("no more than there was");
    }
}

/// What was said, what is sent back, and why it has ended.
fn talk(bytes: &[u8], piece: usize, side: Side, now: Instant) -> (Vec<String>, Vec<u8>, Option<Code>) {
    let limits = Limits { streams: 5, window: 1000, ..Limits::default() };
    let mut connection = Connection::new(side, limits);
    let mut said = Vec::new();
    if side == Side::Client {
        for method in ["GET", "HEAD", "POST"] {
            let head = [(":method", method), (":scheme", "http"), (":path", "/")];
            let head = head.iter().map(|(name, value)| Field::new(*name, *value));
            connection.open(head, method != "POST").expect("there is room");
        }
    }
    let mut held: Vec<u8> = Vec::new();
    for piece in bytes.chunks(piece.min(bytes.len().max(1))) {
        held.extend_from_slice(piece);
        let mut at = 0;
        loop {
            let rest = held.get(at..).expect("no more than there was");
            let (used, event) = match connection.receive(now, rest) {
                Ok(came) => came,
                Err(failed) => return (said, connection.output().to_vec(), Some(failed.code)),
            };
            if used == 0 {
                assert!(event.is_none() && rest.len() < PAYLOAD + 9, "a frame is whole by then");
                break;
            }
            let stream = event.map(|event| {
                said.push(format!("{event:?}"));
                work(event)
            });
            let fields = connection.fields().iter().map(|field| (field.name.to_vec(), field.value.to_vec()));
            said.extend(fields.map(|field| format!("{field:?}")));
            if let Some(Work { stream, begin, came, end }) = stream {
                serve(&mut connection, side, stream, begin, came, end);
            }
            at += used;
        }
        held.drain(..at);
    }
    assert!(connection.streams() <= 10);
    (said, connection.output().to_vec(), None)
}

struct Work {
    stream: u32,
    begin: bool,
    came: u32,
    end: bool,
}

fn work(event: Event<'_>) -> Work {
    let work = Work { stream: 0, begin: false, came: 0, end: false };
    match event {
        Event::Head { stream, end } => Work { stream, begin: true, end, ..work },
        Event::TooLarge { stream } => Work { stream, begin: true, end: true, ..work },
        Event::Data { stream, bytes, end } => Work { stream, came: bytes.len() as u32, end, ..work },
        Event::Trailers { stream } | Event::Reset { stream, .. } => Work { stream, end: true, ..work },
        _ => work,
    }
}

/// Answers in one of several ways, each stream its own.
fn serve(connection: &mut Connection, side: Side, stream: u32, begin: bool, came: u32, end: bool) {
    connection.consumed(stream, came);
    if side == Side::Server && begin {
        let head = [Field::new(":status", "200"), Field::new("x-stream", "a value that comes again")];
        let _gone = connection.respond(stream, head.into_iter(), stream % 4 == 1);
        if stream % 4 != 1 {
            let _gone = connection.data(stream, &[b'x'; 300], false);
            let _gone = connection.trailers(stream, head.into_iter().skip(1));
        }
    }
    if end && stream % 8 != 5 {
        connection.release(stream);
    }
}
