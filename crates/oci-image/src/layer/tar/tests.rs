use std::io::BufReader;

use proptest::prelude::*;

use super::*;

fn read_all(bytes: &[u8], buffer: usize) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(BufReader::with_capacity(buffer, bytes));
    let mut entries = Vec::new();
    while reader.next()? {
        let mut data = Vec::new();
        loop {
            let part = reader.data()?.to_vec();
            if part.is_empty() {
                break;
            }
            reader.consume(part.len());
            data.extend(part);
        }
        entries.push((reader.entry().clone(), data));
    }
    reader.drain()?;
    Ok(entries)
}

/// A header block with its checksum, fields given by position.
pub(crate) fn block(fields: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0_u8; BLOCK];
    let defaults: [(usize, &[u8]); 5] = [
        (100, b"0000644\0"),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"00000000000\0"),
        (257, b"ustar\x0000"),
    ];
    for (at, bytes) in defaults.iter().chain(fields) {
        block[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn padded(data: &[u8]) -> Vec<u8> {
    let mut out = data.to_vec();
    out.resize(data.len().next_multiple_of(BLOCK), 0);
    out
}

fn octal(n: usize) -> Vec<u8> {
    format!("{n:011o}\0").into_bytes()
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|n| *n == rest + n.to_string().len()).unwrap();
        data.extend(format!("{length} {key}={value}\n").into_bytes());
    }
    [block(&[(0, b"pax"), (156, b"x"), (124, &octal(data.len()))]), padded(&data)].concat()
}

