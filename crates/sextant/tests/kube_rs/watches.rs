//! Watchers and stores, by streaming lists and by lists.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::in_time;
use super::server::Server;

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"of": "test"}}})).unwrap()
}

/// What a watcher tells, in a word and a name.
fn told(event: &Event<ConfigMap>) -> String {
    match event {
        Event::Init => "init".into(),
        Event::InitApply(map) => format!("there {}", map.name_any()),
        Event::InitDone => "done".into(),
        Event::Apply(map) => {
            format!("apply {} {}", map.name_any(), map.data.clone().unwrap_or_default().len())
        }
        Event::Delete(map) => format!("delete {}", map.name_any()),
    }
}

#[tokio::test]
async fn a_watcher_tells_what_is_there_and_what_happens() {
    let server = Server::start();
    let maps: Api<ConfigMap> = Api::namespaced(server.client().await, "default");
    for name in ["a", "b"] {
        maps.create(&PostParams::default(), &map(name)).await.unwrap();
    }
    for config in [Config::default(), Config::default().streaming_lists(), Config::default().page_size(1)] {
        let mut events = std::pin::pin!(watcher(maps.clone(), config.clone().labels("of=test")));
        let mut next = async || told(&in_time(events.try_next()).await.unwrap().unwrap());
        assert_eq!(next().await, "init", "{config:?}");
        assert_eq!(
            BTreeSet::from([next().await, next().await]),
            ["there a", "there b"].map(String::from).into(),
            "{config:?}"
        );
        assert_eq!(next().await, "done", "{config:?}");
        maps.create(&PostParams::default(), &map("c")).await.unwrap();
        maps.patch("c", &PatchParams::default(), &Patch::Merge(json!({"data": {"x": "y"}}))).await.unwrap();
        // One that leaves the selection is deleted for who watches it.
        maps.patch("c", &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": null}})))
            .await
            .unwrap();
        maps.delete("c", &DeleteParams::default()).await.unwrap();
        assert_eq!(
            [next().await, next().await, next().await],
            ["apply c 0", "apply c 1", "delete c"],
            "{config:?}"
        );
    }
}

#[tokio::test]
async fn a_store_is_as_the_server() {
    let server = Server::start();
    let maps: Api<ConfigMap> = Api::namespaced(server.client().await, "default");
    maps.create(&PostParams::default(), &map("a")).await.unwrap();
    let (store, writer) = reflector::store();
    let config = Config::default().streaming_lists().labels("of=test");
    let stream = watcher(maps.clone(), config).default_backoff().reflect(writer).applied_objects();
    let reflecting = tokio::spawn(stream.for_each(|object| async move { drop(object.unwrap()) }));
    in_time(store.wait_until_ready()).await.unwrap();
    let names = || store.state().iter().map(|map| map.name_any()).collect::<BTreeSet<_>>();
    assert_eq!(names(), ["a".to_owned()].into());
    for i in 0..100 {
        maps.create(&PostParams::default(), &map(&format!("m{i}"))).await.unwrap();
    }
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let expected: BTreeSet<_> = (0..100).map(|i| format!("m{i}")).collect();
    in_time(async {
        while names() != expected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    reflecting.abort();
}
