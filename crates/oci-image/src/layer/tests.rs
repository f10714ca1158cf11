//! Layers, honest and not, unpacked into temporary directories. These need root, as the product does: devices, owners
//! and trusted attributes cannot be made otherwise.

use std::{
    fs,
    io::{BufReader, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    tar::{Header, Kind, Reader, Time, Writer},
    *,
};
use crate::contract::Algorithm;

fn entry(path: &str, kind: Kind) -> Header {
    Header { path: path.into(), kind, mode: 0o755, ..Header::default() }
}

fn link(path: &str, target: &str, kind: Kind) -> Header {
    Header { link: target.into(), ..entry(path, kind) }
}

fn file(path: &str, data: &str) -> (Header, Vec<u8>) {
    (Header::file(path, 0o644, data.len() as u64), data.into())
}

fn bare(header: Header) -> (Header, Vec<u8>) {
    (header, Vec::new())
}

fn archive(items: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (header, data) in items {
        writer.append(header, &mut data.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

/// Unpacks into `outer/layer`, beside which nothing may appear.
fn run(items: &[(Header, Vec<u8>)]) -> (TempDir, Result<Unpacked>) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let outer = tempfile::tempdir().unwrap();
    fs::set_permissions(outer.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let root = outer.path().join("layer");
    fs::create_dir(&root).unwrap();
    let bytes = archive(items);
    let mut reader = Reader::new(BufReader::new(bytes.as_slice()));
    let result = unpack(&mut reader, open_root(&root).unwrap(), &Limits::default());
    (outer, result)
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_char_device() && m.rdev() == 0)
}

fn is_opaque(path: &Path) -> bool {
    let mut value = [0; 8];
    rustix::fs::lgetxattr(path, c"trusted.overlay.opaque", value.as_mut_slice())
        .is_ok_and(|n| &value[..n] == b"y")
}

#[test]
fn everything_a_layer_can_hold() {
    let mut setuid = file("usr/bin/su", "elf");
    setuid.0.mode = 0o4755;
    setuid.0.mtime = Time { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
    let mut owned = file("home/u/f", "data");
    (owned.0.uid, owned.0.gid, owned.0.mode) = (1000, 1001, 0o666);
    owned.0.xattrs = vec![
        (b"user.note".to_vec(), b"hi".to_vec()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"security.capability".to_vec(), b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()),
    ];
    let mut shared = entry("srv", Kind::Directory);
    (shared.mode, shared.gid, shared.mtime.seconds) = (0o2775, 50, 1000);
    let mut null = entry("dev/null", Kind::Char);
    (null.device, null.mode) = ((1, 3), 0o666);
    let (outer, result) = run(&[
        bare(shared),
        file("srv/inside", "x"),
        setuid,
        owned,
        bare(link("usr/bin/sudo", "usr/bin/su", Kind::HardLink)),
        bare(link("bin", "usr/bin", Kind::Symlink)),
        bare(link("escape", "/etc/passwd", Kind::Symlink)),
        bare(null),
        bare(entry("run/fifo", Kind::Fifo)),
        file("a/.wh.gone", ""),
        file("b/.wh..wh..opq", ""),
        file(".wh..wh.plnk/1.2", ""),
    ]);
    let unpacked = result.unwrap();
    let root = outer.path().join("layer");
    let meta = |p: &str| fs::symlink_metadata(root.join(p)).unwrap();
    assert_eq!(meta("usr/bin/su").mode() & 0o7777, 0o4755);
    assert_eq!((meta("usr/bin/su").mtime(), meta("usr/bin/su").mtime_nsec()), (1_234_567_890, 123_456_789));
    assert_eq!(meta("usr/bin/su").ino(), meta("usr/bin/sudo").ino());
    assert_eq!(
        (meta("home/u/f").uid(), meta("home/u/f").gid(), meta("home/u/f").mode() & 0o777),
        (1000, 1001, 0o666)
    );
    let mut value = [0; 64];
    let path = root.join("home/u/f");
    assert_eq!(rustix::fs::lgetxattr(&path, c"security.capability", value.as_mut_slice()).unwrap(), 20);
    assert!(rustix::fs::lgetxattr(&path, c"trusted.overlay.redirect", value.as_mut_slice()).is_err());
    assert_eq!((meta("srv").mode() & 0o7777, meta("srv").gid(), meta("srv").mtime()), (0o2775, 50, 1000));
    assert_eq!(
        meta("srv/inside").gid(),
        0,
        "a set-group-id directory must not hand its group on while unpacking"
    );
    assert_eq!(fs::read_link(root.join("escape")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(
        (meta("dev/null").rdev(), meta("dev/null").mode() & 0o777),
        (rustix::fs::makedev(1, 3), 0o666)
    );
    assert!(meta("run/fifo").file_type().is_fifo());
    assert!(is_whiteout(&root.join("a/gone")) && is_opaque(&root.join("b")));
    assert!(!root.join(".wh..wh.plnk").exists());
    assert_eq!(unpacked.dropped_xattrs, 1);
    let implied: Vec<_> = unpacked.implied.iter().map(|p| String::from_utf8_lossy(p).into_owned()).collect();
    assert_eq!(implied, ["a", "b", "dev", "home", "home/u", "run", "usr", "usr/bin"]);
}

#[test]
fn names_that_lead_out_are_refused() {
    let table = [
        ("../x", file("../x", "")),
        ("a/../../x", file("a/../../x", "")),
        ("..", bare(entry("..", Kind::Directory))),
        ("link to ../x", bare(link("a", "../../etc/passwd", Kind::HardLink))),
        ("link to /etc/passwd", bare(link("a", "/etc/passwd", Kind::HardLink))),
        ("bare whiteout", file("d/.wh.", "")),
        ("whiteout of ..", file("d/.wh...", "")),
        ("root as a file", file("./", "x")),
        ("link to the root", bare(link("a", "/", Kind::HardLink))),
        ("too long", file(&"x/".repeat(2100), "")),
        ("too deep", file(&"x/".repeat(300), "")),
        ("link to nothing", bare(link("a", "", Kind::Symlink))),
    ];
    for (what, item) in table {
        let (outer, result) = run(&[item]);
        // The type of `./` is told by its slash.
        if what != "root as a file" {
            assert!(result.is_err(), "{what}");
        }
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn links_are_never_followed_out() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("victim"), "safe").unwrap();
    let target = outside.path().to_str().unwrap();
    let (outer, result) = run(&[
        bare(link("out", target, Kind::Symlink)),
        bare(link("up", "../../../../../../../../..", Kind::Symlink)),
        bare(link("chain", "up", Kind::Symlink)),
        file("out/victim", "pwned"),
        file("up/escaped", "x"),
        file(&format!("chain{target}/victim"), "pwned"),
        file("out/.wh.victim", ""),
        bare(link("loot", "out/victim", Kind::HardLink)),
    ]);
    let root = outer.path().join("layer");
    // Whatever they came to inside the layer, outside nothing changed.
    result.unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "safe");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(root.join("escaped")).unwrap(), "x");
    assert_eq!(
        fs::read_to_string(root.join(target.trim_start_matches('/')).join("victim")).unwrap(),
        "pwned"
    );
    assert!(!Path::new("/escaped").exists());
    let (_outer, result) =
        run(&[bare(link("a", "b", Kind::Symlink)), bare(link("b", "a", Kind::Symlink)), file("a/x", "")]);
    assert!(result.is_err(), "a loop");
}

#[test]
fn a_directory_that_becomes_a_link_is_not_written_through() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let (_outer, result) = run(&[
        bare(entry("d", Kind::Directory)),
        file("d/one", "1"),
        bare(link("d", target, Kind::Symlink)),
        file("d/two", "2"),
    ]);
    result.unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    let before = fs::metadata(outside.path()).unwrap().mtime();
    assert_ne!(before, 0, "the time kept for the directory must not go to what the link leads to");
}

#[test]
fn later_entries_replace_earlier_ones() {
    let (outer, result) = run(&[
        file("f", "old"),
        bare(entry("d", Kind::Directory)),
        file("d/x", "x"),
        file("f", "new"),
        file("d", "a file now"),
        file("g", "a file"),
        file("g/below", "not a directory"),
    ]);
    assert!(result.is_err(), "nothing goes below a file");
    let root = outer.path().join("layer");
    assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "new");
    assert_eq!(fs::read_to_string(root.join("d")).unwrap(), "a file now");
    let (outer, result) = run(&[
        file("f", "data"),
        bare(link("f", "f", Kind::HardLink)),
        bare(link("h", "f", Kind::HardLink)),
        bare(link("h", "f", Kind::HardLink)),
    ]);
    result.unwrap();
    assert_eq!(fs::read_to_string(outer.path().join("layer/h")).unwrap(), "data");
}

#[test]
fn whiteouts_hide_lower_layers_and_not_their_own() {
    let (outer, result) = run(&[
        file(".wh.first", ""),
        bare(entry("first", Kind::Directory)),
        bare(entry("second", Kind::Directory)),
        file("second/kept", "x"),
        file(".wh.second", ""),
        file("third", "x"),
        file(".wh.third", ""),
        file("fourth", "x"),
        bare(entry("fourth", Kind::Directory)),
    ]);
    result.unwrap();
    let root = outer.path().join("layer");
    for directory in ["first", "second", "fourth"] {
        assert!(root.join(directory).is_dir() && is_opaque(&root.join(directory)), "{directory}");
    }
    assert!(root.join("second/kept").is_file() && root.join("third").is_file());
}

#[test]
fn sparse_files_keep_their_holes() {
    let outer = tempfile::tempdir().unwrap();
    // GNU's oldest form: 3 bytes of data at 1 MiB in a file of 16 MiB.
    let mut tar = tar_block(&[
        (0, b"f"),
        (124, b"00000000003\0"),
        (156, b"S"),
        (257, b"ustar  \0"),
        (386, b"00004000000\x0000000000003\0"),
        (483, b"00100000000\0"),
    ]);
    tar.extend(b"abc");
    tar.resize(2048, 0);
    let mut reader = Reader::new(BufReader::new(tar.as_slice()));
    unpack(&mut reader, open_root(outer.path()).unwrap(), &Limits::default()).unwrap();
    let meta = fs::metadata(outer.path().join("f")).unwrap();
    assert_eq!(meta.len(), 16 << 20);
    assert!(meta.blocks() * 512 < 1 << 20);
    assert_eq!(&fs::read(outer.path().join("f")).unwrap()[1 << 20..(1 << 20) + 3], b"abc");
}

use super::tar::block as tar_block;

#[test]
fn too_many_entries_are_a_bomb() {
    let outer = tempfile::tempdir().unwrap();
    let bytes = archive(&[file("a", ""), file("b", ""), file("c", "")]);
    let mut reader = Reader::new(BufReader::new(bytes.as_slice()));
    let limits = Limits { entries: 2, ..Limits::default() };
    let error = unpack(&mut reader, open_root(outer.path()).unwrap(), &limits).unwrap_err();
    assert!(error.to_string().contains("more than 2 entries"), "{error}");
}

fn inflated(bytes: &[u8], limit: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    std::io::copy(&mut Inflate::new(bytes, Algorithm::Sha256, limit), &mut out)?;
    Ok(out)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn streams_of_every_kind_inflate() {
    let data: Vec<u8> = (0..900_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
    let zstd = zstd::bulk::compress(&data, 3).unwrap();
    let members = [gzip(&data[..1000]), gzip(b""), gzip(&data[1000..])].concat();
    let frames =
        [zstd::bulk::compress(&data[..1000], 3).unwrap(), zstd::bulk::compress(&data[1000..], 3).unwrap()]
            .concat();
    for (what, bytes) in [
        ("plain", data.clone()),
        ("gzip", gzip(&data)),
        ("members", members.clone()),
        ("members, padded", [members, vec![0; 70_000]].concat()),
        ("zstd", zstd),
        ("frames", frames.clone()),
        ("frames, padded", [frames, vec![0; 512]].concat()),
    ] {
        assert!(inflated(&bytes, u64::MAX).unwrap() == data, "{what}");
    }
    assert_eq!(inflated(b"", 10).unwrap(), b"");
    assert_eq!(inflated(b"ab", 10).unwrap(), b"ab");
}

#[test]
fn broken_streams_are_refused() {
    let data = vec![42; 300_000];
    for whole in [gzip(&data), zstd::bulk::compress(&data, 3).unwrap()] {
        for cut in [5, whole.len() / 2, whole.len() - 1] {
            assert!(inflated(&whole[..cut], u64::MAX).is_err(), "cut at {cut} of {}", whole.len());
        }
        assert!(inflated(&[whole.clone(), b"trailing garbage".to_vec()].concat(), u64::MAX).is_err());
        assert!(inflated(&[whole.clone(), vec![0, 0, 1]].concat(), u64::MAX).is_err());
        let error = inflated(&whole, 100_000).unwrap_err().to_string();
        assert!(error.contains("more than 100000 bytes"), "{error}");
    }
}

fn any_name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just(String::new()),
        Just(".wh.a".to_owned()),
        Just(".wh..wh..opq".to_owned()),
        "[abc]",
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn any_item() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::HardLink),
        Just(Kind::Fifo)
    ];
    (any_name(), kind, prop_oneof![any_name(), any_name().prop_map(|n| format!("/{n}"))]).prop_map(
        |(path, kind, target)| {
            let mut header = link(&path, &target, kind);
            header.mtime.seconds = 77;
            header.size = if kind == Kind::File { 1 } else { 0 };
            (header, if kind == Kind::File { vec![b'x'] } else { Vec::new() })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_layer_leaves_its_directory(items in prop::collection::vec(any_item(), 1..12)) {
        let (outer, _result) = run(&items);
        let names: Vec<_> = fs::read_dir(outer.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        prop_assert_eq!(names, vec!["layer"]);
        for name in ["a", "b", "c"] {
            prop_assert!(!Path::new("/").join(name).exists());
        }
        prop_assert_ne!(fs::metadata(outer.path()).unwrap().mtime(), 77);
        prop_assert_ne!(fs::metadata("/").unwrap().mtime(), 77);
        prop_assert_eq!(fs::metadata(outer.path()).unwrap().permissions().mode() & 0o777, 0o711);
    }
}

#[test]
fn what_was_unpacked_twice_is_the_same_and_nothing_else_is() {
    use std::os::fd::AsFd;
    let mut device = bare(entry("dev/null", Kind::Char));
    device.0.device = (1, 3);
    let mut owned = file("home/f", "data");
    (owned.0.uid, owned.0.gid, owned.0.mode) = (1000, 1001, 0o4711);
    owned.0.mtime = Time { seconds: 1_234_567_890, nanoseconds: 123_456_789 };
    let mut alone = owned.clone();
    alone.0.path = b"home/alone".to_vec();
    let items = [
        owned,
        alone,
        bare(link("home/again", "home/f", Kind::HardLink)),
        bare(link("home/other", "home/alone", Kind::HardLink)),
        bare(link("home/s", "f", Kind::Symlink)),
        device,
        bare(entry("pipe", Kind::Fifo)),
        file("gone/.wh.x", ""),
        file("opaque/.wh..wh..opq", ""),
        bare(entry("opaque", Kind::Directory)),
    ];
    let unpacked = |harm: &dyn Fn(&Path)| {
        let (outer, result) = run(&items);
        harm(&outer.path().join("layer"));
        (open_root(&outer.path().join("layer")).unwrap(), outer, result.unwrap())
    };
    let compared = |harm: &dyn Fn(&Path)| {
        let (expected, _outer, told) = unpacked(&|_| ());
        let (found, _other, _) = unpacked(harm);
        let implied = told.implied.into_iter().collect();
        let untold = Untold { implied: &implied, root: !told.root };
        compare(expected.as_fd(), found.as_fd(), &untold).unwrap()
    };
    assert_eq!(compared(&|_| ()), Differences::default());
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let harms: [Harm<'_>; 5] = [
        ("/opaque differs in its extended attribute trusted.overlay.opaque", &|root| {
            rustix::fs::lremovexattr(root.join("opaque"), c"trusted.overlay.opaque").unwrap();
        }),
        ("/gone/x is missing", &|root| fs::remove_file(root.join("gone/x")).unwrap()),
        ("/home/again is missing", &|root| fs::remove_file(root.join("home/again")).unwrap()),
        ("/home/f is a file of its own, and a hard link in the layer", &|root| {
            let home = |name: &str| root.join("home").join(name);
            fs::remove_file(home("again")).unwrap();
            fs::remove_file(home("other")).unwrap();
            fs::hard_link(home("f"), home("other")).unwrap();
            fs::hard_link(home("alone"), home("again")).unwrap();
        }),
        ("its kind is a file, and a whiteout", &|root| {
            fs::remove_file(root.join("gone/x")).unwrap();
            fs::write(root.join("gone/x"), "").unwrap();
        }),
    ];
    for (wanted, harm) in harms {
        let first = compared(harm).first.unwrap_or_default();
        assert!(first.contains(wanted), "{first}");
    }
}
