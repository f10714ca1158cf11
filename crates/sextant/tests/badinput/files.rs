//! Archives and configuration files that are not what they should be.

use std::fs;
use std::io::Write;

use oci_image::contract::Digest;
use oci_image::layer::tar::Header;

use crate::image::{Layer, entries_of, files, gzip, noise};
use crate::place::Place;
use crate::registry::Registry;

/// A tar of these files.
fn archive(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(path, data)| (Header::file(path, 0o644, data.len() as u64), data.as_slice()))
        .collect();
    entries_of(&entries).tar
}

/// What `docker save` writes for an image with this layer, under the name `x:1`.
fn docker(layer: &Layer) -> Vec<(&'static str, Vec<u8>)> {
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::sha256(&layer.tar)
    );
    vec![
        ("manifest.json", br#"[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]"#.to_vec()),
        ("c.json", config.into_bytes()),
        ("l.tar", layer.blob.clone()),
    ]
}

/// The archive is refused with all of `words`, from a file and from standard input; then a good one is loaded.
#[track_caller]
fn refused(place: &Place, bytes: &[u8], words: &[&str]) {
    let path = place.site.path("archive.tar");
    fs::write(&path, bytes).unwrap();
    let text = path.to_str().unwrap();
    place.ends(1, &["load", "-q", "-i", text], &[words, &[&format!("cannot load {text}")]].concat());
    let mut load = place.site.command(&["load", "-q"]);
    let piped = std::process::Stdio::piped;
    let mut load = load.stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    // It may have seen enough.
    let _ = load.stdin.take().unwrap().write_all(bytes);
    let ended = crate::site::ended(load.wait_with_output().unwrap());
    assert!(ended.code == 1 && ended.err.starts_with("sextant: cannot load standard input: "), "{ended:?}");
    place.nothing_is_left();
    let good = docker(&files(&[("etc/greeting", b"hello")]));
    fs::write(&path, archive(&good)).unwrap();
    place.site.ok(&["load", "-q", "-i", text]);
    place.is_whole("docker.io/library/x:1", "hello");
    place.site.ok(&["rmi", "x:1"]);
    place.site.ok(&["prune", "-af"]);
}

#[test]
fn archives_that_lie_are_refused() {
    let place = Place::new();
    let layer = files(&[("f", &noise(20_000, 9))]);
    let whole = docker(&layer);
    let changed = |at: usize, bytes: &[u8]| {
        let mut entries = whole.clone();
        entries[at].1 = bytes.to_vec();
        archive(&entries)
    };
    refused(&place, b"", &["neither index.json nor manifest.json"]);
    refused(&place, &noise(5000, 1), &["cannot read the archive"]);
    refused(&place, &archive(&whole[1..]), &["neither index.json nor manifest.json"]);
    refused(&place, &archive(&whole[..2]), &["\"l.tar\""]);
    refused(&place, &changed(0, b"[{"), &["manifest.json"]);
    refused(&place, &changed(0, &vec![b' '; 5 << 20]), &["manifest.json"]);
    refused(&place, &changed(0, br#"[{"Config":"../../etc/passwd","Layers":[]}]"#), &["../../etc/passwd"]);
    refused(&place, &changed(0, b"[]"), &["no image"]);
    refused(&place, &changed(1, b"{}"), &["c.json"]);
    refused(&place, &changed(2, &files(&[("g", b"g")]).blob), &["the configuration says"]);
    let tar = archive(&whole);
    refused(&place, &tar[..tar.len() - 8000], &["cannot"]);
    refused(
        &place,
        &gzip(&tar, flate2::Compression::fast())[..8000],
        &["cannot read the archive", "cut short"],
    );
    let escaping = docker(&files(&[("../../escaped", b"out")]));
    refused(&place, &archive(&escaping), &["\"../../escaped\"", "`..`"]);
    assert!(!place.site.path("escaped").exists());
}

#[test]
fn layouts_that_lie_are_refused() {
    let place = Place::new();
    let mark = ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let index = |text: &str| ("index.json", text.as_bytes().to_vec());
    refused(&place, &archive(&[index("{}")]), &["oci-layout"]);
    refused(&place, &archive(&[mark.clone(), index("{")]), &["index.json"]);
    refused(&place, &archive(&[("oci-layout", b"{}".to_vec()), index("{}")]), &["imageLayoutVersion"]);
    let missing = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":2}}]}}"#,
        "0".repeat(64)
    );
    refused(&place, &archive(&[mark.clone(), index(&missing)]), &["sha256:000", "not in the archive"]);
    let escaping = missing.replace(&"0".repeat(64), "../../../etc/passwd");
    refused(&place, &archive(&[mark, index(&escaping)]), &["manifests[0].digest"]);
}

#[test]
fn configuration_files_are_named_with_their_fault() {
    let place = Place::new();
    let image = crate::image::Image::new(&[files(&[("f", b"x")])]);
    let registry =
        Registry::new(image, |ask| ask.answer(401, "www-authenticate: Basic realm=\"r\"\r\n", b""));
    let name = registry.name("bad");
    let pull = ["pull", "-q", "--plain-http", name.as_str()];
    let config = place.site.path("home/.docker/config.json");
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    let addr = registry.addr();
    for (text, fault) in [
        ("{\"auths\":", "no JSON at line 1"),
        ("[]", "must be a JSON object"),
        ("{\"auths\":7}", "auths must be an object"),
        ("{\"auths\":{\"ADDR\":{\"auth\":\"!secret!\"}}}", "base64 of user:password"),
        ("{\"credHelpers\":{\"ADDR\":\"../evil\"}}", "a helper is named by its name alone"),
        ("{\"credHelpers\":{\"ADDR\":\"nosuch\"}}", "docker-credential-nosuch"),
    ] {
        fs::write(&config, text.replace("ADDR", &addr.to_string())).unwrap();
        let text = place.ends(1, &pull, &[fault]);
        assert!(text.contains(config.to_str().unwrap()) || text.contains("docker-credential-"), "{text}");
        assert!(!text.contains("!secret!"), "{text}");
    }
    fs::write(&config, noise(5 << 20, 2)).unwrap();
    place.ends(1, &pull, &[config.to_str().unwrap(), "too large"]);
    fs::remove_file(&config).unwrap();
    place.goes_on(&registry);
}
