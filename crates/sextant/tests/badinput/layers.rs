//! Layers that want out, that lie, and that never end.

use std::fs;
use std::path::Path;

use flate2::Compression;
use oci_image::layer::tar::Header;

use crate::image::{Image, Layer, entries_of, files, gzip, hard_link, noise};
use crate::place::Place;
use crate::registry::Registry;

fn image(layer: Layer) -> Image {
    Image::new(&[layer])
}

#[test]
fn names_that_lead_out_are_refused_by_name() {
    let place = Place::new();
    for path in ["../../escaped", "a/../../../escaped", "..", "a/.."] {
        let registry = Registry::of(image(files(&[(path, b"out")])));
        place.refuses(&registry, &["cannot unpack layer sha256:", &format!("{path:?}"), "`..`"]);
    }
    // An absolute name is one below the layer's root, as every unpacker has it.
    let registry = Registry::of(image(files(&[("/etc/greeting", b"absolute")])));
    let name = registry.name("bad");
    place.site.ok(&["pull", "-q", "--plain-http", &name]);
    place.is_whole(&name, "absolute");
    place.site.ok(&["rmi", &name]);
}

#[test]
fn links_that_lead_out_lead_nowhere() {
    let place = Place::new();
    let outside = place.site.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "mine").unwrap();
    let target = outside.to_str().unwrap();
    // Through an absolute link, a relative one, and a chain: all of it stays below the layer's root or fails.
    for link in [target, "/", "../../../../../../../..", "other"] {
        let layer = entries_of(&[
            (Header::symlink("other", target), b""),
            (Header::symlink("way", link), b""),
            (Header::file("way/planted", 0o644, 3), b"out"),
            (Header::file("way/secret", 0o644, 3), b"out"),
        ]);
        let registry = Registry::of(image(layer));
        let ended = place.site.run(&["pull", "-q", "--plain-http", &registry.name("bad")]);
        assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "mine", "{link}: {ended:?}");
        assert!(!outside.join("planted").exists() && !Path::new("/planted").exists(), "{link}: {ended:?}");
        if ended.code == 0 {
            place.site.ok(&["rmi", &registry.name("bad")]);
            place.site.ok(&["prune", "-af"]);
        } else {
            assert!(ended.err.contains("cannot unpack layer") && ended.err.contains("way"), "{ended:?}");
        }
        place.nothing_is_left();
        place.goes_on(&registry);
    }
}

#[test]
fn hard_links_to_the_outside_are_refused() {
    let place = Place::new();
    let outside = place.site.path("outside");
    fs::write(&outside, "mine").unwrap();
    let absolute = outside.to_str().unwrap();
    for (target, words) in [
        ("../../../outside", "`..`"),
        (absolute, "this layer does not have"),
        ("/etc/passwd", "this layer does not have"),
        ("way/passwd", "this layer does not have"),
    ] {
        let layer = entries_of(&[(Header::symlink("way", "/etc"), b""), (hard_link("link", target), b"")]);
        place.refuses(&Registry::of(image(layer)), &["cannot unpack layer", words]);
    }
    use std::os::unix::fs::MetadataExt;
    assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1);
}

#[test]
fn what_is_not_what_its_digest_says_is_refused_and_not_kept() {
    let place = Place::new();
    let whole = || files(&[("f", &noise(200_000, 1))]);
    let registry = Registry::of(image(whole()).change_layer(|blob| blob[100] ^= 1));
    place.refuses(&registry, &["cannot accept blob sha256:", "what came has the digest sha256:"]);
    // The blob is right, and unpacks to something else than the configuration promised.
    let other = Layer { tar: files(&[("g", b"g")]).tar, ..whole() };
    place.refuses(
        &Registry::of(image(other)),
        &["cannot accept layer sha256:", "the configuration says sha256:"],
    );
}

#[test]
fn broken_compression_is_told() {
    let place = Place::new();
    let whole = files(&[("f", &noise(200_000, 2))]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut layer = Layer { blob: whole.blob.clone(), tar: whole.tar.clone() };
        change(&mut layer.blob);
        Registry::of(image(layer))
    };
    place.refuses(&changed(&|blob| blob.truncate(blob.len() - 1000)), &["cannot unpack layer", "cut short"]);
    place.refuses(&changed(&|blob| blob.truncate(3)), &["cannot unpack layer"]);
    place.refuses(
        &changed(&|blob| blob.extend(b"\0\0garbage")),
        &["cannot unpack layer", "bytes behind the compressed data"],
    );
    place.refuses(&changed(&|blob| blob.extend(b"garbage")), &["cannot unpack layer", "belong to no member"]);
    place.refuses(&changed(&|blob| *blob = noise(5000, 3)), &["cannot unpack layer", "checksum"]);
    place.refuses(&changed(&|blob| blob.clear()), &["cannot"]);
}

#[test]
fn a_bomb_is_defused_at_the_limit() {
    let place = Place::new();
    // 5 GiB of zeros in a file that AUFS kept for itself: nothing of it reaches the disk, all of it is inflated.
    const PIECE: usize = 64 << 20;
    let pieces = 80;
    let mut tar = files(&[(".wh..wh.bomb", b"")]).tar;
    let size = format!("{:011o}\0", PIECE * pieces);
    tar.truncate(512);
    tar[124..136].copy_from_slice(size.as_bytes());
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar.iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let piece = gzip(&vec![0; PIECE], Compression::best());
    let blob = [gzip(&tar, Compression::fast()), piece.repeat(pieces)].concat();
    assert!(blob.len() < 10 << 20);
    let registry = Registry::of(image(Layer { blob, tar }));
    place.refuses(&registry, &["cannot unpack layer", "4294967296 bytes", "decompression bomb"]);
}
