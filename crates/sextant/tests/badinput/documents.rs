//! Manifests, indexes and configurations that nobody should believe.

use oci_image::contract::{ContainerConfig, Digest, ImageConfig, MediaType, Platform};
use serde_json::json;

use crate::image::{Image, files};
use crate::place::Place;
use crate::registry::Registry;

fn plain() -> Image {
    Image::new(&[files(&[("f", b"x")])])
}

#[track_caller]
fn refused(image: Image, words: &[&str]) {
    let place = Place::new();
    place.refuses(&Registry::of(image), words);
}

#[test]
fn a_manifest_of_50_mb_is_not_read() {
    let manifest = |bytes: Vec<u8>| Image::document(MediaType::OCI_MANIFEST, bytes);
    refused(manifest(vec![b' '; 50 << 20]), &["cannot pull manifest", "bad:1", "larger than 4194304 bytes"]);
    // Without a length it is read as far as the limit, and no further.
    let place = Place::new();
    let registry = Registry::new(plain(), |ask| {
        use std::io::Write;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.oci.image.manifest.v1+json\r\n\r\n";
        let _ = ask.stream.write_all(head.as_bytes());
        let piece = [b' '; 1 << 16];
        let sent = (0..800).take_while(|_| ask.stream.write_all(&piece).is_ok()).count();
        ask.note(sent * piece.len());
        true
    });
    place.refuses(&registry, &["larger than 4194304 bytes"]);
    assert!(registry.log()[0].bytes < 40 << 20, "{:?}", registry.log());
}

#[test]
fn what_is_no_manifest_is_told() {
    let manifest = |text: &str| Image::document(MediaType::OCI_MANIFEST, text);
    refused(manifest("<html>Wi-Fi login</html>"), &["cannot read image manifest", "sha256:"]);
    refused(manifest(""), &["cannot read image manifest"]);
    refused(manifest("[]"), &["cannot accept image manifest", "a list, no object"]);
    refused(manifest(&"[".repeat(100_000)), &["cannot accept image manifest"]);
    refused(manifest(&"{\"a\":".repeat(100_000)), &["cannot read image manifest"]);
    let deep =
        format!("{{\"schemaVersion\":2,\"annotations\":{}1{}}}", "{\"a\":".repeat(5000), "}".repeat(5000));
    refused(manifest(&deep), &["cannot read image manifest", "annotations"]);
    refused(manifest("{\"schemaVersion\":2}"), &["cannot", "config"]);
    refused(plain().change(|m| m["schemaVersion"] = json!(1)), &["cannot", "schemaVersion"]);
}

#[test]
fn sizes_that_cannot_be_are_refused_by_field() {
    let size = |value: serde_json::Value| plain().change(|m| m["layers"][0]["size"] = value);
    refused(size(json!(-1)), &["layers[0].size", "-1"]);
    refused(size(json!(1.5)), &["layers[0].size", "1.5"]);
    refused(size(json!("12")), &["layers[0].size", "12"]);
    refused(size(json!(u64::MAX)), &["sha256:", "cannot"]);
    refused(size(json!(i64::MAX)), &["sha256:", "cannot"]);
    let huge = plain().change(|m| m["layers"][0]["size"] = json!("SIZE"));
    let text = String::from_utf8(huge.manifest).unwrap().replace("\"SIZE\"", &"9".repeat(40));
    refused(Image { manifest: text.into(), ..plain() }, &["layers[0].size"]);
    // Smaller and larger than what comes.
    refused(size(json!(1)), &["cannot", "sha256:", "bytes"]);
    refused(size(json!(1000)), &["cannot", "sha256:", "bytes"]);
}

#[test]
fn an_index_without_our_platform_says_what_there_is() {
    refused(
        Image::index(&["linux/s390x", "plan9/mips"]),
        &[&Platform::host().to_string(), "linux/s390x", "plan9/mips", "--platform"],
    );
    refused(Image::index(&[]), &["names no image at all"]);
    // Ours is named, and the registry does not have it.
    refused(Image::index(&[&Platform::host().to_string()]), &["cannot", "bad", "sha256:"]);
}

#[test]
fn a_configuration_that_is_none_is_told() {
    let image = |config: &str| Image::with_config(&[files(&[("f", b"x")])], config.into());
    refused(image("{"), &["cannot read image configuration", "sha256:"]);
    refused(image("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}"), &["1 layers", "0 diff_ids"]);
    refused(image("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:../../x\"]}}"), &["diff_ids[0]"]);
    let large = plain().change(|m| m["config"]["size"] = json!(50 << 20));
    refused(large, &["image configuration", "52428800 bytes"]);
    // It says it is small, and is not.
    let place = Place::new();
    let registry = Registry::new(plain(), |ask| {
        ask.is_blob() && !ask.is_layer() && ask.answer(200, "", &vec![b' '; 50 << 20])
    });
    place.refuses(&registry, &["cannot", "sha256:", "52428800 bytes"]);
}

#[test]
fn an_image_without_a_command_is_pulled_and_run_says_what_to_do() {
    let place = Place::new();
    let layer = files(&[("etc/greeting", b"hello")]);
    let diff_ids = vec![Digest::sha256(&layer.tar)];
    let config = ImageConfig::new(&Platform::host(), ContainerConfig::default(), diff_ids);
    let image = Image::with_config(&[layer], serde_json::to_vec(&config).unwrap());
    let registry = Registry::of(image);
    let name = registry.name("bad");
    let ended = place.site.run(&["run", "--rm", "-q", "--network", "none", "--plain-http", &name]);
    assert_eq!((ended.code, ended.out.as_str()), (125, ""), "{ended:?}");
    let told = ended.err.starts_with("sextant: cannot ") && ended.err.contains(&name);
    assert!(told && ended.err.contains("no command") && ended.err.contains("after the image"), "{ended:?}");
    place.is_whole(&name, "hello");
    place.site.ok(&["rmi", &name]);
    place.goes_on(&registry);
}
