use std::{fs, os::unix::fs::MetadataExt, sync::atomic::Ordering, thread, time::Duration};

use super::source::{Cut, Memory, gzip, noise, quick, tar};
use crate::{
    contract::{Descriptor, ImageIndex, MediaType, Platform},
    layer::tar::{Header, Writer},
    pull::{Silent, Source, pull},
    store::Store,
};

const NAME: &str = "localhost:5000/test:1";

fn three_layers() -> Memory {
    let big = noise(700_000, 1);
    let plain = tar(&[("plain", b"p")]);
    let zstd = tar(&[("z", &noise(300_000, 2))]);
    Memory::new(&[
        gzip(&[("etc/a", b"a"), ("big", &big)]),
        (MediaType::OCI_LAYER, plain.clone(), plain),
        (MediaType::OCI_LAYER_ZSTD, zstd::bulk::compress(&zstd, 3).unwrap(), zstd),
    ])
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    (folder, store)
}

#[test]
fn every_compression_and_nothing_twice() {
    let (_folder, store) = store();
    let source = three_layers();
    let report = pull(&store, NAME, &source, &quick(), &Silent).unwrap();
    assert_eq!((report.layers, report.present), (3, 0));
    let image = store.find("localhost:5000/test:1").unwrap();
    let details = store.details(&image).unwrap();
    let layers = store.layer_paths(&details.config).unwrap();
    assert_eq!(fs::read(layers[0].join("big")).unwrap(), noise(700_000, 1));
    assert_eq!(fs::read(layers[1].join("plain")).unwrap(), b"p");
    assert_eq!(fs::read(layers[2].join("z")).unwrap(), noise(300_000, 2));
    assert_eq!(fs::metadata(store.root()).unwrap().mode() & 0o777, 0o700);
    let before = source.opened.lock().unwrap().len();
    let report = pull(&store, "localhost:5000/test:2", &source, &quick(), &Silent).unwrap();
    assert_eq!(report.present, 3);
    assert_eq!(source.opened.lock().unwrap().len(), before);
    assert_eq!(store.images().unwrap().len(), 2);
    for id in [details.id.hex(), details.id.short(), &details.id.to_string(), image.manifest.digest.short()] {
        assert_eq!(store.find(id).unwrap().manifest, image.manifest, "{id}");
    }
}

#[test]
fn a_cut_connection_is_taken_up_where_it_stopped() {
    for cut in [Cut::Error(60_000), Cut::Short(60_000)] {
        let (_folder, store) = store();
        let mut source = three_layers();
        source.cut = cut;
        pull(&store, NAME, &source, &quick(), &Silent).unwrap();
        let total: usize = source.manifest().layers.iter().map(|l| usize::try_from(l.size).unwrap()).sum();
        let config = usize::try_from(source.manifest().config.size).unwrap();
        assert_eq!(source.served.load(Ordering::Relaxed), (total + config) as u64, "no byte came twice");
    }
}

#[test]
fn what_a_killed_process_left_is_used_if_it_is_right() {
    let source = three_layers();
    let layer = source.manifest().layers[0].clone();
    let blob = &source.blobs[&layer.digest];
    for (left, first) in [
        (blob[..100_000].to_vec(), vec![100_000]),
        (blob.clone(), vec![]),
        (vec![0; 100_000], vec![100_000, 0]),
        (vec![1; blob.len() + 5], vec![0]),
        (vec![0; blob.len()], vec![0]),
    ] {
        let (_folder, store) = store();
        fs::write(store.partial_path(&layer.digest), &left).unwrap();
        source.opened.lock().unwrap().clear();
        pull(&store, NAME, &source, &quick(), &Silent).unwrap();
        let opened = source.opened.lock().unwrap();
        let offsets: Vec<u64> = opened.iter().filter(|(d, _)| *d == layer.digest).map(|(_, o)| *o).collect();
        assert_eq!(offsets, first);
        let path =
            store.layer_path(&store.details(&store.find(NAME).unwrap()).unwrap().config.rootfs.diff_ids[0]);
        assert_eq!(fs::read(path.unwrap().join("big")).unwrap(), noise(700_000, 1));
    }
}

#[test]
fn simultaneous_pulls_download_once() {
    let (folder, _store) = store();
    let mut source = three_layers();
    source.delay = Duration::from_millis(2);
    let total: u64 = source.manifest().layers.iter().map(|l| l.size).sum();
    thread::scope(|scope| {
        for n in 0..4 {
            let (folder, source) = (&folder, &source);
            scope.spawn(move || {
                // Each opens the store for itself, as processes do.
                let store = Store::open(folder.path().join("images")).unwrap();
                pull(&store, &format!("localhost:5000/test:{n}"), source, &quick(), &Silent).unwrap();
            });
        }
    });
    let small = 4 * source.manifest().config.size;
    assert!(source.served.load(Ordering::Relaxed) <= total + small);
}

