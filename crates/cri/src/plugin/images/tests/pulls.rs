//! PullImage.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::rig::{Rig, Rule, until};
use crate::contract::Code;
use crate::contract::v1::AuthConfig;
use crate::plugin::config;

fn me() -> AuthConfig {
    AuthConfig { username: "me".into(), password: "secret".into(), ..AuthConfig::default() }
}

fn limited(max_parallel_pulls: usize) -> config::Images {
    config::Images { max_parallel_pulls, ..config::Images::default() }
}

#[tokio::test]
async fn pulls_of_the_same_by_the_same_are_one() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    rig.state().set(Rule::Hold("/manifests/".into()));
    let release = async {
        until("both wait", || rig.images.pulls.waiting() == 2).await;
        rig.state().set(Rule::None);
    };
    let (one, two, ()) = tokio::join!(rig.pull("a:1"), rig.pull("a:1"), release);
    assert_eq!(one, two);
    assert_eq!(rig.state().count(&["GET", "/manifests/"]), 1);
    assert_eq!(rig.state().count(&["GET", "/blobs/"]), 2);
    assert_eq!(rig.images.pulls.waiting(), 0);
}

#[tokio::test]
async fn another_user_asks_the_registry_too() {
    let rig = Rig::with(limited(0), Some(("me", "secret")));
    rig.push_with("a:1", b"x", Default::default(), Some(("me", "secret")));
    rig.state().set(Rule::Hold("/blobs/".into()));
    let release = async {
        until("a blob is asked for", || rig.state().count(&["GET", "/blobs/"]) > 0).await;
        rig.state().set(Rule::None);
    };
    let wrong = AuthConfig { password: "wrong".into(), ..me() };
    let (good, bad, ()) = tokio::join!(rig.pull_as("a:1", me()), rig.pull_as("a:1", wrong), release);
    good.unwrap();
    assert_eq!(bad.unwrap_err().code, Code::Unauthenticated);
}

#[tokio::test]
async fn a_pull_ends_when_its_last_caller_leaves_and_is_taken_up_again() {
    let rig = Rig::new();
    let content = vec![5; 4 << 20];
    rig.push("a:1", &content);
    // The configuration comes; the layer stops after two of its four megabytes.
    rig.state().set(Rule::CutAndHold("/blobs/".into(), 2 << 20));
    let leave = |ms| tokio::time::sleep(Duration::from_millis(ms));
    let partial = || {
        let folder = rig.dir.path().join("store/ingest/blobs");
        let lengths = fs::read_dir(folder).unwrap().map(|e| e.unwrap().metadata().map_or(0, |m| m.len()));
        lengths.sum::<u64>()
    };
    let first = async {
        tokio::select! { _ = rig.pull("a:1") => panic!("it cannot end"), () = leave(400) => {} }
    };
    let second = async {
        until("it is joined", || rig.images.pulls.waiting() > 0).await;
        tokio::select! {
            _ = rig.pull("a:1") => panic!("it cannot end"),
            () = until("half is there", || partial() >= 1 << 20) => {}
        }
        // The first has left before or has not; now nobody is there.
    };
    tokio::join!(first, second);
    assert_eq!(rig.images.pulls.waiting(), 0);
    assert_eq!(rig.state().count(&["GET", "/manifests/"]), 1, "the second joined");
    rig.state().set(Rule::None);
    let id = rig.pull("a:1").await;
    assert!(rig.status(&id).await.is_some());
    assert_eq!(rig.state().count(&["GET", "/blobs/", "range: bytes="]), 1, "it went on where it stopped");
}

#[tokio::test]
async fn one_caller_leaves_and_the_other_gets_the_image() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    rig.state().set(Rule::Hold("/manifests/".into()));
    let stays = rig.pull("a:1");
    let leaves = async {
        until("one waits", || rig.images.pulls.waiting() == 1).await;
        let pull = rig.pull("a:1");
        tokio::select! { _ = pull => panic!("it is held"), () = until("two wait", || rig.images.pulls.waiting() == 2) => {} }
        rig.state().set(Rule::None);
    };
    let (id, ()) = tokio::join!(stays, leaves);
    assert!(rig.status(&id).await.is_some());
}

