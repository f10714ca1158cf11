//! What an administrator makes: a Service of two versions, and a split between them.

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::rig::Rig;

/// Where the Service and its versions are.
pub(crate) const WEB: &str = "10.96.1.1";
pub(crate) const V1: (&str, &str) = ("10.55.0.3", "10.96.1.2");
const V2: (&str, &str) = ("10.55.0.4", "10.96.1.3");

/// A kind that no crate here has a type of.
pub(crate) fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: format!("{group}/{version}"),
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// All splits.
pub(crate) fn splits(rig: &Rig) -> Api<DynamicObject> {
    let kind = resource("split.smi-spec.io", "v1alpha4", "TrafficSplit", "trafficsplits");
    Api::namespaced_with(rig.client.clone(), "default", &kind)
}

fn backends([v1, v2]: [u32; 2]) -> Value {
    json!([{"service": "web-v1", "weight": v1}, {"service": "web-v2", "weight": v2}])
}

/// The kinds of SMI.
pub(crate) async fn define(rig: &Rig) {
    let kind =
        resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let definitions: Api<DynamicObject> = Api::all_with(rig.client.clone(), &kind);
    for crd in smi::contract::CRDS {
        let definition = serde_json::from_value(crd.to_json().unwrap()).unwrap();
        definitions.create(&PostParams::default(), &definition).await.unwrap();
    }
}

/// TrafficSplits are served from now on, or in no version any more.
pub(crate) async fn serve_splits(rig: &Rig, are_served: bool) {
    let kind =
        resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions");
    let definitions: Api<DynamicObject> = Api::all_with(rig.client.clone(), &kind);
    let name = "trafficsplits.split.smi-spec.io";
    let crd = smi::contract::CRDS.iter().find(|crd| crd.name == name).unwrap();
    let mut versions = crd.to_json().unwrap()["spec"]["versions"].take();
    for version in versions.as_array_mut().unwrap() {
        version["served"] = are_served.into();
    }
    let patch = Patch::Merge(json!({"spec": {"versions": versions}}));
    definitions.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The Service, its versions, and a split by these weights.
pub(crate) async fn services(rig: &Rig, weights: [u32; 2]) {
    for (name, address, endpoints) in
        [("web", WEB, vec![V1.0, V2.0]), ("web-v1", V1.1, vec![V1.0]), ("web-v2", V2.1, vec![V2.0])]
    {
        service(rig, name, address, &endpoints).await;
    }
    let split: DynamicObject = serde_json::from_value(json!({"apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit", "metadata": {"name": "web"},
        "spec": {"service": "web", "backends": backends(weights)}}))
    .unwrap();
    // A definition is served a moment after it was made.
    let make = async |rig: &Rig| splits(rig).create(&PostParams::default(), &split).await.ok();
    rig.until("a TrafficSplit can be made", make).await;
}

/// A Service of HTTP with these endpoints.
pub(crate) async fn service(rig: &Rig, name: &str, address: &str, endpoints: &[&str]) {
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080, "appProtocol": "http"}]);
    let spec = json!({"clusterIP": address, "ports": ports});
    rig.make_here::<Service>(json!({"metadata": {"name": name}, "spec": spec})).await;
    let endpoints: Vec<Value> = endpoints.iter().map(|address| json!({"addresses": [address]})).collect();
    rig.make_here::<EndpointSlice>(json!({"metadata": {"name": format!("{name}-1"),
        "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))
        .await;
}

/// Other weights.
pub(crate) async fn weigh(rig: &Rig, weights: [u32; 2]) {
    split(rig, backends(weights)).await;
}

/// Other backends.
pub(crate) async fn split(rig: &Rig, backends: Value) {
    let patch = Patch::Merge(json!({"spec": {"backends": backends}}));
    splits(rig).patch("web", &PatchParams::default(), &patch).await.unwrap();
}

/// A pod of the node.
pub(crate) async fn pod(rig: &Rig, name: &str, member: bool) {
    rig.make_here::<Pod>(
        json!({"metadata": {"name": name, "labels": {"mesh.sextant.dev/member": member.to_string()}},
        "spec": {"nodeName": "node-1", "containers": [{"name": "main", "image": "main"}]}}),
    )
    .await;
}

/// A pod is a member from now on, or is none.
pub(crate) async fn label(rig: &Rig, name: &str, member: bool) {
    let patch =
        Patch::Merge(json!({"metadata": {"labels": {"mesh.sextant.dev/member": member.to_string()}}}));
    rig.objects_of::<Pod>("").patch(name, &PatchParams::default(), &patch).await.unwrap();
}
