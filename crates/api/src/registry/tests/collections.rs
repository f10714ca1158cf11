//! Lists: in pieces, selected, in other forms.

use super::*;
use crate::registry::options::VersionMatch;
use crate::registry::{Include, Meta};

async fn with_maps(count: usize) -> Rig {
    let rig = Rig::new().await;
    for index in 0..count {
        let parity = if index % 2 == 0 { "even" } else { "odd" };
        rig.create_map(&format!("m{index:02}"), json!({"labels": {"parity": parity}})).await;
    }
    rig
}

#[tokio::test]
async fn items_of_a_list_have_no_kind_and_the_list_has() {
    let rig = with_maps(2).await;
    let list = rig.list(&rig.map(""), &ListOptions::default()).await.unwrap();
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(list["metadata"]["resourceVersion"], json!(rig.registry.store().revision().to_string()));
    assert_eq!(names(&list), ["m00", "m01"]);
    assert!(list["items"][0].get("kind").is_none() && list["items"][0]["data"]["a"] == "1");
}

#[tokio::test]
async fn a_list_in_pieces_is_the_list_as_it_was_at_the_first_piece() {
    let rig = with_maps(7).await;
    let all = rig.target("v1", "ConfigMap", "", "");
    let mut options = ListOptions { limit: 3, ..ListOptions::default() };
    let mut seen = Vec::new();
    let mut remaining = Vec::new();
    loop {
        let piece = rig.list(&all, &options).await.unwrap();
        seen.extend(names(&piece));
        remaining.push(piece["metadata"].get("remainingItemCount").cloned());
        rig.create_map(&format!("m00-late-{}", seen.len()), json!({})).await;
        match piece["metadata"]["continue"].as_str() {
            Some(token) => options.token = token.to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..7).map(|index| format!("m{index:02}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(remaining, [Some(json!(4)), Some(json!(1)), None]);
}

#[tokio::test]
async fn selected_pieces_are_full_and_do_not_say_how_many_remain() {
    let rig = with_maps(8).await;
    let mut options = ListOptions { limit: 3, labels: "parity=odd".to_owned(), ..ListOptions::default() };
    let first = rig.list(&rig.map(""), &options).await.unwrap();
    assert_eq!(names(&first), ["m01", "m03", "m05"]);
    assert!(first["metadata"].get("remainingItemCount").is_none());
    options.token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    assert_eq!(names(&rig.list(&rig.map(""), &options).await.unwrap()), ["m07"]);
}

#[tokio::test]
async fn fields_that_are_known_select_and_others_are_refused() {
    let rig = with_maps(3).await;
    let select = |fields: &str| ListOptions { fields: fields.to_owned(), ..ListOptions::default() };
    let target = rig.map("");
    assert_eq!(names(&rig.list(&target, &select("metadata.name=m01")).await.unwrap()), ["m01"]);
    assert_eq!(names(&rig.list(&target, &select("metadata.name!=m01")).await.unwrap()), ["m00", "m02"]);
    let refused = rig.list(&target, &select("spec.foo=x")).await.unwrap_err();
    assert_eq!(refused.code, 400);
}

#[tokio::test]
async fn a_list_is_as_of_the_version_that_is_asked_for() {
    let rig = with_maps(1).await;
    let version = rig.registry.store().revision().to_string();
    rig.create_map("later", json!({})).await;
    let exact = ListOptions {
        version: version.clone(),
        version_match: Some(VersionMatch::Exact),
        ..ListOptions::default()
    };
    assert_eq!(names(&rig.list(&rig.map(""), &exact).await.unwrap()), ["m00"]);
    // One that is named is as it was, too: by its name, by a selector, with a limit.
    let mut changed = rig.get(&rig.map("m00")).await.unwrap();
    changed.0.insert("data".to_owned(), json!({"a": "2"}));
    rig.update(&rig.map("m00"), &changed).await.unwrap();
    let selected = ListOptions { fields: "metadata.name=m00".to_owned(), ..exact.clone() };
    let limited = ListOptions { version_match: None, limit: 1, ..selected.clone() };
    for (target, options) in [("m00", &exact), ("", &selected), ("", &limited)] {
        let list = rig.list(&rig.map(target), options).await.unwrap();
        assert_eq!(list["items"][0]["data"]["a"], "1", "{options:?}");
        assert_eq!(list["metadata"]["resourceVersion"], version, "{options:?}");
    }
    let list = rig.list(&rig.map("later"), &exact).await.unwrap();
    assert!(names(&list).is_empty(), "it was not there yet");
    let newer = ListOptions { version_match: Some(VersionMatch::NotOlderThan), ..exact };
    assert_eq!(names(&rig.list(&rig.map(""), &newer).await.unwrap()), ["later", "m00"]);
    let future = ListOptions { version: "999999999".to_owned(), ..newer };
    let refused = rig.list(&rig.map(""), &future).await.unwrap_err();
    assert_eq!(refused.code, 504);
    let current = rig.registry.store().revision();
    assert_eq!(
        refused.message,
        format!("Timeout: Too large resource version: 999999999, current: {current}")
    );
}

#[tokio::test]
async fn a_list_is_told_as_table_and_as_metadata() {
    let rig = with_maps(1).await;
    let list = |view| {
        let (rig, target) = (&rig, rig.map(""));
        async move {
            let options = ListOptions::default();
            value_of(&rig.registry.list(&rig.context, &target, &options, view).await.unwrap())
        }
    };
    let table = list(View::Table(Include::Metadata, Meta::V1)).await;
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "m00");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(list(View::Table(Include::None, Meta::V1Beta1)).await["rows"][0].get("object"), None);
    let metadata = list(View::Metadata(Meta::V1)).await;
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][0]["metadata"]["name"], "m00");
    assert!(metadata["items"][0].get("data").is_none());
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_it_is_selected() {
    let rig = with_maps(4).await;
    let options = ListOptions { labels: "parity=even".to_owned(), ..ListOptions::default() };
    let target = rig.map("");
    let deletion = DeleteOptions::default();
    let answer =
        rig.registry.delete_collection(&rig.context, &target, &options, &deletion, View::Full).await.unwrap();
    assert_eq!(names(&value_of(&answer)), ["m00", "m02"]);
    assert_eq!(names(&rig.list(&target, &ListOptions::default()).await.unwrap()), ["m01", "m03"]);
}