#[tokio::test]
async fn more_than_may_run_wait_and_may_leave() {
    let rig = Rig::with(limited(1), None);
    for path in ["a:1", "b:1", "c:1"] {
        rig.push(path, path.as_bytes());
    }
    rig.state().set(Rule::Hold("/v2/a/".into()));
    {
        let held = rig.pull("a:1");
        tokio::pin!(held);
        let waits = async {
            until("a is asked for", || rig.state().count(&["/v2/a/"]) > 0).await;
            let limit = Duration::from_millis(100);
            assert!(tokio::time::timeout(limit, rig.pull("b:1")).await.is_err());
        };
        tokio::select! { _ = &mut held => panic!("it is held"), () = waits => {} }
        assert_eq!(rig.state().count(&["/v2/b/"]), 0);
    }
    // Its registry still does not answer; nobody else waits for that.
    rig.pull("c:1").await;
    rig.state().set(Rule::None);
}

#[tokio::test]
async fn credentials_of_the_call_are_used_for_their_registry() {
    let rig = Rig::with(limited(0), Some(("me", "secret")));
    rig.push_with("a:1", b"x", Default::default(), Some(("me", "secret")));
    assert_eq!(rig.images.pull(&rig.name("a:1"), None).await.unwrap_err().code, Code::Unauthenticated);
    let elsewhere = AuthConfig { server_address: "https://elsewhere.example".into(), ..me() };
    assert_eq!(rig.pull_as("a:1", elsewhere).await.unwrap_err().code, Code::Unauthenticated);
    let here = AuthConfig { server_address: format!("http://{}", rig.front.server.addr), ..me() };
    let id = rig.pull_as("a:1", here).await.unwrap();
    // me:secret
    let encoded = AuthConfig { auth: "bWU6c2VjcmV0".into(), ..AuthConfig::default() };
    assert_eq!(rig.pull_as("a:1", encoded).await.unwrap(), id);
    // That the image is here is no proof that others may have it.
    assert_eq!(rig.images.pull(&rig.name("a:1"), None).await.unwrap_err().code, Code::Unauthenticated);
    let error =
        rig.pull_as("a:1", AuthConfig { auth: "?".into(), ..AuthConfig::default() }).await.unwrap_err();
    assert_eq!((error.code, error.field.as_deref()), (Code::InvalidArgument, Some("auth.auth")));
}

#[tokio::test]
async fn the_node_has_credentials_of_its_own() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let auth_file = Some(file.path().to_owned());
    let rig = Rig::with(config::Images { auth_file, ..limited(0) }, Some(("me", "secret")));
    rig.push_with("a:1", b"x", Default::default(), Some(("me", "secret")));
    let auths = serde_json::json!({"auths": {rig.front.server.addr.to_string(): {"auth": "bWU6c2VjcmV0"}}});
    fs::write(file.path(), auths.to_string()).unwrap();
    rig.pull("a:1").await;
}

#[tokio::test]
async fn a_mirror_serves_under_the_registry_s_name_and_gets_no_credentials() {
    let rig = Rig::new();
    let digest = rig.push("library/a:1", b"x");
    rig.mirror("registry.example");
    let name = "registry.example/library/a:1";
    rig.images.pull(name, Some(&me())).await.unwrap();
    let image = rig.status(name).await.unwrap();
    assert_eq!(image.repo_tags, [name]);
    assert_eq!(image.repo_digests, [format!("registry.example/library/a@{digest}")]);
    assert_eq!(rig.state().count(&["authorization"]), 0);
}

