//! What users of a cluster in a cloud do, and what comes of it.

use cpi::contract::{Node, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::admit::admit;
use crate::provider::Cloud;
use crate::rig::Rig;

/// What keeps pods away from a node that no cloud controller has seen.
pub(crate) const NEW: &str = "node.cloudprovider.kubernetes.io/uninitialized";
/// Eight nodes' worth.
pub(crate) const CIDR: &str = "10.64.0.0/21";

/// An API server, a cloud, and the controllers between them, with more options.
pub(crate) async fn start(more: &[&str]) -> (Rig, Cloud) {
    let mut rig = Rig::bare().await;
    admit(&rig).await;
    let cloud = Cloud::serve(rig.path("cloud.sock"));
    control(&mut rig, more);
    rig.words_have("control", "has cloud provider stand").await;
    (rig, cloud)
}

/// The controllers, for a cloud at `cloud.sock` whether or not it is there.
pub(crate) fn control(rig: &mut Rig, more: &[&str]) {
    control_as(rig, "control", more);
}

/// The same in a process of this name.
pub(crate) fn control_as(rig: &mut Rig, name: &str, more: &[&str]) {
    let (kubeconfig, endpoint) =
        (rig.path("kubeconfig"), format!("unix://{}", rig.path("cloud.sock").display()));
    let words = [
        ["--kubeconfig", kubeconfig.to_str().unwrap()],
        ["--cloud-provider", &endpoint],
        ["--cluster-cidr", CIDR],
        ["--service-cluster-ip-range", "10.64.0.0/24"],
        ["--node-monitor-period", "200ms"],
        ["--node-status-update-frequency", "1s"],
        ["--route-reconciliation-period", "200ms"],
        ["--metrics-listen", "127.0.0.1:0"],
    ];
    let words = [&words.concat(), &["--allocate-node-cidrs"][..], more].concat();
    rig.spawn_control(name, &words);
}

pub(crate) fn nodes(rig: &Rig) -> Api<Node> {
    Api::all(rig.client.clone())
}

/// A node as its kubelet makes it, where it waits for its cloud.
pub(crate) async fn join(rig: &Rig, cloud: &Cloud, name: &str) {
    cloud.state().instances.insert(name.into(), false);
    let taint = json!({"key": NEW, "value": "true", "effect": "NoSchedule"});
    rig.make::<Node>(json!({"metadata": {"name": name}, "spec": {"taints": [taint]}})).await;
    say_ready(rig, name, "True").await;
}

/// What a node says of itself, unless it is gone.
pub(crate) async fn say_ready(rig: &Rig, name: &str, status: &str) {
    let condition = json!({"type": "Ready", "status": status, "reason": "Test"});
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    let said = nodes(rig).patch_status(name, &PatchParams::default(), &patch).await;
    assert!(matches!(&said, Ok(_) | Err(kube::Error::Api(_))), "{said:?}");
}

/// Waits until a node is as wanted.
pub(crate) async fn node_is(rig: &Rig, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    rig.until(&format!("node {name}: {what}"), async |rig| {
        let node = serde_json::to_value(nodes(rig).get(name).await.ok()?).unwrap();
        is(&node).then_some(node)
    })
    .await
}

pub(crate) fn has_taint(node: &Value, key: &str) -> bool {
    node["spec"]["taints"].as_array().is_some_and(|taints| taints.iter().any(|taint| taint["key"] == key))
}

/// A service that wants a load balancer.
pub(crate) async fn expose(rig: &Rig, name: &str) -> Service {
    let spec = json!({"type": "LoadBalancer", "selector": {"app": name}, "ports": [{"port": 80}]});
    rig.make_here(json!({"metadata": {"name": name}, "spec": spec})).await
}

pub(crate) async fn change(rig: &Rig, name: &str, patch: Value) {
    let services: Api<Service> = rig.objects_of("");
    services.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

pub(crate) async fn withdraw(rig: &Rig, name: &str) {
    let services: Api<Service> = rig.objects_of("");
    services.delete(name, &DeleteParams::default()).await.unwrap();
}

/// Waits until a service is as wanted.
pub(crate) async fn service_is(rig: &Rig, name: &str, what: &str, is: impl Fn(&Value) -> bool) {
    rig.until(&format!("service {name}: {what}"), async |rig| {
        let service: Service = rig.objects_of("").get(name).await.ok()?;
        is(&serde_json::to_value(&service).unwrap()).then_some(())
    })
    .await;
}

/// Waits for an event of this reason about an object, with these words in it.
pub(crate) async fn event(rig: &Rig, about: &str, reason: &str, words: &str) {
    rig.event(about, reason, words).await;
}

/// Nothing that the controllers wanted was forbidden to them.
pub(crate) fn nothing_was_forbidden(rig: &Rig) {
    let words = rig.words("control");
    assert!(!words.contains("forbidden"), "{words}");
}
