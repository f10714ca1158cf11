//! Nodes that are not well, and the pods on them; Endpoints that people write.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::hand::Kubelet;
use crate::rig::Rig;

fn pod(name: &str, node: &str, tolerations: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"nodeName": node, "tolerations": tolerations,
        "containers": [{"name": "c", "image": "i"}]}})
}

fn taints(node: &Node) -> BTreeSet<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let short = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    taints.iter().map(|taint| format!("{}:{}", short(&taint.key), taint.effect)).collect()
}

async fn tainted(rig: &Rig, node: &str, wanted: &[&str]) {
    let api: Api<Node> = Api::all(rig.client.clone());
    let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
    let look = async |_: &Rig| (taints(&api.get(node).await.ok()?) == wanted).then_some(());
    rig.until(&format!("node {node} has the taints {wanted:?}"), look).await;
}

async fn says(rig: &Rig, node: &str, conditions: Value) {
    let api: Api<Node> = Api::all(rig.client.clone());
    let patch = Patch::Strategic(json!({"status": {"conditions": conditions}}));
    api.patch_status(node, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn pods_leave_a_node_that_is_not_well_unless_all_are_down() {
    let rig = Rig::with_workloads().await;
    let _kubelet = Kubelet::start(&rig.client);
    rig.machine("node-2", json!({})).await;
    let bears = json!([{"operator": "Exists", "effect": "NoExecute"}]);
    let soon = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]);
    for (name, tolerations) in [("stays", bears), ("leaves", soon)] {
        rig.make_here::<Pod>(pod(name, "node-2", tolerations)).await;
    }
    rig.until("both are ready", async |rig: &Rig| {
        let pods = rig.objects_of::<Pod>("").list(&ListParams::default()).await.ok()?;
        pods.iter().all(|pod| json!(pod.status)["phase"] == "Running").then_some(())
    })
    .await;
    says(
        &rig,
        "node-2",
        json!([{"type": "Ready", "status": "False"}, {"type": "MemoryPressure", "status": "True"}]),
    )
    .await;
    tainted(&rig, "node-2", &["not-ready:NoSchedule", "not-ready:NoExecute", "memory-pressure:NoSchedule"])
        .await;
    let text = rig.told("leaves", "TaintManagerEviction").await;
    assert_eq!(text, "Marking for deletion Pod default/leaves");
    rig.until("it has left", async |rig: &Rig| {
        rig.objects_of::<Pod>("").get_opt("leaves").await.ok()?.is_none().then_some(())
    })
    .await;
    // What its other pods are a node still says itself.
    let stays: Api<Pod> = rig.objects_of("");
    let ready = async || {
        let conditions = stays.get("stays").await.ok()?.status?.conditions?;
        conditions.into_iter().find(|one| one.type_ == "Ready").map(|one| one.status)
    };
    assert_eq!(ready().await.as_deref(), Some("True"));
    // One that is not heard of says nothing: nobody is to be sent there.
    says(&rig, "node-2", json!([{"type": "Ready", "status": "Unknown"}])).await;
    tainted(
        &rig,
        "node-2",
        &["unreachable:NoSchedule", "unreachable:NoExecute", "memory-pressure:NoSchedule"],
    )
    .await;
    assert_eq!(rig.told("stays", "NodeNotReady").await, "Node is not ready");
    rig.until("who stays is not ready", async |_| ready().await.filter(|status| status == "False")).await;
    // The last one goes down, too: then it is nobody's fault, and nobody is sent away.
    says(&rig, "node-1", json!([{"type": "Ready", "status": "Unknown"}])).await;
    tainted(&rig, "node-1", &["unreachable:NoSchedule"]).await;
    tainted(&rig, "node-2", &["unreachable:NoSchedule", "memory-pressure:NoSchedule"]).await;
    for node in ["node-1", "node-2"] {
        says(
            &rig,
            node,
            json!([{"type": "Ready", "status": "True"}, {"type": "MemoryPressure", "status": "False"}]),
        )
        .await;
        tainted(&rig, node, &[]).await;
    }
    assert!(stays.get_opt("stays").await.unwrap().is_some());
}

#[tokio::test]
async fn endpoints_that_people_write_are_copied_into_slices() {
    let rig = Rig::with_workloads().await;
    rig.make_here::<Service>(json!({"metadata": {"name": "db"}, "spec": {"ports": [{"port": 5432}]}})).await;
    rig.make_here::<Endpoints>(json!({"metadata": {"name": "db"}, "subsets": [
        {"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}]}))
        .await;
    let slices: Api<EndpointSlice> = rig.objects_of("");
    let of = ListParams::default().labels("kubernetes.io/service-name=db");
    let told = async |wanted: &[&str]| {
        let look = async |_: &Rig| {
            let list = slices.list(&of).await.ok()?;
            let all = list.iter().flat_map(|slice| slice.endpoints.iter().flatten());
            let addresses: Vec<&str> = all.flat_map(|one| one.addresses.iter().map(String::as_str)).collect();
            (addresses == wanted).then(|| list.items.first().map(|slice| slice.labels().clone()))
        };
        rig.until(&format!("slices tell {wanted:?}"), look).await
    };
    let labels = told(&["192.0.2.7"]).await.unwrap();
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslicemirroring-controller.k8s.io");
    let api: Api<Endpoints> = rig.objects_of("");
    let patch = json!({"subsets": [{"addresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 5432}]}]});
    api.patch("db", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    told(&["192.0.2.8"]).await;
    api.delete("db", &kube::api::DeleteParams::default()).await.unwrap();
    told(&[]).await;
}
