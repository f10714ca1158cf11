use std::{fs, time::Duration};

use super::*;
use crate::{
    archive::{Content, Part, build},
    contract::{Compression, ContainerConfig},
};

fn image(store: &Store, name: &str, files: &[(&str, &str)]) -> Image {
    let part = |(path, text): &(&str, &str)| Part {
        path: (*path).into(),
        content: Content::Bytes(text.as_bytes().into()),
        mode: 0o644,
    };
    let parts: Vec<_> = files.iter().map(part).collect();
    build(store, name, &parts, ContainerConfig::default(), Compression::Gzip).unwrap();
    store.find(name).unwrap()
}

fn open() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    (folder, store)
}

#[test]
fn names_come_and_go_and_the_image_with_the_last() {
    let (_folder, store) = open();
    let a = image(&store, "docker.io/library/a:1", &[("f", "a")]);
    store.tag(&a, "docker.io/library/a:2").unwrap();
    assert_eq!(store.find("a:2").unwrap().manifest, a.manifest);
    assert!(store.untag("docker.io/library/a:1").unwrap());
    assert!(!store.untag("docker.io/library/a:1").unwrap());
    assert_eq!(store.collect(&|_| false, Duration::ZERO).unwrap(), Collected::default());
    assert_eq!(store.remove(&a).unwrap(), ["docker.io/library/a:2"]);
    let collected = store.collect(&|_| false, Duration::ZERO).unwrap();
    assert_eq!((collected.blobs, collected.layers), (3, 1));
    assert!(store.find("a:2").unwrap_err().to_string().contains("pull it first"));
}

#[test]
fn what_a_container_uses_stays() {
    let (_folder, store) = open();
    let a = image(&store, "docker.io/library/a:1", &[("f", "a")]);
    let layer = store.details(&a).unwrap().config.rootfs.diff_ids[0].clone();
    store.remove(&a).unwrap();
    let collected = store.collect(&|d| *d == layer, Duration::ZERO).unwrap();
    assert_eq!((collected.blobs, collected.layers), (3, 0));
    assert!(store.has_layer(&layer));
}

#[test]
fn a_pinned_image_is_not_removed() {
    let (_folder, store) = open();
    let a = image(&store, "docker.io/library/a:1", &[("f", "a")]);
    store.pin("docker.io/library/a:1", true).unwrap();
    assert!(matches!(store.untag("docker.io/library/a:1"), Err(Error::Pinned(_))));
    assert!(matches!(store.remove(&a), Err(Error::Pinned(_))));
    store.pin("docker.io/library/a:1", false).unwrap();
    store.remove(&a).unwrap();
}

#[test]
fn usage_tells_shared_from_unique() {
    let (_folder, store) = open();
    image(&store, "docker.io/library/a:1", &[("f", "shared")]);
    let b = image(&store, "docker.io/library/b:1", &[("f", "shared")]);
    assert_eq!(
        b.manifest.digest,
        store.find("a:1").unwrap().manifest.digest,
        "the same parts make the same image"
    );
    image(&store, "docker.io/library/c:1", &[("g", "another")]);
    let usage = store.usage().unwrap();
    assert!(usage.images.iter().all(|u| u.unique == u.total && u.total > 0));
    assert_eq!(usage.layers, 6 + 7);
}

#[test]
fn an_ambiguous_id_is_refused() {
    let (_folder, store) = open();
    for n in 0..40 {
        image(&store, &format!("docker.io/library/a:{n}"), &[("f", &n.to_string())]);
    }
    let ids: Vec<String> =
        store.images().unwrap().iter().map(|i| store.details(i).unwrap().id.hex().to_owned()).collect();
    let shared = ids.iter().find(|a| ids.iter().filter(|b| b[..1] == a[..1]).count() > 1).unwrap();
    // Two digits are the least that is taken for an id.
    let prefix = &shared[..2];
    match ids.iter().filter(|i| i.starts_with(prefix)).count() {
        1 => {
            assert!(store.find(prefix).is_ok() || matches!(store.find(prefix), Err(Error::Ambiguous { .. })))
        }
        _ => assert!(matches!(store.find(prefix), Err(Error::Ambiguous { .. }))),
    }
}

