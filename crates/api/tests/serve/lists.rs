//! Long lists and long beginnings of watches, which are read while they are sent.

use serde_json::Value;

use crate::rig::{CONFIG_MAPS, Rig, config_map};

/// More than is read at once.
async fn many() -> Rig {
    let rig = Rig::start().await;
    let large = "x".repeat(32 * 1024);
    let posts = (0..40).map(|number| {
        let client = rig.client.clone();
        let map = config_map(&format!("n{number:02}"), &large);
        tokio::spawn(async move { client.post(CONFIG_MAPS, &map).await.status })
    });
    for post in posts.collect::<Vec<_>>() {
        assert_eq!(post.await.unwrap(), 201);
    }
    rig
}

fn names(items: &Value) -> Vec<String> {
    let items = items.as_array().unwrap().iter();
    items.map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn expected() -> Vec<String> {
    (0..40).map(|number| format!("n{number:02}")).collect()
}

#[tokio::test]
async fn a_long_list_is_the_same_in_every_form() {
    let rig = many().await;
    let plain = rig.client.get(CONFIG_MAPS).await;
    assert_eq!(plain.header("content-length"), "", "it is made while it is sent");
    let list = plain.json();
    assert_eq!(list["kind"], "ConfigMapList");
    assert_eq!(names(&list["items"]), expected());
    assert!(list["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap() >= 40);
    let pretty = rig.client.get(&format!("{CONFIG_MAPS}?pretty=1")).await;
    assert!(pretty.text().starts_with("{\n  \"kind\""));
    assert_eq!(pretty.json(), list);
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let metadata = rig.client.with("accept", metadata).get(CONFIG_MAPS).await.json();
    assert_eq!(names(&metadata["items"]), expected());
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = rig.client.with("accept", table).get(&format!("{CONFIG_MAPS}?includeObject=Object")).await;
    assert_eq!(table.json()["rows"].as_array().unwrap().len(), 40);
    let yaml = rig.client.with("accept", "application/yaml").get(CONFIG_MAPS).await;
    assert_eq!(yaml.text().matches("\n    name: n").count(), 40, "{}", &yaml.text()[..400]);
    let head = rig.client.send(http::Method::HEAD, CONFIG_MAPS, "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_long_list_is_as_it_was_when_it_began() {
    use http_body_util::BodyExt as _;
    let rig = many().await;
    let response = rig.client.start(rig.client.request(http::Method::GET, CONFIG_MAPS, "")).await;
    // What happens while it is read is not in it.
    rig.client.delete(&format!("{CONFIG_MAPS}/n39")).await;
    rig.client.post(CONFIG_MAPS, &config_map("n40", "1")).await;
    let list: Value =
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(names(&list["items"]), expected());
}

#[tokio::test]
async fn pieces_of_a_list_say_what_is_left() {
    let rig = many().await;
    let piece = rig.client.get(&format!("{CONFIG_MAPS}?limit=25")).await.json();
    assert_eq!(piece["items"].as_array().unwrap().len(), 25);
    assert_eq!(piece["metadata"]["remainingItemCount"], 15);
    let token = piece["metadata"]["continue"].as_str().unwrap();
    let rest = rig.client.get(&format!("{CONFIG_MAPS}?limit=25&continue={token}")).await.json();
    assert_eq!(names(&rest["items"]), expected()[25..]);
    let selected = rig.client.get(&format!("{CONFIG_MAPS}?limit=1&labelSelector=no%3Dbody")).await.json();
    assert_eq!(selected["items"].as_array().unwrap().len(), 0);
    assert_eq!(selected["metadata"].get("continue"), None);
}

#[tokio::test]
async fn a_watch_begins_with_all_there_is_and_goes_on() {
    let rig = many().await;
    let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut watch = rig.client.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    rig.client.post(CONFIG_MAPS, &config_map("later", "1")).await;
    for name in expected() {
        let event = watch.next().await.unwrap();
        assert_eq!(
            (event["type"].as_str(), event["object"]["metadata"]["name"].as_str()),
            (Some("ADDED"), Some(&*name))
        );
    }
    let bookmark = watch.next().await.unwrap();
    assert_eq!(bookmark["type"], "BOOKMARK");
    assert_eq!(bookmark["object"]["metadata"].get("creationTimestamp"), None);
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "later");
}

#[tokio::test]
async fn a_list_that_can_never_be_yaml_is_not_asked_for_again() {
    let rig = Rig::start().await;
    let large = "x".repeat(1_000_000);
    for number in 0..7 {
        let made = rig.client.post(CONFIG_MAPS, &config_map(&format!("n{number}"), &large)).await;
        assert_eq!(made.status, 201);
    }
    let yaml = rig.client.with("accept", "application/yaml");
    for path in [CONFIG_MAPS.to_owned(), format!("{CONFIG_MAPS}?limit=7")] {
        let refused = yaml.get(&path).await;
        assert_eq!(refused.status, 413, "{path}: {}", refused.body.len());
        assert!(refused.text().contains("reason: RequestEntityTooLarge"), "{}", refused.text());
    }
    assert_eq!(yaml.get(&format!("{CONFIG_MAPS}?limit=2")).await.status, 200);
}
