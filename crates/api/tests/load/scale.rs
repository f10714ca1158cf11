//! Much: a hundred thousand objects, a thousand watchers, a watcher that does not read.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use api::store::{Document, Expect, Key, Options, Store, Write};
use http::Method;
use serde_json::{Value, json};

use crate::client::{Client, Connection};
use crate::server::{PATIENCE, Server};
use crate::watcher::version;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: &str = "application/json";

fn many() -> usize {
    std::env::var("SEXTANT_API_OBJECTS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000)
}

/// A config map as the server keeps it.
fn kept(number: usize) -> Write {
    let name = format!("map-{number:06}");
    let json = format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"default","uid":"5d59d675-64aa-4000-8000-{number:012}","resourceVersion":"","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"tenth":"{}"}}}},"data":{{"number":"{number}","text":"{:200}"}}}}"#,
        number % 10,
        ""
    );
    let revision_at = json.find(r#""resourceVersion":""#).unwrap() + r#""resourceVersion":""#.len();
    let key = Key { resource: "configmaps".into(), namespace: "default".into(), name };
    Write { key, expect: Expect::Absent, value: Some(Document { json: json.into(), revision_at }) }
}

/// Fills a server's store, whose history begins just before its end; returns its revision.
async fn fill(folder: &Path, count: usize) -> u64 {
    let store = Store::open(&folder.join("store"), Options::default()).unwrap();
    for start in (0..count).step_by(1000) {
        store.commit((start..count.min(start + 1000)).map(kept).collect()).await.unwrap();
    }
    let revision = store.revision();
    store.compact(revision - 1).await.unwrap();
    let closed = store.closed();
    drop(store);
    closed.await;
    revision
}

async fn create(connection: &mut Connection, name: &str, size: usize) -> (u16, Value) {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"text": "x".repeat(size)},
    });
    let (code, body) = connection.call(Method::POST, MAPS, JSON, map.to_string()).await.unwrap();
    (code, serde_json::from_slice(&body).unwrap())
}

