//! Appendix C of RFC 7541, what is refused, and that what is written is read again.

use proptest::prelude::*;

use super::table::{Marks, STATIC, fixed};
use super::*;

const BOUNDS: Bounds = Bounds { size: 16 << 10, count: 100 };

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
    pairs.collect()
}

fn list(fields: &Fields) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

fn pairs(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// The entries of a decoder's table, the newest first.
fn entries(decoder: &Decoder) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (0..).map_while(|n| decoder.table().get(n)).map(|(name, value)| (text(name), text(value))).collect()
}

/// A block, the headers that it has, and the table's size behind it.
type Block<'a> = (&'a str, &'a [(&'a str, &'a str)], usize);

/// Reads blocks one after the other: each gives those headers, and leaves a table of so many bytes.
fn read_all(decoder: &mut Decoder, blocks: &[Block<'_>]) {
    for (block, wanted, size) in blocks {
        let mut fields = Fields::default();
        assert_eq!(decoder.decode(&hex(block), &BOUNDS, &mut fields), Ok(true), "{block}");
        assert_eq!(list(&fields), pairs(wanted), "{block}");
        assert_eq!(decoder.size(), *size, "{block}");
    }
}

#[test]
fn numbers_are_those_of_appendix_c1() {
    for (value, first, prefix, bytes) in
        [(10, 0, 5, "0a"), (1337, 0, 5, "1f9a0a"), (42, 0, 8, "2a"), (31, 0x80, 5, "9f00")]
    {
        let mut out = Vec::new();
        integer::write(&mut out, first, prefix, value);
        assert_eq!(out, hex(bytes));
        assert_eq!(integer::read(&out, prefix), Ok((value as u32, out.len())));
    }
    assert_eq!(integer::read(&hex("1fffffffff"), 5), Err(Fault::Number));
    assert_eq!(integer::read(&hex("1fffffff"), 5), Err(Fault::Truncated));
    assert_eq!(integer::read(&hex("1fffffff7f"), 5), Ok((31 + 0x0fff_ffff, 5)));
    assert_eq!(integer::read(&[], 5), Err(Fault::Truncated));
}

#[test]
fn literals_are_those_of_appendix_c2() {
    let mut decoder = Decoder::new(TABLE);
    read_all(
        &mut decoder,
        &[
            ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", &[("custom-key", "custom-header")], 55),
            ("040c2f73616d706c652f70617468", &[(":path", "/sample/path")], 55),
            ("82", &[(":method", "GET")], 55),
        ],
    );
    let mut fields = Fields::default();
    decoder.decode(&hex("100870617373776f726406736563726574"), &BOUNDS, &mut fields).unwrap();
    let field = fields.iter().next().unwrap();
    assert_eq!((field.name, field.value, field.never), (&b"password"[..], &b"secret"[..], true));
    assert_eq!(entries(&decoder), pairs(&[("custom-key", "custom-header")]));
}

const REQUESTS: [&[(&str, &str)]; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

#[test]
fn requests_are_those_of_appendix_c3_and_c4() {
    let plain = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    let coded = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(TABLE);
        for ((block, request), size) in blocks.into_iter().zip(REQUESTS).zip([57, 110, 164]) {
            read_all(&mut decoder, &[(block, request, size)]);
        }
        assert_eq!(
            entries(&decoder),
            pairs(&[
                ("custom-key", "custom-value"),
                ("cache-control", "no-cache"),
                (":authority", "www.example.com"),
            ])
        );
    }
}

const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const DATE: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const LATER: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:22 GMT");
const LOCATION: (&str, &str) = ("location", "https://www.example.com");
const PRIVATE: (&str, &str) = ("cache-control", "private");

#[test]
fn responses_push_out_entries_as_in_appendix_c5_and_c6() {
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
         6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738\
         666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33363030\
         3b2076657273696f6e3d31",
    ];
    let coded = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff\
         6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab\
         77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    let responses: [&[(&str, &str)]; 3] = [
        &[(":status", "302"), PRIVATE, DATE, LOCATION],
        &[(":status", "307"), PRIVATE, DATE, LOCATION],
        &[(":status", "200"), PRIVATE, LATER, LOCATION, ("content-encoding", "gzip"), ("set-cookie", COOKIE)],
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(256);
        for ((block, response), size) in blocks.into_iter().zip(responses).zip([222, 222, 215]) {
            read_all(&mut decoder, &[(block, response, size)]);
        }
        let left = [("set-cookie", COOKIE), ("content-encoding", "gzip"), LATER];
        assert_eq!(entries(&decoder), pairs(&left));
    }
}

