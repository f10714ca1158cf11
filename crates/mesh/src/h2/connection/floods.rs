//! Each flood that is known ends its connection, and what looks like one and is none does not.

use std::time::{Duration, Instant};

use super::tests::{GET, feed, fields, taken};
use super::*;
use crate::h2::frame::PAYLOAD;

/// A head of a request by the static table alone: GET / of http.
const HEAD: [u8; 3] = [0x82, 0x86, 0x84];

fn server() -> (Connection, Instant) {
    let mut server = Connection::new(Side::Server, Limits::default());
    let now = Instant::now();
    let mut bytes = PREFACE.to_vec();
    write::settings(&mut bytes, &[]);
    write::settings_ack(&mut bytes);
    write::headers(&mut bytes, 1, &[0x83, 0x86, 0x84], false, PAYLOAD);
    feed(&mut server, now, &bytes).unwrap();
    taken(&mut server);
    (server, now)
}

/// How many times a server takes such bytes, one after the other, each `apart` from the one before, and how it ends.
fn borne(most: usize, apart: Duration, of: impl Fn(u32, &mut Vec<u8>)) -> (usize, Option<Failure>) {
    let (mut server, mut now) = server();
    for n in 0..most {
        now += apart;
        let mut bytes = Vec::new();
        of(n as u32, &mut bytes);
        if let Err(failed) = feed(&mut server, now, &bytes) {
            return (n, Some(failed));
        }
        taken(&mut server);
        // Who is asked something does something.
        let streams: Vec<u32> = server.streams.keys().copied().filter(|stream| *stream > 1).collect();
        streams.into_iter().for_each(|stream| server.release(stream));
        taken(&mut server);
    }
    (most, None)
}

/// Too many at once end the connection between `least` and `most`; now and then they may come for ever.
fn is_flood(least: usize, most: usize, of: impl Fn(u32, &mut Vec<u8>)) {
    let (count, failed) = borne(most, Duration::ZERO, &of);
    let failed = failed.unwrap_or_else(|| panic!("{count} were borne"));
    assert_eq!(failed.code, Code::ENHANCE_YOUR_CALM, "{failed}");
    assert!(count >= least, "{count} are not many: {failed}");
    let (count, failed) = borne(most, Duration::from_millis(200), &of);
    assert_eq!((count, failed), (most, None));
}

