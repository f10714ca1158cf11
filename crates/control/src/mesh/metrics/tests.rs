//! What nodes tell, as it is answered.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use meshwire::contract::flows::{Parties, Requests};
use serde_json::{Value, json};
use smi::contract::Name;
use smi::latency::{Histogram, place};
use tokio::time::Instant;

use super::State;
use super::answer::{self, Saying, edges, sum, sums};
use super::kinds::Kind;
use super::path::How;

const ALL: Duration = Duration::from_secs(30);

fn name(name: &str) -> Name {
    Name::new("shop", name)
}

fn pod(node: &str, kind: &str, owner: &str) -> Pod {
    let owner = json!({"apiVersion": "apps/v1", "kind": kind, "name": owner, "uid": "u", "controller": true});
    let metadata = json!({"labels": {"pod-template-hash": "5d4"}, "ownerReferences": [owner]});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": node, "containers": []}}))
        .unwrap()
}

/// `count` requests that took so many milliseconds, and one that failed.
fn requests(count: u64, milliseconds: u64) -> Requests {
    let micros = milliseconds * 1000;
    let latency = Histogram::of([(place(micros), count)], count * micros);
    Requests { successes: count, failures: 1, latency }
}

fn parties(client: &str, backend: Option<&str>, server: Option<&str>) -> Parties {
    Parties {
        client: name(client),
        service: name("api"),
        backend: backend.map(name),
        server: server.map(name),
    }
}

/// Two pods of a Deployment and one of their own ask a Service, which has a pod of a StatefulSet, or another Service behind a split.
fn state() -> (State, Instant) {
    let (mut state, now) = (State::default(), Instant::now());
    for (one, node, kind, owner) in [
        ("web-1", "node-1", "ReplicaSet", "web-5d4"),
        ("web-2", "node-1", "ReplicaSet", "web-5d4"),
        ("api-0", "node-2", "StatefulSet", "api"),
    ] {
        state.pods.take(&name(one), Some(&pod(node, kind, owner)), now);
    }
    let alone: Pod =
        serde_json::from_value(json!({"metadata": {}, "spec": {"nodeName": "node-1", "containers": []}}))
            .unwrap();
    state.pods.take(&name("alone"), Some(&alone), now);
    let told = vec![
        (parties("web-1", Some("api"), Some("api-0")), requests(10, 1)),
        (parties("web-2", Some("api-v2"), Some("api-0")), requests(20, 100)),
        (parties("alone", None, None), requests(0, 1)),
        // Not its own, and nobody's.
        (parties("api-0", Some("api"), Some("api-0")), requests(1000, 1)),
        (parties("nobody", Some("api"), Some("api-0")), requests(1000, 1)),
    ];
    state.take("node-1", told, now);
    (state, now)
}

/// Successes by the objects that were asked.
fn counted(state: &State, now: Instant, kind: Kind) -> Vec<(String, u64, u64)> {
    let sums = sums(state.window.last(ALL, now), kind);
    let row = |((namespace, name), requests): (&(&str, &str), &Requests)| {
        (format!("{namespace}/{name}"), requests.successes, requests.failures)
    };
    sums.iter().map(row).collect()
}

#[test]
fn one_object_is_asked_what_it_is_asked_among_all() {
    let (state, now) = state();
    for kind in Kind::all() {
        let all = sums(state.window.last(ALL, now), kind);
        for (of, requests) in &all {
            assert_eq!(sum(state.window.last(ALL, now), kind, *of), *requests, "{kind:?} {of:?}");
        }
    }
    let nobody = sum(state.window.last(ALL, now), Kind::Pod, ("shop", "web-1"));
    assert_eq!(nobody, Requests::default());
}

fn row(of: &str, successes: u64, failures: u64) -> (String, u64, u64) {
    (of.to_owned(), successes, failures)
}

#[test]
fn what_was_asked_is_counted_for_all_that_it_belongs_to() {
    let (state, now) = state();
    for (kind, wanted) in [
        (Kind::Pod, vec![row("shop/api-0", 30, 2)]),
        (Kind::StatefulSet, vec![row("shop/api", 30, 2)]),
        (Kind::Node, vec![row("/node-2", 30, 2)]),
        (Kind::Deployment, vec![]),
        // A Service without anybody behind it was asked, too, and one behind another.
        (Kind::Service, vec![row("shop/api", 30, 3), row("shop/api-v2", 20, 1)]),
        (Kind::Namespace, vec![row("/shop", 30, 3)]),
    ] {
        assert_eq!(counted(&state, now, kind), wanted, "{kind:?}");
    }
}

#[test]
fn what_a_node_says_of_others_pods_does_not_count() {
    let (mut state, now) = state();
    let before = counted(&state, now, Kind::Pod);
    state.take("node-2", vec![(parties("web-1", Some("api"), Some("api-0")), requests(5, 1))], now);
    assert_eq!(counted(&state, now, Kind::Pod), before);
}

