use std::{fs, time::Duration};

use super::source::{Cut, Memory, gzip, noise, quick, tar};
use crate::{
    contract::{Digest, MediaType},
    pull::{Options, Progress, Silent, pull},
    store::Store,
};

const NAME: &str = "localhost:5000/test:1";

fn one_layer() -> Memory {
    Memory::new(&[gzip(&[("f", &noise(200_000, 3))])])
}

/// An image whose only layer is `blob`, said to unpack to `tar`.
fn layer(blob: Vec<u8>, tar: Vec<u8>) -> Memory {
    Memory::new(&[(MediaType::OCI_LAYER_GZIP, blob, tar)])
}

/// What the source serves instead of its first layer.
fn instead(change: impl FnOnce(&mut Vec<u8>)) -> Memory {
    let mut source = one_layer();
    let digest = source.manifest().layers[0].digest.clone();
    change(source.blobs.get_mut(&digest).unwrap());
    source
}

fn manifest(change: impl FnOnce(&mut Memory, &mut crate::contract::ImageManifest)) -> Memory {
    let mut source = one_layer();
    let mut manifest = source.manifest();
    change(&mut source, &mut manifest);
    source.set_manifest(&manifest);
    source
}

fn top(bytes: &[u8]) -> Memory {
    let mut source = one_layer();
    source.top = source.add(MediaType::OCI_MANIFEST, bytes);
    source
}

#[test]
fn each_bad_image_is_a_clear_error_and_leaves_nothing() {
    let whole = gzip(&[("f", &noise(200_000, 3))]);
    let truncated = whole.1[..whole.1.len() - 1000].to_vec();
    let escaping = gzip(&[("../../escaped", b"x")]);
    let bomb = gzip(&[("zeros", &vec![0; 3_000_000])]);
    let table: Vec<(&str, Memory, &str)> = vec![
        ("wrong digest", instead(|b| b[100] ^= 1), "what came has the digest"),
        ("longer than said", instead(|b| b.push(0)), "bytes instead of"),
        ("shorter than said", instead(|b| b.truncate(1000)), "the connection ended after 1000 of"),
        ("404", instead(|b| b.clear()), "the connection ended after 0 of"),
        ("wrong diffID", layer(whole.1.clone(), tar(&[("g", b"g")])), "the configuration says"),
        ("truncated gzip", layer(truncated, whole.2.clone()), "cut short"),
        ("no gzip", layer(b"\x1f\x8b\x08\x00junkjunkjunk".to_vec(), whole.2.clone()), "gzip"),
        ("no tar", layer(noise(5000, 9), noise(5000, 9)), "checksum"),
        ("path outside", layer(escaping.1, escaping.2), "\"../../escaped\": the name contains `..`"),
        ("bomb", layer(bomb.1, bomb.2), "more than 1000000 bytes"),
        ("manifest of 50 MB", top(&vec![b' '; 50 << 20]), "52428800 bytes"),
        ("manifest that is none", top(b"<html>"), "field"),
        (
            "a layer of wasm",
            manifest(|_, m| m.layers[0].media_type = "application/wasm".into()),
            "application/wasm",
        ),
        ("a layer of 1 PB", manifest(|_, m| m.layers[0].size = 1 << 50), "more than"),
        ("an artifact", manifest(|_, m| m.config.media_type = MediaType::OCI_EMPTY), "artifact"),
        ("more layers than diffIDs", manifest(|_, m| m.layers.push(m.layers[0].clone())), "2 layers"),
        ("a config of 1 GB", manifest(|_, m| m.config.size = 1 << 30), "1073741824 bytes"),
        (
            "a config with another digest",
            manifest(|s, m| {
                let digest = m.config.digest.clone();
                s.blobs.get_mut(&digest).unwrap()[0] = b'[';
            }),
            "has the digest",
        ),
        (
            "a manifest with another digest",
            {
                let mut source = one_layer();
                source.top.digest = Digest::sha256(b"other");
                let bytes = source.blobs.values().next().unwrap().clone();
                source.blobs.insert(source.top.digest.clone(), bytes);
                source
            },
            "manifest",
        ),
    ];
    let limits = crate::layer::Limits { floor: 1_000_000, ratio: 1, ..Default::default() };
    let options = Options { limits, ..quick() };
    for (what, source, words) in table {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path().join("images")).unwrap();
        let error = pull(&store, NAME, &source, &options, &Silent).unwrap_err().to_string();
        assert!(error.contains(words), "{what}: {error}");
        assert!(store.images().unwrap().is_empty(), "{what}");
        assert!(!folder.path().join("escaped").exists());
        let count = |path: &str| fs::read_dir(store.root().join(path)).unwrap().count();
        assert_eq!(count("layers/sha256"), 0, "{what}");
        assert_eq!(count("ingest"), 2, "{what}: only the folders for partial downloads and locks");
        assert_eq!(count("ingest/layers"), 0, "{what}");
        store.collect(&|_| false, Duration::ZERO).unwrap();
        assert_eq!(count("blobs/sha256") + count("ingest/blobs"), 0, "{what}");
    }
}

#[test]
fn a_wrong_blob_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    let source = instead(|b| b[100] ^= 1);
    pull(&store, NAME, &source, &quick(), &Silent).unwrap_err();
    assert!(!store.partial_path(&source.manifest().layers[0].digest).exists());
}

#[test]
fn a_source_that_gives_up_leaves_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    let mut source = one_layer();
    source.cut = Cut::Error(0);
    let error = pull(&store, NAME, &source, &quick(), &Silent).unwrap_err().to_string();
    assert!(error.contains("cannot download"), "{error}");
    let layer = source.manifest().layers[0].clone();
    let half = source.blobs[&layer.digest][..1000].to_vec();
    fs::write(store.partial_path(&layer.digest), half).unwrap();
    pull(&store, NAME, &source, &quick(), &Silent).unwrap_err();
    assert_eq!(fs::metadata(store.partial_path(&layer.digest)).unwrap().len(), 1000);
}

#[test]
fn a_cancelled_pull_ends() {
    struct Cancel;
    impl Progress for Cancel {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    let mut source = one_layer();
    source.delay = Duration::from_millis(1);
    let error = pull(&store, NAME, &source, &quick(), &Cancel).unwrap_err().to_string();
    assert!(error.contains("cancelled"), "{error}");
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn a_full_disk_is_said_plainly() {
    let error = std::io::Error::from(rustix::io::Errno::NOSPC);
    assert!(crate::layer::hint(&error).contains("full"));
}
