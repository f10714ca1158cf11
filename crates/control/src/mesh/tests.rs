//! Objects as they come from a server, and what the compiler gets of them.

use serde_json::{Value, json};
use smi::compile::{Change, ServiceKind};
use smi::contract::Kind;
use smi::contract::specs::Transport;

use super::{kinds, objects};

fn of<K: serde::de::DeserializeOwned>(object: Value) -> K {
    serde_json::from_value(object).unwrap()
}

#[test]
fn services_by_how_they_are_reached() {
    let kind = |spec: Value| objects::service(&of(json!({"metadata": {"name": "web"}, "spec": spec}))).kind;
    let addresses =
        |texts: &[&str]| ServiceKind::ClusterIp(texts.iter().map(|text| text.parse().unwrap()).collect());
    assert_eq!(
        kind(json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd96::1"]})),
        addresses(&["10.96.0.1", "fd96::1"])
    );
    assert_eq!(kind(json!({"clusterIP": "10.96.0.1"})), addresses(&["10.96.0.1"]));
    assert_eq!(kind(json!({})), addresses(&[]));
    assert_eq!(kind(json!({"clusterIP": "None", "clusterIPs": ["None"]})), ServiceKind::Headless);
    let external = json!({"type": "ExternalName", "externalName": "example.com"});
    assert_eq!(kind(external), ServiceKind::ExternalName);
    let ports = json!([{"name": "a", "port": 80, "appProtocol": "http"}, {"name": "b", "port": 53, "protocol": "UDP"},
        {"name": "c", "port": 9, "protocol": "SCTP"}, {"name": "d", "port": 65536}]);
    let service = objects::service(&of(json!({"metadata": {"name": "web"}, "spec": {"ports": ports}})));
    let seen: Vec<_> =
        service.ports.iter().map(|port| (port.name.as_str(), port.port, port.transport)).collect();
    assert_eq!(seen, [("a", 80, Transport::Tcp), ("b", 53, Transport::Udp)]);
    assert_eq!(service.ports[0].app_protocol.as_deref(), Some("http"));
}

#[test]
fn endpoints_of_slices() {
    let slice = |labels: Value, conditions: Value| {
        objects::slice(&of(json!({"metadata": {"name": "web-1", "labels": labels}, "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "any"}],
            "endpoints": [{"addresses": ["10.55.0.3", "10.55.0.9"], "conditions": conditions, "nodeName": "node-1",
                "targetRef": {"kind": "Pod", "name": "web-0", "namespace": "shop"}},
                {"addresses": ["example.com"]}]})))
    };
    assert_eq!(slice(json!({}), json!({})), None);
    let of_service = json!({"kubernetes.io/service-name": "web"});
    let there = slice(of_service.clone(), json!({})).unwrap();
    assert_eq!((there.service.as_str(), there.ports.len(), there.endpoints.len()), ("web", 1, 1));
    let endpoint = &there.endpoints[0];
    assert_eq!(endpoint.address.to_string(), "10.55.0.3");
    assert_eq!((endpoint.pod.as_deref(), endpoint.node.as_deref()), (Some("web-0"), Some("node-1")));
    for (conditions, ready, serving) in [
        (json!({}), true, true),
        (json!({"ready": false}), false, false),
        (json!({"ready": false, "serving": true, "terminating": true}), false, true),
    ] {
        let there = slice(of_service.clone(), conditions.clone()).unwrap();
        assert_eq!((there.endpoints[0].ready, there.endpoints[0].serving), (ready, serving), "{conditions}");
    }
}

#[test]
fn pods_that_have_ended_are_none() {
    let pod = |phase: &str| {
        objects::pod(&of(json!({"metadata": {"name": "web-0", "labels": {"a": "b"}},
            "spec": {"containers": [], "nodeName": "node-1", "serviceAccountName": "web"},
            "status": {"phase": phase, "podIPs": [{"ip": "10.55.0.3"}, {"ip": "fd55::3"}]}})))
    };
    assert!(pod("Succeeded").is_none() && pod("Failed").is_none());
    let there = pod("Running").unwrap();
    assert_eq!((there.service_account.as_str(), there.node.as_deref()), ("web", Some("node-1")));
    assert_eq!((there.addresses.len(), there.host_network), (2, false));
    assert_eq!(there.labels["a"], "b");
}

/// A kubelet may make such pods in every namespace, and no other.
#[test]
fn what_a_node_alone_says_is_there_is_nobody() {
    let pod = |annotations: Value| {
        objects::pod(&of(json!({"metadata": {"name": "etcd-node-1", "annotations": annotations,
            "labels": {"mesh.sextant.dev/member": "true"}},
            "spec": {"containers": [], "nodeName": "node-1"}})))
    };
    assert!(pod(json!({"kubernetes.io/config.mirror": "4f1e"})).is_none());
    assert!(pod(json!({"kubernetes.io/config.hash": "4f1e"})).is_some());
}

#[test]
fn objects_of_lists_are_of_their_kind() {
    // As it stands in a list: without kind and version.
    let split = json!({"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"service": "web", "backends": [{"service": "web-v1", "weight": 1}]}});
    let Change::Object(id, Some(read)) = kinds::read(Kind::TrafficSplit, "v1alpha4", &of(split.clone()))
    else {
        panic!("it is read")
    };
    assert_eq!((id.to_string(), read.object.id()), ("TrafficSplit shop/web".into(), id));
    assert_eq!(read.findings, []);
    let unknown = kinds::read(Kind::TrafficSplit, "v9", &of(split));
    assert!(matches!(unknown, Change::Object(_, None)), "{unknown:?}");
}