#[test]
fn strings_are_coded_as_in_appendix_c() {
    for (text, coded) in [
        ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
        ("no-cache", "a8eb10649cbf"),
        ("302", "6402"),
        ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
        ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
        ("", ""),
    ] {
        let mut out = Vec::new();
        huffman::write(text.as_bytes(), &mut out);
        assert_eq!((out.clone(), out.len()), (hex(coded), huffman::length(text.as_bytes())));
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    for (block, fault) in [
        // No entry: 0, one behind the static table, and far away.
        ("80", Fault::Index(0)),
        ("be", Fault::Index(62)),
        ("ff8001", Fault::Index(255)),
        ("7f8001", Fault::Index(191)),
        // What ends within.
        ("40", Fault::Truncated),
        ("4001", Fault::Truncated),
        ("400161", Fault::Truncated),
        ("40016105626364", Fault::Truncated),
        ("ff", Fault::Truncated),
        // Numbers without end.
        ("ffffffffffff", Fault::Number),
        ("007fffffffffff", Fault::Number),
        // Sizes: too large, and behind a header.
        ("3fe21f", Fault::TableSize(4097)),
        ("8220", Fault::LateSize),
        // Padding of zeros, of eight ones and more, and the end's code inside.
        ("0081000161", Fault::Huffman),
        ("0081ff0161", Fault::Huffman),
        ("00826402ff", Fault::Truncated),
        ("0083ffffff0161", Fault::Huffman),
        ("0084ffffffff0161", Fault::Huffman),
        ("0085fffffffffc0161", Fault::Huffman),
    ] {
        let mut fields = Fields::default();
        let read = Decoder::new(TABLE).decode(&hex(block), &BOUNDS, &mut fields);
        assert_eq!(read, Err(fault), "{block}");
    }
}

#[test]
fn a_table_of_another_size_is_told_before_the_next_block() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(TABLE));
    let field = [Field::new("x-name", "value")];
    for (sizes, wanted) in [(&[][..], 43), (&[0, 4096], 43), (&[30], 0), (&[60, 100], 43), (&[1 << 20], 43)] {
        sizes.iter().for_each(|size| encoder.allow(*size));
        let (mut block, mut fields) = (Vec::new(), Fields::default());
        encoder.encode(field.into_iter(), &mut block);
        assert_eq!(decoder.decode(&block, &BOUNDS, &mut fields), Ok(true));
        assert_eq!(list(&fields), pairs(&[("x-name", "value")]));
        assert_eq!((encoder.size(), decoder.size()), (wanted, wanted), "{sizes:?}");
    }
}

#[test]
fn what_comes_again_takes_a_byte() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(TABLE));
    let mut lengths = Vec::new();
    for n in 0..3 {
        let path = format!("/orders/{n}");
        let fields = [
            Field::new(":method", "POST"),
            Field::new(":scheme", "http"),
            Field::new(":path", &path),
            Field::new(":authority", "orders.shop:8080"),
            Field::new("content-type", "application/grpc"),
            Field::new("te", "trailers"),
            Field::new("authorization", "Bearer abcdefgh"),
        ];
        let (mut block, mut read) = (Vec::new(), Fields::default());
        encoder.encode(fields.into_iter(), &mut block);
        lengths.push(block.len());
        assert_eq!(decoder.decode(&block, &BOUNDS, &mut read), Ok(true));
        assert!(read.iter().map(|field| (field.name, field.value)).eq(fields.map(|f| (f.name, f.value))));
        assert!(read.iter().last().unwrap().never, "a secret is in no table");
    }
    // Six of the seven are an index by then; the path and the secret are not in the table.
    assert!(lengths[2] < 30 && lengths[2] < lengths[0] / 2, "{lengths:?}");
    assert!(entries(&decoder).iter().all(|(name, _)| name != ":path" && name != "authorization"));
}