#[test]
fn what_a_running_pull_needs_is_left_alone() {
    let (_folder, store) = open();
    let blob = store.add_blob(crate::contract::MediaType::OCI_EMPTY, b"{}").unwrap();
    let ingest = store.ingest().unwrap();
    ingest.lease(&store, [&blob.digest]).unwrap();
    store.collect(&|_| false, Duration::ZERO).unwrap();
    assert!(store.has_blob(&blob.digest) && ingest.path().exists());
    drop(ingest);
    store.collect(&|_| false, Duration::ZERO).unwrap();
    assert!(!store.has_blob(&blob.digest));
}

#[test]
fn a_damaged_image_does_not_stop_the_rest() {
    let (_folder, store) = open();
    let a = image(&store, "docker.io/library/a:1", &[("f", "a")]);
    let b = image(&store, "docker.io/library/b:1", &[("f", "b")]);
    fs::write(store.blob_path(&a.manifest.digest), b"rot").unwrap();
    store.collect(&|_| false, Duration::ZERO).unwrap();
    assert!(store.details(&a).is_err());
    assert!(store.layer_paths(&store.details(&b).unwrap().config).is_ok());
    image(&store, "docker.io/library/a:1", &[("f", "a")]);
}

#[test]
fn another_version_of_the_layout_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("oci-layout"), br#"{"imageLayoutVersion":"9.0.0"}"#).unwrap();
    assert!(Store::open(folder.path()).unwrap_err().to_string().contains("9.0.0"));
}

#[test]
fn what_a_killed_writer_left_is_swept() {
    let (_folder, store) = open();
    fs::write(store.root().join("ingest/1-1.tmp"), b"half a record").unwrap();
    fs::create_dir(store.root().join("ingest/1-dead")).unwrap();
    Store::open(store.root()).unwrap();
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 2);
}