/// All pages of a list; the names, and the version.
async fn pages(connection: &mut Connection, query: &str) -> (HashSet<String>, u64) {
    let (mut names, mut token, mut at) = (HashSet::new(), String::new(), 0);
    loop {
        let (code, page) = connection.get(&format!("{MAPS}?{query}&continue={token}")).await.unwrap();
        assert_eq!(code, 200, "{page}");
        assert!(at == 0 || at == version(&page), "pages of one list are of one version");
        at = version(&page);
        for item in page["items"].as_array().unwrap() {
            assert!(
                names.insert(item["metadata"]["name"].as_str().unwrap().to_owned()),
                "{item} comes twice"
            );
        }
        token = page["metadata"]["continue"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return (names, at);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_objects_are_served() {
    let (folder, count) = (tempfile::tempdir().unwrap(), many());
    let filled = fill(folder.path(), count).await;
    let began = Instant::now();
    let mut server = Server::spawn(folder.path());
    let client = server.client(folder.path());
    let ready = began.elapsed();
    let mut connection = client.connect().await.unwrap();
    let start = server.resident();
    let (names, at) = pages(&mut connection, "limit=500").await;
    let maps = names.iter().filter(|name| name.starts_with("map-")).count();
    assert_eq!(maps, count);
    assert!(at >= filled);
    let paged = server.resident();
    let (tenth, _) = pages(&mut connection, "limit=500&labelSelector=tenth%3D3").await;
    assert_eq!(tenth.len(), count / 10);
    let (code, list) = connection.get(&format!("{MAPS}?limit=1")).await.unwrap();
    assert_eq!((code, list["metadata"]["remainingItemCount"].as_u64()), (200, Some(names.len() as u64 - 1)));
    // What is older than the history is gone: 410, for watches within the watch.
    let (code, gone) =
        connection.get(&format!("{MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await.unwrap();
    assert_eq!((code, gone["reason"].as_str()), (410, Some("Expired")), "{gone}");
    let mut lines = connection.watch(&format!("{MAPS}?watch=1&resourceVersion=1")).await.unwrap();
    let told = lines.next().await.unwrap();
    assert_eq!(
        (told["type"].as_str(), told["object"]["code"].as_u64()),
        (Some("ERROR"), Some(410)),
        "{told}"
    );
    assert!(lines.next().await.is_none());
    println!("{count} objects: ready after {ready:?}; {start} MiB, {paged} MiB after a list by pages");
    assert!(paged < 300, "{paged} MiB after a list by pages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_watchers_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::spawn(folder.path());
    let client = server.client(folder.path());
    let at = version(&client.connect().await.unwrap().get(MAPS).await.unwrap().1);
    let path =
        format!("{MAPS}?watch=1&resourceVersion={at}&fieldSelector=metadata.name%21%3Dkube-root-ca.crt");
    let mut watchers = Vec::new();
    // A client's connection has up to a hundred streams.
    for _ in 0..20 {
        let mut connection = client.connect().await.unwrap();
        for _ in 0..50 {
            watchers.push((connection.watch(&path).await.unwrap(), connection.clone()));
        }
    }
    let mut connection = client.connect().await.unwrap();
    for name in ["a", "b", "c"] {
        assert_eq!(create(&mut connection, name, 1000).await.0, 201);
    }
    for (lines, _) in &mut watchers {
        for name in ["a", "b", "c"] {
            let event = tokio::time::timeout(PATIENCE, lines.next()).await.unwrap().unwrap();
            assert_eq!(event["object"]["metadata"]["name"], name);
        }
    }
    let held = server.resident();
    println!("{} watchers: {held} MiB", watchers.len());
    assert!(held < 200, "{held} MiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_costs_little_and_misses_nothing_or_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::spawn(folder.path());
    let client = server.client(folder.path());
    let mut connection = client.connect().await.unwrap();
    let at = version(&connection.get(MAPS).await.unwrap().1);
    let path = format!("{MAPS}?watch=1&resourceVersion={at}");
    let mut sleeper = client.connect().await.unwrap().watch(&path).await.unwrap();
    let before = server.resident();
    // 32 MiB of events in all: more than the server keeps in memory.
    let (count, size) = (32_u32, 1 << 20);
    for number in 0..count {
        let (code, body) = create(&mut connection, &format!("big-{number:03}"), size - 1000).await;
        assert_eq!(code, 201, "{}", body["message"]);
        if number.is_multiple_of(8) {
            assert_eq!(connection.call(Method::GET, "/readyz", JSON, "").await.unwrap().0, 200);
        }
    }
    let held = server.resident();
    println!("{count} MiB of events for who does not read: {before} MiB before, {held} MiB now");
    assert!(held < before + 60, "{held} MiB, before there were {before}");
    let mut next = 0;
    loop {
        let event = tokio::time::timeout(PATIENCE, sleeper.next()).await.unwrap().unwrap();
        let object = &event["object"];
        if event["type"] == "ERROR" {
            assert_eq!(object["code"], 410, "{object}");
            break;
        }
        let name = object["metadata"]["name"].as_str().unwrap();
        if name.starts_with("big-") {
            assert_eq!(name, format!("big-{next:03}"));
            next += 1;
        }
        if next == count {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::spawn(folder.path());
    let client: Client = server.client(folder.path());
    let mut connection = client.connect().await.unwrap();
    let (code, told) = create(&mut connection, "kept", 1_000_000).await;
    assert_eq!(code, 201, "{told}");
    let (code, told) = create(&mut connection, "large", 3_000_000).await;
    assert_eq!((code, told["reason"].as_str()), (422, Some("Invalid")));
    assert!(
        told["message"].as_str().unwrap().contains("Too long: may not be more than 1048576 bytes"),
        "{told}"
    );
    let asked =
        tokio::time::timeout(Duration::from_secs(60), create(&mut connection, "larger", 3 << 20)).await;
    let (code, told) = asked.unwrap();
    assert_eq!((code, told["message"].as_str()), (413, Some("Request entity too large: limit is 3145728")));
    assert_eq!(connection.get(&format!("{MAPS}/kept")).await.unwrap().0, 200);
}