fn any_header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let name = "[a-zé/._ -]{1,300}".prop_filter("no type by its slash", |n| !n.ends_with('/'));
    let kind = prop_oneof![
        3 => Just(Kind::File),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::HardLink),
        1 => Just(Kind::Char),
        1 => Just(Kind::Fifo),
    ];
    let time = (-5_000_000_000_i64..50_000_000_000, 0..1_000_000_000_u32);
    let xattrs = prop::collection::btree_map("[a-z.]{1,30}", prop::collection::vec(any::<u8>(), 0..50), 0..3);
    let ids = (0..u32::MAX, 0..u32::MAX, 0..0o10000_u32);
    let data = prop::collection::vec(any::<u8>(), 0..2000);
    (name, "[a-z/.]{1,300}", kind, time, xattrs, ids, data).prop_map(
        |(path, link, kind, time, xattrs, ids, data)| {
            let data = if kind == Kind::File { data } else { Vec::new() };
            let links = matches!(kind, Kind::Symlink | Kind::HardLink);
            let header = Header {
                path: path.into_bytes(),
                link: if links { link.into_bytes() } else { Vec::new() },
                kind,
                mode: ids.2,
                uid: ids.0,
                gid: ids.1,
                size: data.len() as u64,
                mtime: Time { seconds: time.0, nanoseconds: time.1 },
                device: if kind == Kind::Char { (5, 300) } else { (0, 0) },
                xattrs: xattrs.into_iter().map(|(n, v)| (n.into_bytes(), v)).collect(),
            };
            (header, data)
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(items in prop::collection::vec(any_header(), 0..6), buffer in 1..2000_usize) {
        let mut writer = Writer::new(Vec::new());
        for (header, data) in &items {
            writer.append(header, &mut data.as_slice()).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let read = read_all(&bytes, buffer).unwrap();
        prop_assert_eq!(read.len(), items.len());
        for ((header, data), (entry, bytes)) in items.iter().zip(&read) {
            prop_assert_eq!(&header.path, &entry.path);
            prop_assert_eq!(&header.link, &entry.link);
            prop_assert_eq!(header.kind, entry.kind);
            prop_assert_eq!((header.mode, header.uid, header.gid), (entry.mode, entry.uid, entry.gid));
            prop_assert_eq!(header.mtime, entry.mtime);
            prop_assert_eq!(header.device, entry.device);
            prop_assert_eq!(&header.xattrs, &entry.xattrs);
            prop_assert_eq!(data, bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read_all(&bytes, 100);
    }

    #[test]
    fn a_damaged_tar_is_read_or_refused(at in 0..4096_usize, value in any::<u8>()) {
        let mut tar = pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "9000")]);
        tar.extend(block(&[(0, b"sparse"), (124, &octal(512 + 3)), (156, b"0")]));
        tar.extend(padded(b"1\n4096\n3\n"));
        tar.extend(padded(b"abc"));
        tar.extend(block(&[(0, b"old"), (124, &octal(3)), (156, b"S"), (257, b"ustar  \0"),
            (386, b"00000001000\x0000000000003\0"), (483, b"00000002000\0")]));
        tar.extend(padded(b"abc"));
        tar.extend([0; 1024]);
        if let Some(byte) = tar.get_mut(at) {
            *byte = value;
        }
        let _ = read_all(&tar, 700);
    }
}

#[test]
fn a_tar_cut_anywhere_is_an_error_or_shorter() {
    let mut writer = Writer::new(Vec::new());
    for name in ["a", "b"] {
        writer.append(&Header::file(name, 0o644, 700), &mut [7; 700].as_slice()).unwrap();
    }
    let bytes = writer.finish().unwrap();
    for cut in 0..bytes.len() {
        match read_all(&bytes[..cut], 333) {
            Ok(entries) => assert!(cut % BLOCK == 0 && entries.iter().all(|(_, d)| d.len() == 700), "{cut}"),
            Err(Error::Truncated { .. }) => {}
            Err(e) => panic!("{cut}: {e}"),
        }
    }
}

#[test]
fn gnu_long_names_and_links() {
    let long = "d/".repeat(100) + "file";
    let mut tar =
        block(&[(0, b"././@LongLink"), (124, &octal(long.len() + 1)), (156, b"L"), (257, b"ustar  \0")]);
    tar.extend(padded(format!("{long}\0").as_bytes()));
    tar.extend(block(&[
        (0, b"././@LongLink"),
        (124, &octal(long.len() + 1)),
        (156, b"K"),
        (257, b"ustar  \0"),
    ]));
    tar.extend(padded(format!("{long}\0").as_bytes()));
    tar.extend(block(&[(0, b"short"), (157, b"short"), (156, b"2"), (257, b"ustar  \0")]));
    let read = read_all(&tar, 4096).unwrap();
    assert_eq!(read[0].0.path, long.as_bytes());
    assert_eq!(read[0].0.link, long.as_bytes());
}

#[test]
fn every_kind_of_sparse_map() {
    let expected = Some((0o2000, vec![Span { offset: 0o1000, length: 3 }]));
    let mut old = block(&[
        (0, b"f"),
        (124, &octal(3)),
        (156, b"S"),
        (257, b"ustar  \0"),
        (386, b"00000001000\x0000000000003\0"),
        (483, b"00000002000\0"),
    ]);
    old.extend(padded(b"abc"));
    let one = |records: &[(&str, &str)]| {
        [pax(records), block(&[(0, b"x"), (124, &octal(3)), (156, b"0")]), padded(b"abc")].concat()
    };
    let v00 = one(&[
        ("GNU.sparse.size", "1024"),
        ("GNU.sparse.numblocks", "1"),
        ("GNU.sparse.offset", "512"),
        ("GNU.sparse.numbytes", "3"),
        ("path", "f"),
    ]);
    let v01 = one(&[("GNU.sparse.size", "1024"), ("GNU.sparse.name", "f"), ("GNU.sparse.map", "512,3")]);
    let mut v10 = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "f"),
        ("GNU.sparse.realsize", "1024"),
    ]);
    v10.extend(block(&[(0, b"x"), (124, &octal(BLOCK + 3)), (156, b"0")]));
    v10.extend(padded(b"1\n512\n3\n"));
    v10.extend(padded(b"abc"));
    for (what, tar) in [("old", old), ("0.0", v00), ("0.1", v01), ("1.0", v10)] {
        let read = read_all(&tar, 100).unwrap();
        assert_eq!(read[0].0.sparse, expected, "{what}");
        assert_eq!(
            (read[0].0.path.as_slice(), read[0].1.as_slice()),
            (b"f".as_slice(), b"abc".as_slice()),
            "{what}"
        );
    }
    for map in ["512,4", "512,2", "1023,3", "512,1,512,2", "512", "a,b", "18446744073709551615,3"] {
        let bad = one(&[("GNU.sparse.size", "1024"), ("GNU.sparse.name", "f"), ("GNU.sparse.map", map)]);
        assert!(read_all(&bad, 100).is_err(), "{map}");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let huge = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let table: Vec<(&str, Vec<u8>)> = vec![
        ("negative size", block(&[(0, b"f"), (124, &[0xff; 12]), (156, b"0")])),
        ("size beyond 63 bits", block(&[(0, b"f"), (124, &huge), (156, b"0")])),
        ("size not octal", block(&[(0, b"f"), (124, b"99999999999\0"), (156, b"0")])),
        ("uid -1", block(&[(0, b"f"), (108, &[0xff; 8]), (156, b"0")])),
        ("uid 4294967295", [pax(&[("uid", "4294967295")]), block(&[(0, b"f"), (156, b"0")])].concat()),
        ("NUL in path", [pax(&[("path", "a\0b")]), block(&[(0, b"f"), (156, b"0")])].concat()),
        ("unknown type", block(&[(0, b"f"), (156, b"Z")])),
        ("a long name of 2 MB", block(&[(0, b"l"), (124, &octal(2 << 20)), (156, b"L")])),
        ("a PAX header of 8 GB", block(&[(0, b"l"), (124, b"77777777777\0"), (156, b"x")])),
        ("a lone zero block", [vec![0; BLOCK], block(&[(0, b"f"), (156, b"0")])].concat()),
        (
            "an unknown character set",
            [pax(&[("hdrcharset", "EBCDIC")]), block(&[(0, b"f"), (156, b"0")])].concat(),
        ),
    ];
    for (what, tar) in table {
        assert!(read_all(&tar, 512).is_err(), "{what}");
    }
    let mut damaged = block(&[(0, b"f"), (156, b"0")]);
    damaged[0] = b'g';
    assert!(read_all(&damaged, 512).unwrap_err().to_string().contains("checksum"));
}

