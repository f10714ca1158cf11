//! Against real registries, when somebody started one: `cargo xtask interop` sets the variables.
//!
//! `SEXTANT_TEST_REGISTRY`: host:port of a registry (plain http, loopback) that holds `test/busybox:1`.

use std::io::Read;

use oci_image::contract::{Digest, Document, parse_document};
use oci_image::pull::Source;
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config};

fn registry() -> String {
    std::env::var("SEXTANT_TEST_REGISTRY").expect("SEXTANT_TEST_REGISTRY names the registry")
}

#[test]
#[ignore = "needs a registry: cargo xtask interop starts one"]
fn pulls_what_skopeo_pushed() {
    let reference = Reference::parse(&format!("{}/test/busybox:1", registry())).unwrap();
    let client = Client::new(Config::default());
    let source = client.source(&reference).unwrap();
    let (descriptor, bytes) = source.manifest().unwrap();
    assert_eq!(client.resolve(&reference).unwrap().digest, descriptor.digest);
    let Document::Manifest(manifest) = parse_document(&bytes, Some(&descriptor.media_type)).unwrap() else {
        panic!("skopeo pushed an index")
    };
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        for offset in [0, blob.size / 2] {
            let mut read = Vec::new();
            source.open(blob, offset).unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(read.len() as u64, blob.size - offset);
            assert!(offset > 0 || Digest::sha256(&read) == blob.digest);
        }
    }
}