#[test]
fn a_few_bytes_that_stand_for_megabytes_are_not_kept() {
    let mut decoder = Decoder::new(TABLE);
    // A header of 4000 bytes in the table, and then sixty thousand times its index.
    let mut block = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    block.extend([b'x'; 4000]);
    block.extend([0xbe; 60_000]);
    // Behind it one that the next block will name.
    block.extend(hex("400162016300"));
    block.truncate(block.len() - 1);
    let mut fields = Fields::default();
    assert_eq!(decoder.decode(&block, &BOUNDS, &mut fields), Ok(false));
    assert!(fields.size() < BOUNDS.size + 5000, "{}", fields.size());
    // The table went on: both sides still agree.
    fields.clear();
    assert_eq!(decoder.decode(&hex("be"), &BOUNDS, &mut fields), Ok(true));
    assert_eq!(list(&fields), pairs(&[("b", "c")]));
    // And so many small ones.
    fields.clear();
    assert_eq!(decoder.decode(&[0x82; 101], &BOUNDS, &mut fields), Ok(false));
    assert!(fields.len() <= BOUNDS.count + 1);
}

#[test]
fn the_static_table_is_found_by_name_and_value() {
    for (n, (name, value)) in STATIC.iter().enumerate() {
        let found = fixed(name.as_bytes(), value.as_bytes(), Marks::of(name.as_bytes(), value.as_bytes()));
        assert_eq!(found, table::Known::All(n + 1), "{name}: {value}");
        let found = fixed(name.as_bytes(), b"?", Marks::of(name.as_bytes(), b"?"));
        assert!(matches!(found, table::Known::Name(at) if STATIC[at - 1].0 == *name), "{name}");
    }
    assert_eq!(fixed(b"x", b"", Marks::of(b"x", b"")), table::Known::Nothing);
}

/// A header, of few names and values or of any.
fn header() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, bool)> {
    let name = prop_oneof![
        prop::sample::select(vec![&b":status"[..], b"accept", b"date", b"x-id", b"cookie"])
            .prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..40),
    ];
    let value = prop_oneof![
        prop::sample::select(vec![&b""[..], b"200", b"a", b"gzip, deflate"]).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..600),
    ];
    (name, value, prop::bool::weighted(0.1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_again(
        blocks in prop::collection::vec((prop::option::of(0..6000_usize), prop::collection::vec(header(), 0..8)), 1..12)
    ) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::new(TABLE));
        for (size, headers) in blocks {
            if let Some(size) = size {
                encoder.allow(size);
            }
            let fields = headers.iter().map(|(name, value, never)| Field { name, value, never: *never });
            let (mut block, mut read) = (Vec::new(), Fields::default());
            encoder.encode(fields.clone(), &mut block);
            let bounds = Bounds { size: usize::MAX, count: usize::MAX };
            prop_assert_eq!(decoder.decode(&block, &bounds, &mut read), Ok(true));
            prop_assert_eq!(read.len(), headers.len());
            for (read, sent) in read.iter().zip(fields) {
                prop_assert_eq!((read.name, read.value), (sent.name, sent.value));
                prop_assert!(read.never || !sent.never, "what is in no table stays so");
            }
            prop_assert_eq!(encoder.size(), decoder.size());
        }
    }

    #[test]
    fn strings_are_read_again(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut coded, mut read) = (Vec::new(), Vec::new());
        huffman::write(&bytes, &mut coded);
        prop_assert_eq!(coded.len(), huffman::length(&bytes));
        prop_assert_eq!(huffman::read(&coded, &mut read), Ok(()));
        prop_assert_eq!(read, bytes);
    }

    #[test]
    fn a_code_is_the_only_one_of_its_string(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut read = Vec::new();
        if huffman::read(&bytes, &mut read).is_ok() {
            let mut coded = Vec::new();
            huffman::write(&read, &mut coded);
            prop_assert_eq!(coded, bytes);
        }
    }
}
