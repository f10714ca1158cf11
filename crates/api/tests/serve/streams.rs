use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::{CONFIG_MAPS, Rig, config_map};

#[tokio::test]
async fn a_watch_tells_what_happens_until_its_time_is_over() {
    let rig = Rig::start().await;
    rig.client.post(CONFIG_MAPS, &config_map("a", "1")).await;
    let version = rig.client.get(CONFIG_MAPS).await.json()["metadata"]["resourceVersion"].clone();
    let version = version.as_str().unwrap();
    let mut watch =
        rig.client.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=2")).await;
    rig.client.post(CONFIG_MAPS, &config_map("b", "1")).await;
    let merge = rig.client.with("content-type", "application/merge-patch+json");
    merge.send(Method::PATCH, &format!("{CONFIG_MAPS}/b"), "{\"data\":{\"key\":\"2\"}}").await;
    rig.client.delete(&format!("{CONFIG_MAPS}/b")).await;
    let mut seen = Vec::new();
    while let Some(event) = watch.next().await {
        let object = &event["object"];
        seen.push((event["type"].clone(), object["metadata"]["name"].clone(), object["data"]["key"].clone()));
    }
    let told = |kind: &str, value: &str| (kind.into(), "b".into(), value.into());
    assert_eq!(seen, [told("ADDED", "1"), told("MODIFIED", "2"), told("DELETED", "2")]);
}

#[tokio::test]
async fn the_old_paths_of_watches_still_work() {
    let rig = Rig::start().await;
    rig.client.post(CONFIG_MAPS, &config_map("a", "1")).await;
    let mut watch = rig.client.watch("/api/v1/watch/namespaces/default/configmaps/a?timeoutSeconds=60").await;
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "a");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let rig = Rig::start().await;
    // It never reads: its socket fills, and its watch waits.
    let mut slow = TcpStream::connect(rig.client.address).await.unwrap();
    let head = format!("GET {CONFIG_MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut quick = rig.client.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    let large = "x".repeat(256 * 1024);
    for number in 0..40 {
        let name = format!("n{number:02}");
        let made = rig.client.post(CONFIG_MAPS, &config_map(&name, &large)).await;
        assert_eq!(made.status, 201);
        assert_eq!(quick.next().await.unwrap()["object"]["metadata"]["name"], name.as_str());
    }
    let metrics = rig.client.get("/metrics").await;
    assert!(metrics.text().contains("apiserver_registered_watchers 2\n"), "{}", metrics.text());
    drop((slow, quick));
}

#[tokio::test]
async fn a_watch_that_is_not_read_ends_when_what_it_has_to_see_is_gone() {
    let rig = Rig::start().await;
    let version = rig.registry.store().revision();
    let mut watch = rig.client.watch(&format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}")).await;
    // More than sockets and the store hold for somebody who does not read.
    let large = "x".repeat(1_000_000);
    for number in 0..24 {
        let made = rig.client.post(CONFIG_MAPS, &config_map(&format!("n{number}"), &large)).await;
        assert_eq!(made.status, 201);
    }
    rig.registry.store().compact(rig.registry.store().revision()).await.unwrap();
    let mut last = None;
    while let Some(event) = watch.next().await {
        last = Some(event);
    }
    let last = last.unwrap();
    assert_eq!(
        (last["type"].as_str(), last["object"]["code"].as_u64()),
        (Some("ERROR"), Some(410)),
        "{last}"
    );
}

#[tokio::test]
async fn an_audit_log_that_cannot_be_written_is_told_by_health() {
    let audit = api::auth::audit::Audit::open(std::path::Path::new("/dev/full"), 1 << 20, 1).unwrap();
    let access = api::auth::Access::trusting(api::resource::Asker::default());
    let rig = Rig::with(access, Some(audit)).await;
    let mut told = String::new();
    for _ in 0..9000 {
        told = rig.client.get("/readyz/log").await.text().to_owned();
        if told != "ok" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told, "internal server error: log: the audit log cannot be written\n");
    assert_eq!(rig.client.get("/livez/log").await.text(), "ok");
}

#[tokio::test]
async fn a_change_whose_client_goes_has_its_line_in_the_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let audit = api::auth::audit::Audit::open(&path, 1 << 20, 1).unwrap();
    let access = api::auth::Access::trusting(api::resource::Asker::default());
    let rig = Rig::with(access, Some(audit)).await;
    for number in 0..40 {
        let body = config_map(&format!("n{number}"), "1").to_string();
        let mut stream = TcpStream::connect(rig.client.address).await.unwrap();
        let head = format!(
            "POST {CONFIG_MAPS}?n={number} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
        // Some are gone before the server looks, and some while it writes.
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
    }
    let (mut lacking, mut before) = (String::new(), Vec::new());
    for _ in 0..9000 {
        let made = rig.client.get(CONFIG_MAPS).await.json();
        let log = std::fs::read_to_string(&path).unwrap();
        let made =
            made["items"].as_array().unwrap().iter().map(|map| map["metadata"]["name"].as_str().unwrap());
        let made: Vec<String> = made.filter_map(|name| name.strip_prefix('n')).map(str::to_owned).collect();
        let is_told = |number: &&String| log.lines().any(|line| line.contains(&format!("?n={number}\"")));
        lacking = made.iter().filter(|number| !is_told(number)).map(|number| format!("{number} ")).collect();
        // Later ones may still be on their way.
        if !made.is_empty() && lacking.is_empty() && made == before {
            return;
        }
        before = made;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("done and not told: {lacking}");
}

#[tokio::test]
async fn watches_end_when_the_server_does() {
    let rig = Rig::start().await;
    let mut watch = rig.client.watch(&format!("{CONFIG_MAPS}?watch=1")).await;
    rig.client.post(CONFIG_MAPS, &config_map("a", "1")).await;
    assert!(watch.next().await.is_some());
    let ended = tokio::spawn(async move { while watch.next().await.is_some() {} });
    rig.server.stop(Duration::from_secs(30)).await;
    ended.await.unwrap();
}

#[tokio::test]
async fn what_is_no_http_ends_its_connection() {
    let rig = Rig::start().await;
    for wrong in ["\x16\x03\x01\x02\x00\x01\x00\x01", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(rig.client.address).await.unwrap();
        stream.write_all(wrong.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{wrong:?}");
    }
    let mut large = TcpStream::connect(rig.client.address).await.unwrap();
    let head = format!("GET /version HTTP/1.1\r\nHost: x\r\nX-Fill: {}\r\n\r\n", "x".repeat(128 * 1024));
    let _ = large.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = large.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(rig.client.get("/healthz").await.text(), "ok");
}

#[tokio::test]
async fn plain_http_is_for_loopback_alone() {
    let setup = |listen: &str| api::serve::Setup {
        registry: {
            let dir = tempfile::tempdir().unwrap();
            let store = api::store::Store::open(dir.path(), api::store::Options::default()).unwrap();
            api::registry::Registry::new(store, Vec::new(), Vec::new(), api::registry::Settings::default())
        },
        access: api::auth::Access::trusting(api::resource::Asker::default()),
        authority: None,
        listen: vec![listen.parse().unwrap()],
        listen_ahead: Vec::new(),
        node: None,
        audit: None,
    };
    let refused = api::serve::Server::start(setup("0.0.0.0:0")).await.err().unwrap();
    assert!(refused.to_string().contains("without TLS only loopback addresses"), "{refused}");
}