/// Direction, kind and name of the other end, and successes.
fn spoke(state: &State, now: Instant, kind: Kind, of: (&str, &str)) -> Vec<(Value, String, u64)> {
    let edges = edges(state.window.last(ALL, now), kind, of).into_iter();
    let row = |(edge, requests): (smi::contract::metrics::Edge, Requests)| {
        let resource = format!("{} {}/{}", edge.resource.kind, edge.resource.namespace, edge.resource.name);
        (json!(edge.direction), resource, requests.successes)
    };
    edges.map(row).collect()
}

#[test]
fn edges_are_with_those_that_really_spoke() {
    let (state, now) = state();
    let edge = |direction: &str, other: &str, count: u64| (json!(direction), other.to_owned(), count);
    assert_eq!(
        spoke(&state, now, Kind::Pod, ("shop", "api-0")),
        [edge("from", "Pod shop/web-1", 10), edge("from", "Pod shop/web-2", 20)]
    );
    // Of the same kind where the other end has one, else what has made it.
    assert_eq!(
        spoke(&state, now, Kind::Deployment, ("shop", "web")),
        [edge("to", "StatefulSet shop/api", 30)]
    );
    assert_eq!(
        spoke(&state, now, Kind::StatefulSet, ("shop", "api")),
        [edge("from", "Deployment shop/web", 30)]
    );
    assert_eq!(
        spoke(&state, now, Kind::Service, ("shop", "api")),
        [edge("from", "Deployment shop/web", 30), edge("from", "Pod shop/alone", 0)]
    );
    assert_eq!(spoke(&state, now, Kind::Pod, ("shop", "alone")), [edge("to", "Service shop/api", 0)]);
    assert_eq!(
        spoke(&state, now, Kind::Namespace, ("", "shop")),
        [edge("from", "Namespace /shop", 30), edge("to", "Namespace /shop", 30)]
    );
    assert!(spoke(&state, now, Kind::Pod, ("shop", "web")).is_empty());
}

#[test]
fn answers_have_the_form_of_the_specification() {
    let (state, now) = state();
    let how = How { window: ALL, labels: None };
    let at = Timestamp::from_second(1_790_000_000).unwrap();
    let saying = Saying { kind: Kind::Pod, how: &how, at };
    let object = ObjectMeta {
        name: Some("api-0".into()),
        namespace: Some("shop".into()),
        labels: Some([("app".to_owned(), "api".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let sums = sums(state.window.last(ALL, now), Kind::Pod);
    let item = saying.one(&object, answer::all(), &sums[&("shop", "api-0")]);
    let told = json!(saying.list("shop", vec![item]));
    assert_eq!(
        (&told["kind"], &told["apiVersion"]),
        (&json!("TrafficMetricsList"), &json!("metrics.smi-spec.io/v1alpha1"))
    );
    assert_eq!(told["resource"], json!({"kind": "Pod", "namespace": "shop", "apiVersion": "v1"}));
    let item = &told["items"][0];
    let metadata = json!({"name": "api-0", "namespace": "shop", "labels": {"app": "api"},
        "creationTimestamp": "2026-09-21T14:13:20Z"});
    assert_eq!(item["metadata"], metadata);
    assert_eq!(
        item["resource"],
        json!({"kind": "Pod", "namespace": "shop", "name": "api-0", "apiVersion": "v1"})
    );
    assert_eq!(item["edge"], json!({"direction": "from", "side": "client", "resource": {}}));
    assert_eq!((&item["window"], &item["timestamp"]), (&json!("30s"), &json!("2026-09-21T14:13:20Z")));
    let names: Vec<&str> =
        item["metrics"].as_array().unwrap().iter().filter_map(|one| one["name"].as_str()).collect();
    let latencies = ["p99_response_latency", "p90_response_latency", "p50_response_latency"];
    assert_eq!(names, [&latencies[..], &["success_count", "failure_count"]].concat());
    assert_eq!(item["metrics"][3], json!({"name": "success_count", "value": "30"}));
    assert_eq!(item["metrics"][0]["unit"], "seconds");
    // Nothing has no latency.
    let nothing = json!(saying.one(&object, answer::all(), &Requests::default()));
    assert_eq!(
        nothing["metrics"],
        json!([{"name": "success_count", "value": "0"}, {"name": "failure_count", "value": "0"}])
    );
}

#[test]
fn discovery_tells_of_edges_too() {
    let told = answer::resources();
    assert_eq!(told["groupVersion"], "metrics.smi-spec.io/v1alpha1");
    let all = told["resources"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|one| one["name"] == name).unwrap_or(&Value::Null);
    assert_eq!(of("deployments")["verbs"], json!(["get", "list"]));
    assert_eq!((&of("pods/edges")["verbs"], &of("nodes")["namespaced"]), (&json!(["get"]), &json!(false)));
}
