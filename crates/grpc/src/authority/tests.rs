use bytes::{BufMut, BytesMut};

use super::*;

/// `:authority: %2Frun%2Fx.sock`, coded, remembered under the static table's name.
const CODED_PATH: &[u8] =
    &[0x41, 0x8c, 0x54, 0x58, 0x6c, 0xb6, 0xa5, 0x45, 0x87, 0xca, 0xe8, 0x39, 0x3a, 0xff];

fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    Head { length: content.len(), kind, flags, stream: [0, 0, 0, 1] }.write(&mut out);
    out.put_slice(content);
    out.to_vec()
}

/// What goes on of what is sent in pieces of this size, behind a preface.
fn passed(sent: &[u8], size: usize) -> Vec<u8> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let sent = [&preface[..], sent].concat();
    heard(sent.chunks(size)).strip_prefix(preface).unwrap().to_vec()
}

#[test]
fn an_authority_is_replaced_in_every_form_it_can_have() {
    let path = b"%2Frun%2Fx.sock";
    let length = u8::try_from(path.len()).unwrap();
    let literal = |kind: u8, name: &[u8]| {
        let is_coded = if name == CODED { 0x80 } else { 0 };
        let head = [kind, is_coded | u8::try_from(name.len()).unwrap()];
        [&head, name].concat()
    };
    for (sent, kept) in [
        (CODED_PATH.to_vec(), vec![0x41]),
        ([&[0x41, length], &path[..]].concat(), vec![0x41]),
        ([&[0x01, length], &path[..]].concat(), vec![0x01]),
        ([&[0x11, length], &path[..]].concat(), vec![0x11]),
        ([literal(0x40, NAME), [&[length], &path[..]].concat()].concat(), literal(0x40, NAME)),
        ([literal(0x10, CODED), CODED_PATH[1..].to_vec()].concat(), literal(0x10, CODED)),
    ] {
        // Method and scheme, a change of the table's size, the path's name with a value, and a number of two bytes.
        let (before, after) =
            (&[0x83, 0x86, 0x3f, 0xe1, 0x1f, 0x44, 0x02, b'/', b'a'][..], &[0xff, 0x00][..]);
        let whole = [before, &sent, after].concat();
        let expected = [before, &kept, INSTEAD, after].concat();
        assert_eq!(rewritten(&whole).unwrap().to_vec(), expected, "{sent:x?}");
    }
}

#[test]
fn what_surrounds_fields_goes_and_all_else_stays() {
    let settings = frame(4, 0, &[]);
    let data = frame(0, END_STREAM, &[7; 40_000]);
    let padded = [&[2, 0, 0, 0, 0, 9], CODED_PATH, &[0, 0]].concat();
    let sent = [&settings[..], &frame(HEADERS, PADDED | PRIORITY | END_HEADERS, &padded), &data].concat();
    let fields = [&[0x41], INSTEAD].concat();
    let expected = [&settings[..], &frame(HEADERS, END_HEADERS, &fields), &data].concat();
    for size in [1, 7, 4096, sent.len() + PREFACE] {
        assert_eq!(passed(&sent, size), expected, "{size}");
    }
}

#[test]
fn fields_in_several_frames_are_read_as_one() {
    let (first, second) = CODED_PATH.split_at(5);
    let sent = [frame(HEADERS, END_STREAM, first), frame(CONTINUATION, END_HEADERS, second)].concat();
    let fields = [&[0x41], INSTEAD].concat();
    assert_eq!(passed(&sent, 10), frame(HEADERS, END_STREAM | END_HEADERS, &fields));
    // A value so long that it takes two frames on its way on, too.
    let long = [&[0x44, 0x7f, 0xe1, 0x9c, 0x01][..], &[b'a'; 20_064]].concat();
    let sent =
        [frame(HEADERS, 0, &long[..10_000]), frame(CONTINUATION, END_HEADERS, &long[10_000..])].concat();
    let expected =
        [frame(HEADERS, 0, &long[..FRAME]), frame(CONTINUATION, END_HEADERS, &long[FRAME..])].concat();
    assert_eq!(passed(&sent, 4096), expected);
}

#[test]
fn what_is_against_the_rules_goes_on_as_it_is() {
    for fields in [&[0x41][..], &[0x41, 0x05, b'a'], &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x01], &[0x40, 0xff]] {
        assert_eq!(rewritten(fields), None, "{fields:x?}");
        let sent = frame(HEADERS, END_HEADERS, fields);
        assert_eq!(passed(&sent, 3), sent);
    }
    // More padding than there is; less than a priority.
    for (flags, content) in [(PADDED, &[9, 0x41, 0x01, b'/'][..]), (PADDED, &[]), (PRIORITY, &[0; 4])] {
        let sent = [frame(HEADERS, flags | END_HEADERS, content), frame(HEADERS, END_HEADERS, &[])].concat();
        assert_eq!(passed(&sent, 3), sent);
    }
    // Fields without end: held to a bound, and then nothing is.
    let part = frame(CONTINUATION, 0, &vec![0; FRAME]);
    let sent = [&frame(HEADERS, 0, &vec![0; FRAME])[..], &part.repeat(20)].concat();
    assert_eq!(passed(&sent, 4096), part.repeat(5));
    let large = frame(HEADERS, END_HEADERS, &vec![0; FRAME + 1]);
    assert_eq!(passed(&large, 4096), large);
}

#[test]
fn no_entry_of_the_table_becomes_longer() {
    // An authority of one byte is the longest that what stands instead may be; a shorter one stays.
    let sent = [0x41, 0x01, b'/', 0x41, 0x00, 0x41, 0x81, 0x1f];
    let expected = [&[0x41][..], INSTEAD, &[0x41, 0x00, 0x41], INSTEAD].concat();
    assert_eq!(rewritten(&sent).unwrap().to_vec(), expected);
}

proptest::proptest! {
    #[test]
    fn nothing_that_is_sent_breaks_it(sent in proptest::collection::vec(0u8.., 0..512), size in 1usize..64) {
        let whole = passed(&sent, usize::MAX);
        assert_eq!(passed(&sent, size), whole, "pieces do not matter");
        assert!(whole.len() <= sent.len());
    }

    #[test]
    fn no_fields_break_it(
        parts in proptest::collection::vec((0u8.., proptest::collection::vec(0u8.., 0..64)), 1..5),
        size in 1usize..64,
    ) {
        let last = parts.len() - 1;
        let frames = parts.iter().enumerate().map(|(at, (flags, content))| {
            let end = if at == last { END_HEADERS } else { 0 };
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            frame(kind, flags & !END_HEADERS | end, content)
        });
        let sent: Vec<u8> = frames.flatten().collect();
        let whole = passed(&sent, usize::MAX);
        assert_eq!(passed(&sent, size), whole, "pieces do not matter");
        assert!(whole.len() <= sent.len());
    }
}