#[test]
fn a_damaged_blob_is_fetched_again() {
    let (_folder, store) = store();
    let source = three_layers();
    pull(&store, NAME, &source, &quick(), &Silent).unwrap();
    let details = store.details(&store.find(NAME).unwrap()).unwrap();
    let (layer, diff_id) = (&details.manifest.layers[0].digest, &details.config.rootfs.diff_ids[0]);
    fs::write(store.blob_path(layer), b"rot").unwrap();
    fs::remove_dir_all(store.layer_path(diff_id).unwrap().parent().unwrap()).unwrap();
    pull(&store, NAME, &source, &quick(), &Silent).unwrap();
    assert_eq!(fs::read(store.layer_path(diff_id).unwrap().join("big")).unwrap(), noise(700_000, 1));
    assert_eq!(fs::read(store.blob_path(layer)).unwrap(), source.blobs[layer]);
}

#[test]
fn a_directory_taken_for_granted_looks_like_the_lower_one() {
    let (_folder, store) = store();
    let mut lower = Writer::new(Vec::new());
    let mut tmp = Header::directory("tmp", 0o1777);
    (tmp.gid, tmp.mtime.seconds) = (7, 1000);
    lower.append(&tmp, &mut std::io::empty()).unwrap();
    let lower = lower.finish().unwrap();
    let upper = tar(&[("tmp/x", b"x")]);
    let source = Memory::new(&[
        (MediaType::OCI_LAYER, lower.clone(), lower),
        (MediaType::OCI_LAYER, upper.clone(), upper),
    ]);
    pull(&store, NAME, &source, &quick(), &Silent).unwrap();
    let details = store.details(&store.find(NAME).unwrap()).unwrap();
    let meta =
        fs::metadata(store.layer_path(&details.config.rootfs.diff_ids[1]).unwrap().join("tmp")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.gid(), meta.mtime()), (0o1777, 7, 1000));
}

#[test]
fn an_index_leads_to_the_platform() {
    let (_folder, store) = store();
    let mut source = three_layers();
    let image = source.top.clone();
    let other = Descriptor { platform: Some(Platform::new("plan9", "vax", None)), ..image.clone() };
    let ours = Descriptor { platform: Some(Platform::host()), ..image.clone() };
    let unknown = Descriptor { platform: Some(Platform::new("unknown", "unknown", None)), ..image.clone() };
    let index = ImageIndex::new(vec![unknown, other, ours]);
    source.top = source.add(MediaType::OCI_INDEX, &serde_json::to_vec(&index).unwrap());
    let report = pull(&store, NAME, &source, &quick(), &Silent).unwrap();
    assert_eq!((&report.manifest, &report.target), (&image.digest, &source.top.digest));
    assert_eq!(store.find(NAME).unwrap().manifest.platform, Some(Platform::host()));
    assert!(store.find(&format!("localhost:5000/test@{}", source.top.digest)).is_ok());
    assert!(store.has_blob(&report.target), "a collection must find it");
    let mut options = quick();
    options.platform = Some(Platform::new("linux", "mips", None));
    let error = pull(&store, NAME, &source, &options, &Silent).unwrap_err().to_string();
    assert!(error.contains("linux/mips") && error.contains("plan9/vax"), "{error}");
}

#[test]
fn an_image_may_have_a_layer_twice_or_none() {
    let (_folder, store) = store();
    let layer = gzip(&[("a", b"a")]);
    pull(&store, NAME, &Memory::new(&[layer.clone(), layer]), &quick(), &Silent).unwrap();
    pull(&store, NAME, &Memory::new(&[]), &quick(), &Silent).unwrap();
    assert!(Memory::new(&[]).manifest().layers.is_empty());
    assert_eq!(store.images().unwrap().len(), 1);
}

/// The trait's `manifest` and the helper of the same name are different things.
#[test]
fn the_manifest_is_resolved_by_every_caller() {
    let (_folder, store) = store();
    let source = three_layers();
    pull(&store, NAME, &source, &quick(), &Silent).unwrap();
    let mut refused = three_layers();
    refused.blobs.clear();
    assert!(Source::manifest(&refused).is_err());
    assert!(
        pull(&store, NAME, &refused, &quick(), &Silent).is_err(),
        "having the image does not mean one may"
    );
}