/// Each kind of damage that a disk can do to an unpacked layer, and what is said about it.
#[test]
fn a_damaged_layer_is_found() {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    type Harm = (&'static str, fn(&Path));
    /// Other bytes, and the time of the old ones.
    fn rewrite(path: &Path, bytes: &[u8]) {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, bytes).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
    let harms: &[Harm] = &[
        ("/etc/f differs: its size is 0, and 4 in the layer", |fs| rewrite(&fs.join("etc/f"), b"")),
        ("content is another from byte 0 on", |fs| rewrite(&fs.join("etc/f"), &[0; 4])),
        ("/etc/f is missing", |fs| {
            let etc = fs.join("etc");
            let time = fs::metadata(&etc).unwrap().modified().unwrap();
            fs::remove_file(etc.join("f")).unwrap();
            File::open(etc).unwrap().set_modified(time).unwrap();
        }),
        ("/etc differs: its time is", |fs| fs::remove_file(fs.join("etc/f")).unwrap()),
        ("/new is there, and the layer has no such thing", |fs| fs::write(fs.join("new"), b"").unwrap()),
        ("its mode is 0600, and 0644", |fs| {
            fs::set_permissions(fs.join("etc/f"), fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("its owner is 7:0, and 0:0", |fs| chown(fs.join("etc/f"), Some(7), None).unwrap()),
        ("its time is", |fs| {
            File::open(fs.join("etc/f")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        }),
        ("/link differs: it leads elsewhere", |fs| {
            fs::remove_file(fs.join("link")).unwrap();
            symlink("else", fs.join("link")).unwrap();
        }),
        ("/link differs: its kind is a directory, and a symbolic link", |fs| {
            fs::remove_file(fs.join("link")).unwrap();
            fs::create_dir(fs.join("link")).unwrap();
        }),
        ("extended attribute user.note", |fs| {
            rustix::fs::lsetxattr(fs.join("etc/f"), c"user.note", b"x", rustix::fs::XattrFlags::empty())
                .unwrap();
        }),
        ("cannot be opened: No such file", |fs| fs::remove_dir_all(fs).unwrap()),
        ("is missing", |fs| fs::remove_dir_all(fs.parent().unwrap()).unwrap()),
        ("its meta.json is of another layer", |fs| {
            let meta = fs.with_file_name("meta.json");
            let text = fs::read_to_string(&meta).unwrap();
            fs::write(&meta, text.replace("\"size\":4", "\"size\":5")).unwrap();
        }),
        ("meta.json", |fs| fs::write(fs.with_file_name("meta.json"), b"").unwrap()),
    ];
    for (wanted, harm) in harms {
        let (_folder, store) = open();
        let part = |path: &str, content| Part { path: path.into(), content, mode: 0o644 };
        let parts =
            [part("etc/f", Content::Bytes(b"text".to_vec())), part("link", Content::Symlink("etc/f".into()))];
        let name = "docker.io/library/a:1";
        build(&store, name, &parts, ContainerConfig::default(), Compression::Gzip).unwrap();
        let image = store.find(name).unwrap();
        assert_eq!(store.verifier().unwrap().image(&image).unwrap(), Some(Vec::new()));
        let layer = store.details(&image).unwrap().config.rootfs.diff_ids[0].clone();
        harm(&store.layer_folder(&layer).join("fs"));
        let damage = store.verifier().unwrap().image(&image).unwrap().unwrap();
        assert!(damage.iter().any(|d| d.reason.contains(wanted)), "{wanted}: {damage:?}");
        assert!(damage.iter().all(|d| d.part == super::Part::Layer && d.digest == layer), "{damage:?}");
        // A container's layer stays; otherwise it goes, and the next pull unpacks it again.
        assert_eq!(store.discard(&damage, &|_| true).unwrap(), damage);
        assert_eq!(store.discard(&damage, &|_| false).unwrap(), []);
        build(&store, name, &parts, ContainerConfig::default(), Compression::Gzip).unwrap();
        assert_eq!(store.verifier().unwrap().image(&image).unwrap(), Some(Vec::new()), "{wanted}");
        assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 2);
    }
}

#[test]
fn a_damaged_blob_is_found() {
    let (_folder, store) = open();
    let a = image(&store, "docker.io/library/a:1", &[("f", "a")]);
    let b = image(&store, "docker.io/library/b:1", &[("f", "b")]);
    let details = store.details(&a).unwrap();
    let blobs = [&details.manifest.layers[0].digest, &details.id, &a.manifest.digest];
    for blob in blobs {
        let mut bytes = fs::read(store.blob_path(blob)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(store.blob_path(blob), bytes).unwrap();
        let mut verifier = store.verifier().unwrap();
        let damage = verifier.image(&a).unwrap().unwrap();
        assert!(damage.iter().any(|d| d.part == super::Part::Blob && d.digest == *blob), "{damage:?}");
        assert_eq!(verifier.image(&b).unwrap(), Some(Vec::new()));
        drop(verifier);
        store.discard(&damage, &|_| false).unwrap();
        let missing = store.verifier().unwrap().image(&a).unwrap().unwrap();
        assert_eq!(missing[0].reason, "is missing");
        image(&store, "docker.io/library/a:1", &[("f", "a")]);
        assert_eq!(store.verifier().unwrap().image(&a).unwrap(), Some(Vec::new()));
    }
    store.remove(&a).unwrap();
    assert_eq!(store.verifier().unwrap().image(&a).unwrap(), None);
}

#[test]
fn a_reserve_that_a_power_cut_emptied_is_filled_again() {
    let (_folder, store) = open();
    let reserve = store.root().join("reserve");
    let size = fs::metadata(&reserve).unwrap().len();
    fs::write(&reserve, b"").unwrap();
    Store::open(store.root()).unwrap();
    assert_eq!(fs::metadata(&reserve).unwrap().len(), size);
    assert!(size > 0);
}