fn raw(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

#[test]
fn streams_that_are_reset_at_once_cve_2023_44487() {
    is_flood(500, 3000, |n, out| {
        write::headers(out, 2 * n + 3, &HEAD, true, PAYLOAD);
        write::reset(out, 2 * n + 3, Code::CANCEL);
    });
}

#[test]
fn streams_that_the_server_is_made_to_reset_cve_2025_8671() {
    let ways: [fn(u32, &mut Vec<u8>); 4] = [
        |stream, out| raw(out, 8, 0, stream, &[0; 4]),
        |stream, out| raw(out, 2, 0, stream, &[0; 4]),
        |stream, out| raw(out, 8, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
        |stream, out| raw(out, 0, 0, stream, b"behind the end"),
    ];
    for way in ways {
        is_flood(500, 3000, |n, out| {
            write::headers(out, 2 * n + 3, &HEAD, true, PAYLOAD);
            way(2 * n + 3, out);
        });
    }
    // And heads that are none.
    is_flood(500, 3000, |n, out| write::headers(out, 2 * n + 3, &HEAD[..2], true, PAYLOAD));
}

#[test]
fn streams_that_are_reset_count_until_they_are_released() {
    let (mut server, now) = server();
    let limit = server.limits.streams;
    let mut begun = 0;
    for n in 0..400 {
        let mut bytes = Vec::new();
        write::headers(&mut bytes, 2 * n + 3, &HEAD, true, PAYLOAD);
        write::reset(&mut bytes, 2 * n + 3, Code::CANCEL);
        let told = feed(&mut server, now, &bytes).unwrap();
        begun += told.iter().filter(|told| told.starts_with("head")).count();
    }
    assert_eq!(begun, 2 * limit as usize - 1, "nobody works on more than that");
    let stream = *server.streams.keys().max().unwrap();
    server.release(stream);
    let mut bytes = Vec::new();
    write::headers(&mut bytes, 1001, &HEAD, true, PAYLOAD);
    assert_eq!(feed(&mut server, now, &bytes).unwrap().len(), 1);
}

#[test]
fn more_streams_than_there_may_be_are_refused() {
    let (mut server, now) = server();
    for n in 0..server.limits.streams {
        let mut bytes = Vec::new();
        write::headers(&mut bytes, 2 * n + 3, &HEAD, true, PAYLOAD);
        // One is open already.
        let begun = n + 1 < server.limits.streams;
        assert_eq!(feed(&mut server, now, &bytes).unwrap().len(), usize::from(begun));
    }
    let refused = taken(&mut server);
    let (frame, _) = crate::h2::frame::read(&refused, PAYLOAD as u32).unwrap().unwrap();
    assert!(matches!(frame, crate::h2::frame::Frame::Reset { code: Code::REFUSED_STREAM, .. }));
}

#[test]
fn settings_cve_2019_9515() {
    is_flood(50, 500, |_, out| write::settings(out, &[(id::WINDOW, 1)]));
}

#[test]
fn pings_cve_2019_9512() {
    is_flood(200, 2000, |_, out| write::ping(out, [0; 8], false));
    // As many as there are pieces of a body are those of who measures the connection.
    let borne = borne(5000, Duration::ZERO, |n, out| {
        write::ping(out, [0; 8], false);
        write::headers(out, 2 * n + 3, &[0x83, 0x86, 0x84], false, PAYLOAD);
        write::data(out, 2 * n + 3, b"x", true);
    });
    assert_eq!(borne, (5000, None));
}

#[test]
fn answers_that_nobody_takes_cve_2019_9512() {
    let (mut server, mut now) = server();
    let mut bytes = Vec::new();
    write::ping(&mut bytes, [0; 8], false);
    // Slowly, so that it is not their number.
    for _ in 0..10_000 {
        now += Duration::from_secs(1);
        if let Err(failed) = feed(&mut server, now, &bytes) {
            assert_eq!(failed.code, Code::ENHANCE_YOUR_CALM);
            assert!(server.output().len() < 200 << 10);
            return;
        }
    }
    panic!("{} bytes wait", server.output().len());
}

#[test]
fn frames_with_nothing_in_them_cve_2019_9518() {
    is_flood(50, 500, |_, out| write::data(out, 1, b"", false));
    // As much as padding.
    is_flood(50, 500, |_, out| raw(out, 0, 8, 1, &[3, 0, 0, 0]));
}

#[test]
fn windows_that_open_by_a_byte_cve_2019_9511() {
    is_flood(500, 3000, |_, out| write::window(out, 1, 1));
    is_flood(500, 3000, |_, out| write::window(out, 0, 1));
    // Who is sent much may say often that it has read.
    let (mut server, now) = server();
    server.respond(1, fields(&[(":status", "200")]), false).unwrap();
    let mut sent = 0;
    while sent < 10 << 20 {
        let count = server.data(1, &[b'x'; 16 << 10], false).unwrap();
        assert!(count > 0, "the client opens the window");
        taken(&mut server);
        let mut bytes = Vec::new();
        for _ in 0..count.div_ceil(1024) {
            write::window(&mut bytes, 1, 1024);
            write::window(&mut bytes, 0, 1024);
        }
        feed(&mut server, now, &bytes).unwrap();
        sent += count;
    }
}

#[test]
fn priorities_and_what_is_not_known_cve_2019_9513() {
    is_flood(500, 3000, |n, out| raw(out, 2, 0, 2 * n + 3, &[0; 5]));
    is_flood(500, 3000, |_, out| raw(out, 0x77, 0, 0, b"?"));
    is_flood(500, 3000, |_, out| write::go_away(out, 0, Code::NO_ERROR, ""));
    is_flood(500, 3000, |_, out| write::settings_ack(out));
    is_flood(500, 3000, |_, out| write::ping(out, [0; 8], true));
}

#[test]
fn resets_of_what_has_ended_cve_2019_9514() {
    let (mut server, now) = server();
    let mut bytes = Vec::new();
    write::headers(&mut bytes, 3, &HEAD, true, PAYLOAD);
    feed(&mut server, now, &bytes).unwrap();
    server.release(3);
    let mut bytes = Vec::new();
    write::reset(&mut bytes, 3, Code::CANCEL);
    let count = (0..3000).take_while(|_| feed(&mut server, now, &bytes).is_ok()).count();
    assert!((500..3000).contains(&count), "{count}");
    assert_eq!(server.failed.map(|failed| failed.code), Some(Code::ENHANCE_YOUR_CALM));
}

#[test]
fn what_was_on_its_way_for_streams_that_were_refused_is_let_pass() {
    let (mut server, now) = server();
    let refused = 3 * REMEMBERED as u32;
    for n in 0..server.limits.streams + refused {
        let mut bytes = Vec::new();
        write::headers(&mut bytes, 2 * n + 3, &HEAD, false, PAYLOAD);
        feed(&mut server, now, &bytes).unwrap();
    }
    // Of the first that was refused as of the last: a body, and what stands behind it.
    let first = 2 * server.limits.streams + 1;
    for stream in [first, first + 2 * refused - 2] {
        let mut bytes = Vec::new();
        write::data(&mut bytes, stream, b"a body", false);
        write::headers(&mut bytes, stream, &[], true, PAYLOAD);
        write::window(&mut bytes, stream, 1);
        assert_eq!(feed(&mut server, now, &bytes), Ok(vec![]));
    }
    assert_eq!(server.owed, 12);
    // Not for ever.
    let mut bytes = Vec::new();
    write::headers(&mut bytes, first, &HEAD, true, PAYLOAD);
    let count = (0..3000).take_while(|_| feed(&mut server, now, &bytes).is_ok()).count();
    assert!((500..3000).contains(&count), "{count}");
    assert_eq!(server.failed.map(|failed| failed.code), Some(Code::ENHANCE_YOUR_CALM));
}

#[test]
fn a_block_without_end_cve_2024_27316() {
    for piece in [0, 1, 100, PAYLOAD] {
        let (mut server, now) = server();
        let mut bytes = Vec::new();
        raw(&mut bytes, 1, 0, 3, &[]);
        feed(&mut server, now, &bytes).unwrap();
        assert!(server.is_within_head());
        let mut bytes = Vec::new();
        raw(&mut bytes, 9, 0, 3, &vec![0; piece]);
        let count = (0..1000).take_while(|_| feed(&mut server, now, &bytes).is_ok()).count();
        assert!(count < 100, "{count} of {piece}");
        assert_eq!(server.failed.map(|failed| failed.code), Some(Code::ENHANCE_YOUR_CALM));
        assert!(server.block.capacity() <= 2 * server.limits.block);
    }
}

#[test]
fn a_block_that_stands_for_megabytes() {
    let (mut server, now) = server();
    // A header of 4000 bytes in the table, and then its index as often as there is room.
    let mut block = HEAD.to_vec();
    block.extend([0x40, 1, b'a', 0x7f, 0xa1, 0x1e]);
    block.extend([b'x'; 4000]);
    block.extend(vec![0xbe; 50_000]);
    let mut bytes = Vec::new();
    write::headers(&mut bytes, 3, &block, true, PAYLOAD);
    assert_eq!(feed(&mut server, now, &bytes).unwrap(), ["too large 3"]);
    assert!(server.fields.size() < 2 * server.limits.fields.size);
}

#[test]
fn a_connection_without_a_stream_holds_no_buffer() {
    let (mut server, now) = server();
    let mut client = Connection::new(Side::Client, Limits::default());
    taken(&mut client);
    feed(&mut client, now, &{
        let mut bytes = Vec::new();
        write::settings(&mut bytes, &[]);
        bytes
    })
    .unwrap();
    taken(&mut client);
    server.release(1);
    taken(&mut server);
    client.next = 3;
    for n in 0..50 {
        let stream = client.open(fields(&GET), true).unwrap();
        let bytes = taken(&mut client);
        assert_eq!(feed(&mut server, now, &bytes).unwrap().len(), 1, "{n}");
        server.respond(stream, fields(&[(":status", "200")]), false).unwrap();
        server.data(stream, &[b'x'; 1000], true).unwrap();
        taken(&mut server);
        assert!(server.out.capacity() > 0);
        server.release(stream);
        taken(&mut server);
        client.release(stream);
        taken(&mut client);
    }
    assert_eq!(server.streams(), 0);
    let held = [&server.out, &server.block, &server.coded].map(|bytes| bytes.capacity());
    assert_eq!((held, server.fields.size()), ([0; 3], 0));
}
