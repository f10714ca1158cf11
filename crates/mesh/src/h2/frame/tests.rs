//! What is written is read, and what may not be is refused with its code.

use proptest::prelude::*;

use super::*;

fn raw(length: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn one(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<Frame<'static>, Broken> {
    let bytes: &'static [u8] = raw(payload.len(), kind, flags, stream, payload).leak();
    let (frame, used) = read(bytes, PAYLOAD as u32)?.expect("it is whole");
    assert_eq!(used, bytes.len());
    Ok(frame)
}

#[test]
fn what_is_written_is_read() {
    let mut out = Vec::new();
    write::data(&mut out, 1, b"abc", true);
    write::headers(&mut out, 3, b"0123456789", true, 4);
    write::reset(&mut out, 5, Code::CANCEL);
    write::settings(&mut out, &[(id::WINDOW, 7), (99, 8)]);
    write::settings_ack(&mut out);
    write::ping(&mut out, *b"12345678", true);
    write::go_away(&mut out, 9, Code::ENHANCE_YOUR_CALM, "why");
    write::window(&mut out, 0, LARGEST);
    write::headers(&mut out, 11, b"", false, 4);
    let mut rest = &out[..];
    let mut frames = Vec::new();
    while let Some((frame, used)) = read(rest, PAYLOAD as u32).unwrap() {
        // While a byte is missing there is none.
        assert_eq!(read(&rest[..used - 1], PAYLOAD as u32), Ok(None));
        frames.push(frame);
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
    let [data, headers, first, last, reset, Frame::Settings(settings), others @ ..] = &frames[..] else {
        panic!("{frames:?}");
    };
    assert_eq!(*data, Frame::Data { stream: 1, bytes: b"abc", flow: 3, end: true });
    assert_eq!(*headers, Frame::Headers { stream: 3, block: b"0123", end: true, whole: false });
    assert_eq!(*first, Frame::Continuation { stream: 3, block: b"4567", whole: false });
    assert_eq!(*last, Frame::Continuation { stream: 3, block: b"89", whole: true });
    assert_eq!(*reset, Frame::Reset { stream: 5, code: Code::CANCEL });
    assert_eq!(settings.iter().collect::<Vec<_>>(), [(id::WINDOW, 7), (99, 8)]);
    assert_eq!(
        others,
        [
            Frame::SettingsAck,
            Frame::Ping { data: *b"12345678", ack: true },
            Frame::GoAway { last: 9, code: Code::ENHANCE_YOUR_CALM, about: b"why" },
            Frame::Window { stream: 0, more: LARGEST },
            Frame::Headers { stream: 11, block: b"", end: false, whole: true },
        ]
    );
}

#[test]
fn padding_and_priority_are_taken_off() {
    let data = one(kind::DATA, flag::PADDED, 1, &[2, b'a', b'b', 0, 0]);
    assert_eq!(data, Ok(Frame::Data { stream: 1, bytes: b"ab", flow: 5, end: false }));
    let all = one(kind::DATA, flag::PADDED, 1, &[2, 0, 0]);
    assert_eq!(all, Ok(Frame::Data { stream: 1, bytes: b"", flow: 3, end: false }));
    let headers = one(kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, &[1, 0, 0, 0, 1, 7, b'x', 0]);
    assert_eq!(headers, Ok(Frame::Headers { stream: 1, block: b"x", end: false, whole: false }));
    // The reserved bit of a stream's number is nothing.
    assert_eq!(one(kind::PRIORITY, 0, 1 << 31 | 5, &[0; 5]), Ok(Frame::Priority { stream: 5 }));
    assert_eq!(one(0xfa, 0xff, 77, b"anything"), Ok(Frame::Unknown { kind: 0xfa }));
}

#[test]
fn what_may_not_be_is_refused_with_its_code() {
    for (kind, flags, stream, payload, code) in [
        // Streams that they cannot be of.
        (kind::DATA, 0, 0, &b"a"[..], Code::PROTOCOL_ERROR),
        (kind::HEADERS, 0, 0, b"a", Code::PROTOCOL_ERROR),
        (kind::CONTINUATION, 0, 0, b"a", Code::PROTOCOL_ERROR),
        (kind::PRIORITY, 0, 0, &[0; 5], Code::PROTOCOL_ERROR),
        (kind::RST_STREAM, 0, 0, &[0; 4], Code::PROTOCOL_ERROR),
        (kind::PUSH_PROMISE, 0, 0, &[0; 4], Code::PROTOCOL_ERROR),
        (kind::SETTINGS, 0, 1, b"", Code::PROTOCOL_ERROR),
        (kind::PING, 0, 1, &[0; 8], Code::PROTOCOL_ERROR),
        (kind::GOAWAY, 0, 1, &[0; 8], Code::PROTOCOL_ERROR),
        // Sizes.
        (kind::RST_STREAM, 0, 1, &[0; 3], Code::FRAME_SIZE_ERROR),
        (kind::RST_STREAM, 0, 1, &[0; 5], Code::FRAME_SIZE_ERROR),
        (kind::SETTINGS, 0, 0, &[0; 5], Code::FRAME_SIZE_ERROR),
        (kind::SETTINGS, flag::ACK, 0, &[0; 6], Code::FRAME_SIZE_ERROR),
        (kind::PING, 0, 0, &[0; 7], Code::FRAME_SIZE_ERROR),
        (kind::PING, 0, 0, &[0; 9], Code::FRAME_SIZE_ERROR),
        (kind::GOAWAY, 0, 0, &[0; 7], Code::FRAME_SIZE_ERROR),
        (kind::WINDOW_UPDATE, 0, 1, &[0; 3], Code::FRAME_SIZE_ERROR),
        (kind::WINDOW_UPDATE, 0, 0, &[0; 4], Code::PROTOCOL_ERROR),
        (kind::HEADERS, flag::PRIORITY, 1, &[0; 4], Code::FRAME_SIZE_ERROR),
        // Padding.
        (kind::DATA, flag::PADDED, 1, b"", Code::FRAME_SIZE_ERROR),
        (kind::DATA, flag::PADDED, 1, &[1], Code::PROTOCOL_ERROR),
        (kind::DATA, flag::PADDED, 1, &[3, 0, 0], Code::PROTOCOL_ERROR),
        (kind::HEADERS, flag::PADDED, 1, &[9], Code::PROTOCOL_ERROR),
    ] {
        let refused = one(kind, flags, stream, payload).map_err(|broken| broken.code);
        assert_eq!(refused, Err(code), "kind {kind}, stream {stream}, {payload:?}");
    }
    // Only the stream ends.
    for (kind, payload, code) in [
        (kind::PRIORITY, &[0; 4][..], Code::FRAME_SIZE_ERROR),
        (kind::WINDOW_UPDATE, &[0x80, 0, 0, 0], Code::PROTOCOL_ERROR),
    ] {
        let frame = one(kind, 0, 7, payload);
        assert!(matches!(frame, Ok(Frame::Wrong { stream: 7, code: its, .. }) if its == code), "{frame:?}");
    }
    // A length is refused before its payload has come.
    let long = raw(PAYLOAD + 1, kind::DATA, 0, 1, b"");
    assert_eq!(read(&long, PAYLOAD as u32).map_err(|broken| broken.code), Err(Code::FRAME_SIZE_ERROR));
    assert_eq!(read(&long, PAYLOAD as u32 + 1), Ok(None));
}

#[test]
fn settings_have_values_that_they_may_have() {
    let mut settings = Settings::default();
    for (id, value, code) in [
        (id::PUSH, 2, Code::PROTOCOL_ERROR),
        (id::WINDOW, LARGEST + 1, Code::FLOW_CONTROL_ERROR),
        (id::FRAME, 16_383, Code::PROTOCOL_ERROR),
        (id::FRAME, 1 << 24, Code::PROTOCOL_ERROR),
        (id::CONNECT, 2, Code::PROTOCOL_ERROR),
    ] {
        assert_eq!(settings.set(id, value).map_err(|broken| broken.code), Err(code), "{id} {value}");
    }
    assert_eq!(settings, Settings::default());
    for (id, value) in [
        (id::TABLE, 1),
        (id::PUSH, 0),
        (id::STREAMS, 2),
        (id::WINDOW, LARGEST),
        (id::FRAME, (1 << 24) - 1),
        (id::LIST, 3),
        (4711, 9),
    ] {
        settings.set(id, value).unwrap();
    }
    let wanted =
        Settings { table: 1, push: false, streams: 2, window: LARGEST, frame: (1 << 24) - 1, list: 3 };
    assert_eq!(settings, wanted);
    assert_eq!((Code::CANCEL.to_string(), Code(99).to_string()), ("CANCEL".into(), "code 99".into()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_frames_or_refused(kind in 0..12_u8, flags: u8, stream in 0..3_u32, payload in prop::collection::vec(any::<u8>(), 0..40)) {
        let bytes = raw(payload.len(), kind, flags, stream, &payload);
        if let Ok(read) = read(&bytes, PAYLOAD as u32) {
            let (frame, used) = read.expect("it is whole");
            prop_assert_eq!(used, bytes.len());
            if let Frame::Data { bytes, flow, .. } = frame {
                prop_assert!(bytes.len() as u32 <= flow && flow as usize == payload.len());
            }
        }
    }

    #[test]
    fn a_block_in_pieces_is_the_same_block(block in prop::collection::vec(any::<u8>(), 0..100), most in 1..30_usize) {
        let mut out = Vec::new();
        write::headers(&mut out, 1, &block, false, most);
        let (mut rest, mut joined, mut done) = (&out[..], Vec::new(), false);
        while let Some((frame, used)) = read(rest, most as u32).unwrap() {
            prop_assert!(!done);
            match frame {
                Frame::Headers { block, whole, .. } | Frame::Continuation { block, whole, .. } => {
                    joined.extend_from_slice(block);
                    done = whole;
                }
                other => panic!("{other:?}"),
            }
            rest = &rest[used..];
        }
        prop_assert!(done && rest.is_empty());
        prop_assert_eq!(joined, block);
    }
}
