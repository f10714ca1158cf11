//! `sextant control --mesh-metrics`: what pods have asked is told by their node, and asked for through the API server.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use testkit::whoami::{connect, status};

use super::Pods;
use crate::objects;
use crate::rig::Rig;
use crate::runtime::Runtime;

/// A Service that nobody is behind.
const EMPTY: &str = "10.96.1.9";
/// After so long without all that was asked some of it was lost on its way, and pods ask again.
const AGAIN: Duration = Duration::from_secs(30);

/// What the API server says.
async fn ask(rig: &Rig, path: &str) -> kube::Result<Value> {
    // On a machine that does much else half a minute may be over before somebody looks.
    let path = format!("/apis/metrics.smi-spec.io/v1alpha1/{path}?t=5m");
    rig.client.request(http::Request::get(path).body(Vec::new()).unwrap()).await
}

/// A number of one object.
fn number<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    let metric = of["metrics"].as_array()?.iter().find(|metric| metric["name"] == name)?;
    metric["value"].as_str()
}

/// Whether there were so many successes and failures in each of these rounds; of several rounds the first may have been lost, or parts of them.
fn are(of: &Value, once: [u64; 2], rounds: u64) -> bool {
    let counts = ["success_count", "failure_count"].map(|name| number(of, name)?.parse::<u64>().ok());
    let is_it = |(count, once): (Option<u64>, u64)| {
        count.is_some_and(|count| (once..=once * rounds).contains(&count))
    };
    counts.into_iter().zip(once).all(is_it)
}

/// A Deployment with a pod of the node that is a member.
async fn deployment(rig: &Rig, name: &str) {
    let labels = json!({"app": name, "pod-template-hash": "5d4", "mesh.sextant.dev/member": "true"});
    let spec = json!({"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "main"}]}}});
    let owner = |kind: &str, name: &str, uid: Option<String>| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}]);
    let metadata = json!({"name": name, "labels": {"app": name}});
    let made = rig.make_here::<Deployment>(json!({"metadata": metadata, "spec": spec})).await;
    let (set, owners) = (format!("{name}-5d4"), owner("Deployment", name, made.metadata.uid));
    let metadata = json!({"name": set, "labels": labels, "ownerReferences": owners});
    let made = rig.make_here::<ReplicaSet>(json!({"metadata": metadata, "spec": spec})).await;
    let metadata = json!({"name": name, "labels": labels, "ownerReferences": owner("ReplicaSet", &set, made.metadata.uid)});
    let spec = json!({"nodeName": "node-1", "containers": [{"name": "main", "image": "main"}]});
    rig.make_here::<Pod>(json!({"metadata": metadata, "spec": spec})).await;
}

