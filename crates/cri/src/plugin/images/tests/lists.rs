//! ListImages, ImageStatus and ImageFsInfo.

use std::fs;

use oci_image::contract::ContainerConfig;
use oci_image::reference::Reference;

use super::rig::Rig;
use crate::contract::Code;
use crate::contract::v1::{ImageSpec, Int64Value};
use crate::plugin::config;

#[tokio::test]
async fn an_image_is_one_whatever_it_is_called() {
    let rig = Rig::new();
    let digest = rig.push("a:1", b"same");
    for path in ["a:2", "b/c:latest"] {
        assert_eq!(rig.push(path, b"same"), digest);
    }
    rig.push("other:1", b"other");
    let id = rig.pull("a:1").await;
    // Without a tag it is `latest`.
    assert_eq!([rig.pull("a:2").await, rig.pull("b/c").await], [id.clone(), id.clone()]);
    let other = rig.pull("other:1").await;
    let images = rig.list().await;
    assert_eq!(images.iter().map(|i| &i.id).collect::<Vec<_>>(), [&id, &other]);
    let image = &images[0];
    assert_eq!(image.repo_tags, [rig.name("a:1"), rig.name("a:2"), rig.name("b/c:latest")]);
    assert_eq!(image.repo_digests, [rig.name(&format!("a@{digest}")), rig.name(&format!("b/c@{digest}"))]);
    assert!(id.starts_with("sha256:") && image.size > 4 && !image.pinned);
    let hex = id.strip_prefix("sha256:").unwrap();
    for text in
        [&image.repo_tags[2], &image.repo_digests[0], &rig.name("b/c"), &id, hex, &hex[..12], &id[..20]]
    {
        assert_eq!(rig.status(text).await.as_ref(), Some(image), "{text}");
    }
    for text in ["", "s", "sha256:", "sha512:", "?", &rig.name("a:3"), &"0".repeat(64), &rig.name("a@b")] {
        assert_eq!(rig.status(text).await, None, "{text}");
    }
    // A digest is known by its own name alone.
    assert_eq!(rig.status(&rig.name(&format!("c@{digest}"))).await, None);
}

#[tokio::test]
async fn a_pull_by_digest_gives_no_tag() {
    let rig = Rig::new();
    let digest = rig.push("a:1", b"x");
    let by_digest = rig.name(&format!("a@{digest}"));
    for text in [format!("a@{digest}"), format!("a:1@{digest}")] {
        let id = rig.pull(&text).await;
        let image = rig.status(&rig.name(&text)).await.unwrap();
        assert_eq!((image.id, image.repo_tags), (id, Vec::<String>::new()));
        assert_eq!(image.repo_digests, std::slice::from_ref(&by_digest));
    }
    assert_eq!(rig.list().await.len(), 1);
}

#[tokio::test]
async fn the_user_is_a_number_or_a_name() {
    let rig = Rig::new();
    for (user, uid, username) in [
        ("", None, ""),
        ("1002", Some(1002), ""),
        ("www-data", None, "www-data"),
        ("1003:1004", Some(1003), ""),
        ("www-data:1004", None, "www-data"),
    ] {
        let config = ContainerConfig { user: user.into(), ..ContainerConfig::default() };
        rig.push_with("user:1", b"x", config, None);
        let id = rig.pull("user:1").await;
        let image = rig.status(&id).await.unwrap();
        assert_eq!((image.uid, image.username.as_str()), (uid.map(|value| Int64Value { value }), username));
    }
}

#[tokio::test]
async fn what_another_process_changes_is_seen_and_nothing_is_read_twice() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    let id = rig.pull("a:1").await;
    assert_eq!(rig.list().await.len(), 1);
    // From here on what is known must do.
    let hex = id.strip_prefix("sha256:").unwrap();
    fs::remove_file(rig.dir.path().join("store/blobs/sha256").join(hex)).unwrap();
    let store = rig.store();
    let image = store.find(&rig.name("a:1")).unwrap();
    store.tag(&image, "localhost/other:2").unwrap();
    assert_eq!(rig.list().await[0].repo_tags.len(), 2);
    assert!(rig.images.catalogue.unchanged().is_some());
    store.remove(&image).unwrap();
    assert!(rig.images.catalogue.unchanged().is_none());
    assert_eq!(rig.list().await, []);
}

#[tokio::test]
async fn an_image_that_cannot_be_read_is_not_listed() {
    let rig = Rig::new();
    let digest = rig.push("a:1", b"x");
    rig.pull("a:1").await;
    fs::remove_file(rig.dir.path().join("store/blobs/sha256").join(digest.hex())).unwrap();
    assert_eq!(rig.list().await, []);
    rig.pull("a:1").await;
    assert_eq!(rig.list().await.len(), 1);
}

