//! Against real registries, when somebody started one: `cargo xtask interop` sets the variables.
//!
//! `SEXTANT_TEST_REGISTRY`: host:port of a registry (plain http, loopback) that holds `test/busybox:1`.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::Read;

use oci_image::contract::{Descriptor, Digest, Document, ImageManifest, MediaType, parse_document};
use oci_image::pull::Source;
use oci_image::reference::Reference;
use oci_image::registry::client::{Client, Config, Pushed};

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

#[test]
#[ignore = "needs a registry: cargo xtask interop starts one"]
fn pushes_what_others_pull() {
    let from = Reference::parse(&format!("{}/test/busybox:1", registry())).unwrap();
    let mounted = Reference::parse(&format!("{}/sextant/mounted:1", registry())).unwrap();
    let sent = Reference::parse(&format!("{}/sextant/sent:1", registry())).unwrap();
    // Chunks smaller than the layer, so that they are used.
    let client = Client::new(Config { chunk: 100_000, ..Config::default() });
    let (descriptor, bytes) = client.manifest(&from).unwrap();
    let Document::Manifest(manifest) = parse_document(&bytes, Some(&descriptor.media_type)).unwrap() else {
        panic!("skopeo pushed an index")
    };
    for blob in manifest.layers.iter().chain([&manifest.config]) {
        let open = |at| {
            let reader = client.blob(&from, blob, at).map_err(std::io::Error::other)?;
            Ok(Box::new(reader) as Box<dyn Read + Send>)
        };
        let how = client.push_blob(&mounted, blob, Some("test/busybox"), &open).unwrap();
        assert_ne!(how, Pushed::Uploaded);
        client.push_blob(&sent, blob, None, &open).unwrap();
    }
    for to in [&mounted, &sent] {
        assert_eq!(client.push_manifest(to, &descriptor.media_type, &bytes).unwrap(), descriptor.digest);
        assert_eq!(client.resolve(to).unwrap().digest, descriptor.digest);
        assert!(client.tags(to).unwrap().contains(&"1".to_owned()));
    }
}

#[test]
#[ignore = "needs a registry: cargo xtask interop starts one"]
fn referrers_work_whether_or_not_the_registry_knows_them() {
    let to = Reference::parse(&format!("{}/test/busybox:1", registry())).unwrap();
    let client = Client::new(Config::default());
    let (subject, _) = client.manifest(&to).unwrap();
    let empty = Descriptor::of(MediaType::OCI_EMPTY, b"{}");
    client.push_blob(&to, &empty, None, &|_| Ok(Box::new(&b"{}"[..]))).unwrap();
    let mut about = ImageManifest::new(empty.clone(), vec![empty]);
    about.subject = Some(subject.clone());
    about.artifact_type = Some("application/vnd.sextant.test".into());
    let bytes = serde_json::to_vec(&about).unwrap();
    let at = to.with_digest(Digest::sha256(&bytes));
    client.push_manifest(&at, &MediaType::OCI_MANIFEST, &bytes).unwrap();
    let found = client.referrers(&to, &subject.digest, Some("application/vnd.sextant.test")).unwrap();
    assert_eq!(found.iter().map(|one| &one.digest).collect::<Vec<_>>(), [&Digest::sha256(&bytes)]);
    assert!(client.referrers(&to, &subject.digest, Some("a/b")).unwrap().is_empty());
}