#[tokio::test]
async fn what_pods_ask_is_told_through_the_api_server() {
    let mut rig = Rig::bare().await;
    objects::define(&rig).await;
    objects::services(&rig, [1, 0]).await;
    objects::service(&rig, "empty", EMPTY, &[]).await;
    // The pod behind the first version, of another node.
    let spec = json!({"nodeName": "node-2", "containers": [{"name": "main", "image": "main"}]});
    rig.make_here::<Pod>(json!({"metadata": {"name": "server"}, "spec": spec})).await;
    let target = json!({"kind": "Pod", "name": "server", "namespace": "default"});
    let endpoints = json!({"endpoints": [{"addresses": [objects::V1.0], "targetRef": target}]});
    let slices = rig.objects_of::<EndpointSlice>("");
    slices.patch("web-v1-1", &PatchParams::default(), &Patch::Merge(endpoints)).await.unwrap();
    deployment(&rig, "client").await;
    let (cri, at) = (rig.path("cri.sock"), format!("unix:{}", rig.path("mesh.sock").display()));
    let (runtime, pods) = (Runtime::start(&cri), Pods::new(1));
    runtime.add("s0", "client", &pods.pin(0, &rig));
    rig.control(&["--mesh", &at, "--mesh-metrics", "127.0.0.1:0"]);
    rig.words_have("control", "metrics are asked for at https://127.0.0.1:").await;
    rig.spawn("mesh", &["mesh", "--node", "node-1", "--cri", cri.to_str().unwrap(), "--control", &at]);
    rig.words_have("mesh", "serves pod default/client\n").await;
    let mut rounds = 0;
    let whole = loop {
        rounds += 1;
        for _ in 0..10 {
            assert_eq!(pods.asks(0), "v1");
        }
        assert_eq!(pods.pods[0].run(|| status(&mut connect((EMPTY, 80)))), Some(503));
        let began = Instant::now();
        let is_told = async |rig: &Rig| {
            let told = ask(rig, "namespaces/default").await.ok().filter(|told| are(told, [10, 1], rounds));
            (told.is_some() || began.elapsed() > AGAIN).then_some(told)
        };
        if let Some(whole) = rig.until("the namespace's requests are told", is_told).await {
            break whole;
        }
        assert!(rounds < 6, "not told: {}", rig.words("mesh"));
    };
    assert_eq!((&whole["kind"], &whole["window"]), (&json!("TrafficMetrics"), &json!("5m0s")), "{whole:#}");
    let server = ask(&rig, "namespaces/default/pods/server").await.unwrap();
    assert!(are(&server, [10, 0], rounds), "{server:#}");
    assert_eq!(server["edge"], json!({"direction": "from", "side": "client", "resource": {}}), "{server:#}");
    for name in ["p99_response_latency", "p90_response_latency", "p50_response_latency"] {
        assert!(number(&server, name).is_some(), "{server:#}");
    }
    // A Service that was asked, and the one that its split has led to.
    for (name, wanted) in [("web", [10, 0]), ("web-v1", [10, 0]), ("web-v2", [0, 0]), ("empty", [0, 1])] {
        let service = ask(&rig, &format!("namespaces/default/services/{name}")).await.unwrap();
        assert!(are(&service, wanted, rounds), "{service:#}");
    }
    // Nobody has asked the client; it has asked others.
    let deployments = ask(&rig, "namespaces/default/deployments").await.unwrap();
    assert_eq!(deployments["kind"], "TrafficMetricsList", "{deployments:#}");
    let items = deployments["items"].as_array().unwrap();
    assert!(items.len() == 1 && are(&items[0], [0, 0], rounds), "{deployments:#}");
    assert_eq!(
        (&items[0]["metadata"]["name"], number(&items[0], "p99_response_latency")),
        (&json!("client"), None)
    );
    let edges = ask(&rig, "namespaces/default/deployments/client/edges").await.unwrap();
    let edge = |direction: &str, kind: &str, name: &str, once: [u64; 2]| {
        let is = |item: &&Value| {
            let (edge, other) = (&item["edge"], &item["edge"]["resource"]);
            edge["direction"] == direction && other["kind"] == kind && other["name"] == name
        };
        let found = edges["items"].as_array().unwrap().iter().find(is);
        let found = found.unwrap_or_else(|| panic!("no edge {direction} {kind} {name}: {edges:#}"));
        assert!(are(found, once, rounds), "{direction} {kind} {name}: {found:#}");
    };
    edge("to", "Pod", "server", [10, 0]);
    edge("to", "Service", "empty", [0, 1]);
    assert_eq!(edges["items"].as_array().unwrap().len(), 2, "{edges:#}");
    let edges = ask(&rig, "namespaces/default/pods/server/edges").await.unwrap();
    assert_eq!(edges["items"][0]["edge"]["resource"]["name"], "client", "{edges:#}");
    // What there is not is not found.
    for path in ["namespaces/default/pods/none", "namespaces/default/secrets"] {
        let missing = ask(&rig, path).await.unwrap_err();
        assert!(matches!(&missing, kube::Error::Api(status) if status.code == 404), "{path}: {missing}");
    }
    assert_eq!(rig.end("mesh"), Some(0), "{}", rig.words("mesh"));
}