#[test]
fn base_256_numbers_and_global_headers() {
    let uid = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff];
    let mut mtime = [0xff; 12];
    mtime[11] = 0xfe;
    let read = read_all(&block(&[(0, b"f"), (108, &uid), (136, &mtime), (156, b"0")]), 512).unwrap();
    assert_eq!((read[0].0.uid, read[0].0.mtime.seconds), (0x7fff_ffff, -2));
    let mut global = pax(&[("uid", "7"), ("comment", "by git")]);
    global[156] = b'g';
    let sum: u32 = global[..BLOCK]
        .iter()
        .enumerate()
        .map(|(i, &b)| if (148..156).contains(&i) { 32 } else { u32::from(b) })
        .sum();
    global[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let read =
        read_all(&[global, block(&[(0, b"a"), (156, b"0")]), block(&[(0, b"b"), (156, b"0")])].concat(), 512)
            .unwrap();
    assert_eq!((read[0].0.uid, read[1].0.uid), (7, 7));
}

#[test]
fn libarchive_attributes_are_decoded() {
    let tar = [pax(&[("LIBARCHIVE.xattr.user.a%20b", "aGk")]), block(&[(0, b"f"), (156, b"0")])].concat();
    assert_eq!(read_all(&tar, 512).unwrap()[0].0.xattrs, vec![(b"user.a b".to_vec(), b"hi".to_vec())]);
}
