//! Watches: what they begin with, what comes and goes, how they end.

use super::*;
use crate::registry::Watching;

fn watch(version: &str) -> ListOptions {
    ListOptions { watch: true, version: version.to_owned(), ..ListOptions::default() }
}

async fn begin(rig: &Rig, options: &ListOptions) -> Watching {
    rig.registry.watch(&rig.context, &rig.map(""), options, View::Full).await.unwrap()
}

/// Type and name of the next event.
async fn next(watching: &mut Watching) -> (String, String) {
    let frame = watching.next().await.unwrap();
    assert_eq!(frame.last(), Some(&b'\n'));
    let event: Value = serde_json::from_slice(&frame).unwrap();
    let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default();
    (event["type"].as_str().unwrap().to_owned(), name.to_owned())
}

fn told(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn a_watch_without_a_version_begins_with_what_is_there() {
    let rig = Rig::new().await;
    rig.create_map("x", json!({})).await;
    let options = ListOptions { initial_events: Some(true), bookmarks: true, ..watch("") };
    let mut watching = begin(&rig, &options).await;
    assert_eq!(next(&mut watching).await, told("ADDED", "x"));
    let frame: Value = serde_json::from_slice(&watching.next().await.unwrap()).unwrap();
    assert_eq!(frame["type"], "BOOKMARK");
    assert_eq!(frame["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    rig.create_map("y", json!({})).await;
    assert_eq!(next(&mut watching).await, told("ADDED", "y"));
}

#[tokio::test]
async fn a_watch_from_a_version_tells_what_came_after_it() {
    let rig = Rig::new().await;
    let mut map = rig.create_map("x", json!({})).await;
    let mut watching = begin(&rig, &watch(map.resource_version())).await;
    map.make(&["data"]).insert("a".to_owned(), "2".into());
    rig.update(&rig.map("x"), &map).await.unwrap();
    rig.delete(&rig.map("x"), &DeleteOptions::default()).await.unwrap();
    assert_eq!(next(&mut watching).await, told("MODIFIED", "x"));
    assert_eq!(next(&mut watching).await, told("DELETED", "x"));
}

#[tokio::test]
async fn what_enters_a_selection_is_added_and_what_leaves_it_is_deleted() {
    let rig = Rig::new().await;
    let version = rig.registry.store().revision().to_string();
    let options = ListOptions { labels: "in=yes".to_owned(), ..watch(&version) };
    let mut watching = begin(&rig, &options).await;
    let mut map = rig.create_map("x", json!({"labels": {"in": "no"}})).await;
    for label in ["yes", "yes", "no"] {
        map.make(&["metadata", "labels"]).insert("in".to_owned(), label.into());
        let change = map.make(&["data"]).len().to_string();
        map.make(&["data"]).insert(change, "x".into());
        map = rig.update(&rig.map("x"), &map).await.unwrap();
    }
    assert_eq!(next(&mut watching).await, told("ADDED", "x"));
    assert_eq!(next(&mut watching).await, told("MODIFIED", "x"));
    let frame: Value = serde_json::from_slice(&watching.next().await.unwrap()).unwrap();
    assert_eq!(
        (&frame["type"], &frame["object"]["metadata"]["labels"]["in"]),
        (&json!("DELETED"), &json!("yes"))
    );
    assert_eq!(frame["object"]["metadata"]["resourceVersion"], map.resource_version());
}

#[tokio::test]
async fn a_watch_from_a_version_that_is_gone_tells_an_error_and_ends() {
    // With nothing in memory, what is compacted is gone at once.
    let rig = Rig::over(store::Options { recent: 0, ..store::Options::default() }).await;
    rig.create_map("x", json!({})).await;
    rig.create_map("y", json!({})).await;
    rig.registry.store().compact(rig.registry.store().revision()).await.unwrap();
    let mut watching = begin(&rig, &watch("1")).await;
    let frame: Value = serde_json::from_slice(&watching.next().await.unwrap()).unwrap();
    assert_eq!((&frame["type"], &frame["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert_eq!(frame["object"]["reason"], "Expired");
    assert!(watching.next().await.is_none());
}

#[tokio::test]
async fn a_watch_ends_when_its_time_is_over() {
    let rig = Rig::new().await;
    let version = rig.registry.store().revision().to_string();
    let mut watching = begin(&rig, &ListOptions { timeout: Some(1), ..watch(&version) }).await;
    assert!(watching.next().await.is_none());
}

#[tokio::test]
async fn a_version_that_is_no_number_is_refused_in_the_words_of_kubernetes() {
    let rig = Rig::new().await;
    let refused =
        rig.registry.watch(&rig.context, &rig.map(""), &watch("abc"), View::Full).await.err().unwrap();
    assert_eq!(
        (refused.code, refused.message.as_str()),
        (500, "resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax")
    );
}
