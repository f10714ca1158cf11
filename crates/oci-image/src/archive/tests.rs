use std::{fs, io::Seek, os::unix::fs::PermissionsExt};

use super::*;
use crate::{
    contract::{Compression, ContainerConfig},
    layer::tar::{Header, Writer},
    pull::{Options, Silent},
    store::Store,
};

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("images")).unwrap();
    (folder, store)
}

fn part(path: &str, content: Content, mode: u32) -> Part {
    Part { path: path.into(), content, mode }
}

fn made(store: &Store, name: &str) {
    let parts = [
        part("/bin/tool", Content::File(std::env::current_exe().unwrap()), 0o755),
        part("/etc/motd", Content::Bytes(b"hello".to_vec()), 0o644),
        part("/sh", Content::Symlink("bin/tool".into()), 0),
        part("/tmp", Content::Directory, 0o1777),
    ];
    let config = ContainerConfig { cmd: Some(vec!["/bin/tool".into()]), ..ContainerConfig::default() };
    build(store, name, &parts, config, Compression::Gzip).unwrap();
}

#[test]
fn an_image_from_parts_is_an_image() {
    let (_folder, store) = store();
    made(&store, "localhost/made:1");
    let image = store.find("localhost/made:1").unwrap();
    let details = store.details(&image).unwrap();
    let root = store.layer_path(&details.config.rootfs.diff_ids[0]).unwrap();
    assert_eq!(fs::read(root.join("etc/motd")).unwrap(), b"hello");
    assert_eq!(fs::read(root.join("sh")).unwrap(), fs::read(std::env::current_exe().unwrap()).unwrap());
    assert_eq!(fs::metadata(root.join("tmp")).unwrap().permissions().mode() & 0o7777, 0o1777);
    assert!(store.layer_meta(&details.config.rootfs.diff_ids[0]).unwrap().implied.is_empty());
    let (_other_folder, other) = self::store();
    made(&other, "localhost/other:1");
    assert_eq!(
        other.find("localhost/other:1").unwrap().manifest,
        image.manifest,
        "the same parts, the same digests"
    );
}

#[test]
fn parts_that_make_no_image_are_refused() {
    let (_folder, store) = store();
    let file = || Content::Bytes(Vec::new());
    for parts in [
        vec![part("", file(), 0)],
        vec![part("a/../b", file(), 0)],
        vec![part("a/.wh.b", file(), 0)],
        vec![part("a", file(), 0), part("/a", file(), 0)],
        vec![part("a", file(), 0), part("a/b", file(), 0)],
    ] {
        let built = build(&store, "localhost/x:1", &parts, ContainerConfig::default(), Compression::None);
        assert!(matches!(built, Err(Error::Part { .. })));
    }
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn what_is_exported_is_imported() {
    let (_folder, store) = store();
    made(&store, "localhost/made:1");
    let image = store.find("localhost/made:1").unwrap();
    store.tag(&image, "docker.io/library/made:2").unwrap();
    let images = store.images().unwrap();
    for format in [Format::Docker, Format::Oci] {
        let (folder, other) = self::store();
        let path = folder.path().join("archive.tar");
        let mut file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        export(&store, &images, format, &mut file).unwrap();
        file.rewind().unwrap();
        let reports = import(&other, Input::File(file), None, &Options::default(), &Silent).unwrap();
        assert_eq!(reports.len(), 1);
        assert_eq!(other.find("made:2").unwrap().manifest.digest, image.manifest.digest);
        assert!(other.find("localhost/made:1").is_ok());
        // The same from a pipe, compressed.
        let (_third, third) = self::store();
        let mut packed =
            flate2::read::GzEncoder::new(fs::File::open(&path).unwrap(), flate2::Compression::fast());
        import(&third, Input::Stream(&mut packed), None, &Options::default(), &Silent).unwrap();
        assert_eq!(third.images().unwrap().len(), 2);
    }
    let (folder, other) = self::store();
    let layout = folder.path().join("layout");
    export_folder(&store, &images[..1], &layout).unwrap();
    export_folder(&store, &images[1..], &layout).unwrap();
    import(&other, Input::Folder(&layout), None, &Options::default(), &Silent).unwrap();
    assert_eq!(other.images().unwrap().len(), 2);
}

#[test]
fn dockers_older_archives_are_read() {
    let (_folder, store) = store();
    made(&store, "localhost/made:1");
    let details = store.details(&store.find("localhost/made:1").unwrap()).unwrap();
    let config = store.read_blob(&details.id, 1 << 20).unwrap();
    let layer = store.read_blob(&details.manifest.layers[0].digest, 1 << 30).unwrap();
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(layer.as_slice()), &mut plain).unwrap();
    let manifest = br#"[{"Config":"c.json","RepoTags":["old:1","old:2"],"Layers":["id/layer.tar"]}]"#;
    for layer in [plain, layer] {
        let mut tar = Writer::new(Vec::new());
        let mut put = |path: &str, mut bytes: &[u8]| {
            let header = Header::file(path, 0o644, bytes.len() as u64);
            tar.append(&header, &mut bytes).unwrap();
        };
        put("c.json", &config);
        put("other/layer.tar", &layer);
        put("manifest.json", manifest);
        tar.append(&Header::symlink("id/layer.tar", "../other/layer.tar"), &mut std::io::empty()).unwrap();
        let bytes = tar.finish().unwrap();
        let (_folder, other) = self::store();
        import(&other, Input::Stream(&mut bytes.as_slice()), None, &Options::default(), &Silent).unwrap();
        assert_eq!(other.details(&other.find("old:2").unwrap()).unwrap().id, details.id);
        assert_eq!(other.images().unwrap().len(), 2);
    }
}

#[test]
fn archives_that_are_none_are_refused() {
    let (_folder, store) = store();
    let tar = |path: &str, mut bytes: &[u8]| {
        let mut tar = Writer::new(Vec::new());
        let header = Header::file(path, 0o644, bytes.len() as u64);
        tar.append(&header, &mut bytes).unwrap();
        tar.finish().unwrap()
    };
    let missing = br#"[{"Config":"../../etc/passwd","Layers":[]}]"#;
    for (bytes, words) in [
        (b"no tar at all, but long enough to be looked at as one".repeat(20), "checksum"),
        (tar("x", b""), "neither index.json nor manifest.json"),
        (tar("manifest.json", b"{"), "does not parse"),
        (tar("manifest.json", missing), "which it does not have"),
        (tar("index.json", b"{}"), "oci-layout"),
        (Vec::new(), "neither"),
    ] {
        let error = import(&store, Input::Stream(&mut bytes.as_slice()), None, &Options::default(), &Silent);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(store.images().unwrap().is_empty());
    assert_eq!(fs::read_dir(store.root().join("ingest")).unwrap().count(), 2);
}