#[tokio::test]
async fn a_filter_is_an_id_a_name_or_a_repository() {
    let rig = Rig::new();
    for path in ["a:1", "a:2", "b:1"] {
        rig.push(path, path.as_bytes());
        rig.pull(path).await;
    }
    let all = rig.list().await;
    for (filter, count) in [
        (rig.name("a"), 2),
        (rig.name("a:1"), 1),
        (rig.name("a:3"), 0),
        (rig.name("b"), 1),
        (all[2].id.clone(), 1),
        ("busybox".into(), 0),
    ] {
        assert_eq!(rig.images.list(&filter).await.unwrap().len(), count, "{filter}");
    }
}

#[tokio::test]
async fn a_verbose_status_has_the_configuration_and_what_the_layers_are_called_together() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    let image = rig.pull("a:1").await;
    let spec = ImageSpec { image, user_specified_image: "a".into(), ..ImageSpec::default() };
    let status = rig.images.status(&spec, true).await.unwrap();
    let info: serde_json::Value = serde_json::from_str(&status.info["info"]).unwrap();
    let layers = &info["imageSpec"]["rootfs"]["diff_ids"];
    assert_eq!((layers.as_array().unwrap().len(), &layers[0]), (1, &info["chainID"]));
    assert_eq!(status.image.unwrap().spec.unwrap().user_specified_image, "a");
    assert!(rig.images.status(&spec, false).await.unwrap().info.is_empty());
}

#[tokio::test]
async fn a_container_is_made_from_an_id_or_a_name() {
    let rig = Rig::new();
    let digest = rig.push("a:1", b"x");
    let id = rig.pull("a:1").await;
    let for_container = |image: &str| {
        let spec = ImageSpec { image: image.into(), ..ImageSpec::default() };
        rig.images.for_container(Some(&spec))
    };
    let tag = rig.name("a:1");
    for text in [&id, &tag, &rig.name(&format!("a@{digest}"))] {
        let image = for_container(text).unwrap();
        assert_eq!((&image.id, &image.name), (&id, &tag), "{text}");
        assert_eq!(image.reference, rig.name(&format!("a@{digest}")));
        assert_eq!(image.layers.len(), 1);
        assert!(fs::exists(format!("{}/file", rig.images.layer_path(&image.layers[0]).unwrap())).unwrap());
    }
    assert_eq!(for_container("nothing:1").unwrap_err().code, Code::NotFound);
    assert_eq!(for_container("").unwrap_err().code, Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_taken_follows_pulls_and_removals() {
    let rig = Rig::new();
    let taken = async || {
        let info = rig.images.fs_info().await.unwrap();
        let [images, containers] = [&info.image_filesystems[0], &info.container_filesystems[0]];
        let root = rig.dir.path().join("store");
        assert_eq!(images.fs_id.as_ref().unwrap().mountpoint, root.display().to_string());
        // One filesystem, so one path.
        assert_eq!(images.fs_id, containers.fs_id);
        assert!(images.timestamp > 1_600_000_000_000_000_000);
        [images.used_bytes, images.inodes_used, containers.used_bytes].map(|v| v.unwrap().value)
    };
    let empty = taken().await;
    rig.push("a:1", &vec![7; 3 << 20]);
    let id = rig.pull("a:1").await;
    let upper = rig.dir.path().join("containers/c/upper");
    fs::create_dir_all(&upper).unwrap();
    fs::write(upper.join("written"), vec![1; 1 << 20]).unwrap();
    rig.images.usage.measure();
    let full = taken().await;
    // The layer as it came, and unpacked.
    assert!(full[0] - empty[0] >= 6 << 20 && full[0] < 7 << 20, "{full:?}");
    assert!(full[1] - empty[1] >= 4 && full[2] >= 1 << 20, "{full:?}");
    // What cannot be measured is what it was, and not nothing.
    let blobs = rig.dir.path().join("store/blobs/sha256");
    fs::rename(&blobs, rig.dir.path().join("aside")).unwrap();
    fs::write(&blobs, "").unwrap();
    rig.images.store.content().unwrap_err();
    rig.images.usage.measure();
    assert_eq!(taken().await[..2], full[..2]);
    fs::remove_file(&blobs).unwrap();
    fs::rename(rig.dir.path().join("aside"), &blobs).unwrap();
    // Whoever removes an image sees at once what that has freed.
    rig.images.remove(&id).await.unwrap();
    assert_eq!(taken().await[..2], empty[..2]);
}

#[tokio::test]
async fn names_of_the_configuration_are_pinned() {
    let pinned = vec!["registry.k8s.io/pause:3".to_owned(), "busybox".to_owned()];
    let rig = Rig::with(config::Images { pinned, ..config::Images::default() }, None);
    rig.push("a:1", b"x");
    let id = rig.pull("a:1").await;
    let store = rig.store();
    let image = store.find(&id).unwrap();
    assert!(!rig.status(&id).await.unwrap().pinned);
    store.tag(&image, &Reference::parse("busybox").unwrap().to_string()).unwrap();
    assert!(rig.status(&id).await.unwrap().pinned);
    let error = rig.images.remove(&id).await.unwrap_err();
    assert_eq!(error.code, Code::FailedPrecondition);
    assert!(error.message.contains("pinned"), "{error}");
    assert!(rig.status(&id).await.is_some());
}