#[tokio::test]
async fn an_unchanged_image_costs_one_request_and_no_write() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    let id = rig.pull("a:1").await;
    let written = fs::metadata(rig.index()).unwrap().modified().unwrap();
    rig.state().forget();
    assert_eq!(rig.pull("a:1").await, id);
    assert_eq!((rig.state().requests(), rig.state().count(&["HEAD", "/manifests/"])), (1, 1));
    assert_eq!(fs::metadata(rig.index()).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn a_layer_that_got_lost_comes_again() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    rig.pull("a:1").await;
    for layer in rig.layers() {
        fs::remove_dir_all(rig.dir.path().join("store/layers/sha256").join(layer)).unwrap();
    }
    rig.pull("a:1").await;
    assert_eq!(rig.layers().len(), 1);
}

#[tokio::test]
async fn an_image_whose_tag_has_moved_is_kept_by_its_digest() {
    let rig = Rig::new();
    let before = rig.push("a:1", b"old");
    let old = rig.pull("a:1").await;
    rig.push("a:1", b"new");
    let new = rig.pull("a:1").await;
    assert_ne!(old, new);
    assert_eq!(rig.status(&rig.name("a:1")).await.unwrap().id, new);
    let image = rig.status(&old).await.unwrap();
    assert_eq!((image.repo_tags.len(), &image.repo_digests), (0, &vec![rig.name(&format!("a@{before}"))]));
    rig.images.remove(&old).await.unwrap();
    assert_eq!(rig.list().await.len(), 1);
}

#[tokio::test]
async fn failures_are_told_in_the_words_of_the_kubelet() {
    let rig = Rig::new();
    rig.push("a:1", b"x");
    let error = async |name: &str| rig.images.pull(name, None).await.unwrap_err();
    let missing = error(&rig.name("a:2")).await;
    assert_eq!(missing.code, Code::NotFound, "{missing}");
    for (status, code) in [
        (403, Code::PermissionDenied),
        (401, Code::Unauthenticated),
        (429, Code::Unavailable),
        (503, Code::Unavailable),
    ] {
        rig.state().set(Rule::Status("/manifests/".into(), status));
        let error = error(&rig.name("a:1")).await;
        assert_eq!(error.code, code, "{error}");
        assert_eq!(error.message.starts_with("RegistryUnavailable: "), code == Code::Unavailable, "{error}");
        assert!(error.message.contains(&format!("cannot pull image {:?}", rig.name("a:1"))), "{error}");
    }
    // Nobody listens there.
    let error_there = error("127.0.0.1:1/a:1").await;
    assert_eq!(error_there.code, Code::Unavailable);
    assert!(error_there.message.starts_with("RegistryUnavailable: "), "{error_there}");
    for bad in ["", "A/B", "a b", &"0".repeat(64), "a@sha256:1"] {
        let error = error(bad).await;
        assert_eq!(
            (error.code, error.field.as_deref()),
            (Code::InvalidArgument, Some("image.image")),
            "{error}"
        );
    }
    assert_eq!(rig.list().await, []);
}

#[tokio::test]
async fn a_pull_that_does_not_get_on_ends() {
    let config = config::Images { pull_progress_timeout: 1, ..limited(0) };
    let rig = Rig::with(config, None);
    rig.push("a:1", &vec![3; 1 << 20]);
    rig.state().set(Rule::Hold(rig.layer("a:1").to_string()));
    let begun = std::time::Instant::now();
    let error = rig.images.pull(&rig.name("a:1"), None).await.unwrap_err();
    assert_eq!(error.code, Code::Unavailable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    rig.state().set(Rule::None);
}

#[tokio::test]
async fn many_at_once_all_end_well() {
    let rig = Arc::new(Rig::with(limited(2), None));
    let mut pulls = Vec::new();
    for n in 0..10 {
        rig.push(&format!("i{n}:1"), format!("{n}").as_bytes());
        let rig = Arc::clone(&rig);
        pulls.push(tokio::spawn(async move { rig.pull(&format!("i{n}:1")).await }));
    }
    for pull in pulls {
        pull.await.unwrap();
    }
    assert_eq!(rig.list().await.len(), 10);
}
