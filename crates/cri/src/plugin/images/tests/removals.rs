//! RemoveImage, and what is collected after it.

use std::sync::Arc;
use std::time::Duration;

use super::rig::{Rig, until};
use crate::contract::Code;

#[tokio::test]
async fn any_name_takes_all_names() {
    let rig = Rig::new();
    let digest = rig.push("a:1", b"same");
    rig.push("b:1", b"same");
    rig.push("other:1", b"other");
    let other = rig.pull("other:1").await;
    for how in 0..5 {
        let id = rig.pull("a:1").await;
        rig.pull("b:1").await;
        let names = [
            rig.name("a:1"),
            rig.name("b:1"),
            rig.name(&format!("b@{digest}")),
            id.clone(),
            id["sha256:".len()..].to_owned(),
        ];
        rig.images.remove(&names[how]).await.unwrap();
        for name in &names {
            assert_eq!(rig.status(name).await, None, "{name} after {}", names[how]);
            // It is gone, which is what was asked for.
            rig.images.remove(name).await.unwrap();
        }
        assert_eq!(
            rig.list().await.into_iter().map(|i| i.id).collect::<Vec<_>>(),
            std::slice::from_ref(&other)
        );
    }
}

#[tokio::test]
async fn what_means_nothing_removes_nothing() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    rig.pull("a:1").await;
    for text in ["nothing", "?", "sha256:", "sha256", &"0".repeat(64)] {
        rig.images.remove(text).await.unwrap();
    }
    let error = rig.images.remove("").await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (Code::InvalidArgument, Some("image.image")));
    assert_eq!(rig.list().await.len(), 1);
}

#[tokio::test]
async fn an_id_that_could_be_two_removes_neither() {
    let rig = Rig::new();
    let mut ids: Vec<String> = Vec::new();
    // Of 257 ids two begin with the same two digits.
    let twin = loop {
        let path = format!("i{}:1", ids.len());
        rig.push(&path, path.as_bytes());
        let id = rig.pull(&path).await;
        let twin = ids.iter().any(|other| other["sha256:".len()..][..2] == id["sha256:".len()..][..2]);
        ids.push(id.clone());
        if twin {
            break id;
        }
    };
    let error = rig.images.remove(&twin[..9]).await.unwrap_err();
    assert_eq!(error.code, Code::InvalidArgument, "{error}");
    assert_eq!(rig.list().await.len(), ids.len());
}

#[tokio::test]
async fn five_at_once_all_succeed() {
    let rig = Arc::new(Rig::new());
    rig.push("a:1", b"x");
    let id = rig.pull("a:1").await;
    let remove = || {
        let (rig, id) = (Arc::clone(&rig), id.clone());
        tokio::spawn(async move {
            rig.images.remove(&id).await.unwrap();
            assert_eq!(rig.status(&id).await, None);
        })
    };
    let all: Vec<_> = (0..5).map(|_| remove()).collect();
    for one in all {
        one.await.unwrap();
    }
}

#[tokio::test]
async fn layers_stay_until_their_containers_are_gone() {
    let rig = Rig::new();
    rig.push("used:1", b"used");
    rig.push("unused:1", b"unused");
    let used = rig.pull("used:1").await;
    let [layer] = rig.layers().try_into().unwrap();
    let unused = rig.pull("unused:1").await;
    rig.in_use.lock().unwrap().insert(format!("sha256:{layer}"));
    rig.images.remove(&used).await.unwrap();
    rig.images.remove(&unused).await.unwrap();
    assert_eq!(rig.list().await, []);
    until("the unused layer is gone", || rig.layers() == [layer.clone()]).await;
    rig.images.collector.settled(Duration::from_secs(180)).await;
    assert_eq!(rig.layers(), [layer]);
    // The container goes; the next collection takes the layer.
    rig.in_use.lock().unwrap().clear();
    rig.images.collect_soon();
    until("the layer is gone", || rig.layers().is_empty()).await;
}

#[tokio::test]
async fn an_image_pulled_while_another_is_collected_is_whole() {
    let rig = Arc::new(Rig::new());
    for n in 0..8 {
        rig.push(&format!("i{n}:1"), format!("{n}").as_bytes());
    }
    for round in 0..8 {
        let (this, next) = (format!("i{round}:1"), format!("i{}:1", (round + 1) % 8));
        let id = rig.pull(&this).await;
        let (removed, _) = tokio::join!(rig.images.remove(&id), rig.pull(&next));
        removed.unwrap();
        rig.images.collector.settled(Duration::from_secs(180)).await;
        let spec = crate::contract::v1::ImageSpec { image: rig.name(&next), ..Default::default() };
        let image = rig.images.for_container(Some(&spec)).unwrap();
        rig.images.layer_path(&image.layers[0]).unwrap();
    }
    assert_eq!(rig.layers().len(), 1);
}
