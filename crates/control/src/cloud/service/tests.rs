//! The situations of Kubernetes' own tests of this controller (service/controller_test.go), by their names there.

mod follows;
mod looks;
mod stand;

use std::sync::Arc;

use cpi::contract::{LoadBalancerStatus, Node, Service};
use serde_json::{Value, json};

use super::plan::{self, FINALIZER, Wish};

/// A service with other or more fields, by their paths (`spec.type`).
fn service(fields: &[(&str, Value)]) -> Service {
    let mut whole = json!({"metadata": {"name": "basic-service", "uid": "123", "annotations": {"a": "b"}}, "spec": {
        "type": "LoadBalancer", "sessionAffinity": "None", "externalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4"],
        "externalIPs": ["1.2.3.4"], "ports": [{"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080, "targetPort": 8080}]}});
    for (path, value) in fields {
        let (field, key) = path.split_once('.').unwrap();
        whole[field][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn of_type(kind: &str) -> (&'static str, Value) {
    ("spec.type", json!(kind))
}

fn held() -> (&'static str, Value) {
    ("metadata.finalizers", json!([FINALIZER]))
}

fn going() -> (&'static str, Value) {
    ("metadata.deletionTimestamp", json!("2026-01-01T00:00:00Z"))
}

/// TestSyncLoadBalancerIfNeeded, TestNeedsCleanup.
#[test]
fn what_a_service_wants() {
    let class = ("spec.loadBalancerClass", json!("example.com/mine"));
    for (name, service, wish, needs_cleanup) in [
        ("service doesn't want LB", service(&[of_type("ClusterIP")]), Wish::Gone, false),
        ("service that wants LB", service(&[]), Wish::Ensured, false),
        ("service specifies loadBalancerClass", service(std::slice::from_ref(&class)), Wish::Gone, false),
        (
            "service with finalizer that no longer wants LB",
            service(&[of_type("ClusterIP"), held()]),
            Wish::Gone,
            true,
        ),
        ("service that needs cleanup", service(&[held(), going()]), Wish::Gone, true),
        ("service with finalizer that wants LB", service(&[held()]), Wish::Ensured, false),
        ("service without finalizer", service(&[going()]), Wish::Ensured, false),
        ("with class and finalizer", service(&[class, held()]), Wish::Gone, false),
    ] {
        assert_eq!((plan::wish(&service), plan::needs_cleanup(&service)), (wish, needs_cleanup), "{name}");
    }
}

/// TestNeedsUpdate, each both ways.
#[test]
fn what_is_news_of_a_service() {
    let port = |fields: Value| {
        let mut port =
            json!({"name": "http", "protocol": "TCP", "port": 80, "nodePort": 30080, "targetPort": 8080});
        port.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        ("spec.ports", json!([port]))
    };
    let one = |field: (&'static str, Value)| vec![field];
    let news = [
        ("the service type is changed from LoadBalancer to ClusterIP", one(of_type("ClusterIP"))),
        ("the Ports are different", one(("spec.ports", json!([])))),
        ("the names of ports are different", one(port(json!({"name": "https"})))),
        ("the protocols are different", one(port(json!({"protocol": "UDP"})))),
        ("the port numbers are different", one(port(json!({"port": 81})))),
        ("the node ports are different", one(port(json!({"nodePort": 30081})))),
        ("TargetGroup is different", one(port(json!({"targetPort": "web"})))),
        ("appProtocol is set when previously unset", one(port(json!({"appProtocol": "http"})))),
        ("external ip counts are different", one(("spec.externalIPs", json!(["1.2.3.4", "1.2.3.5"])))),
        ("external ips are different", one(("spec.externalIPs", json!(["1.2.3.5"])))),
        ("UID is different", one(("metadata.uid", json!("124")))),
        ("annotations are different", one(("metadata.annotations", json!({"a": "c"})))),
        ("ExternalTrafficPolicy is different", one(("spec.externalTrafficPolicy", json!("Local")))),
        ("HealthCheckNodePort is different", one(("spec.healthCheckNodePort", json!(30123)))),
        ("IPFamilies from single stack to dual stack", one(("spec.ipFamilies", json!(["IPv4", "IPv6"])))),
        ("Updating Loadbalancer IP", one(("spec.loadBalancerIP", json!("10.0.0.9")))),
        ("source ranges are different", one(("spec.loadBalancerSourceRanges", json!(["10.0.0.0/8"])))),
        ("session affinity is different", one(("spec.sessionAffinity", json!("ClientIP")))),
        (
            "its timeout is different",
            one(("spec.sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 5}}))),
        ),
    ];
    for (name, fields) in news {
        let (old, new) = (service(&[]), service(&fields));
        assert!(plan::is_news(Some(&old), &new), "{name}");
        assert!(plan::is_news(Some(&new), &old), "{name}, back");
    }
    let app = |value: &str| service(&[port(json!({"appProtocol": value}))]);
    assert!(plan::is_news(Some(&app("http")), &app("tcp")), "appProtocol is set to a different value");
    for (name, old, new) in [
        ("nothing is changed", service(&[]), service(&[])),
        ("appProtocol is the same", app("http"), app("http")),
        ("IPFamilies not change", service(&[("spec.ipFamilies", json!(["IPv4"]))]), service(&[])),
        ("the order of families", service(&[("spec.ipFamilies", json!(["IPv6"]))]), service(&[])),
        ("labels", service(&[("metadata.labels", json!({"a": "b"}))]), service(&[])),
        (
            "status",
            service(&[("status.loadBalancer", json!({"ingress": [{"ip": "1.1.1.1"}]}))]),
            service(&[]),
        ),
        ("what wants none", service(&[of_type("ClusterIP")]), service(&[of_type("NodePort")])),
    ] {
        assert!(!plan::is_news(Some(&old), &new), "{name}");
    }
    assert!(plan::is_news(None, &service(&[])) && !plan::is_news(None, &service(&[of_type("ClusterIP")])));
    assert!(
        plan::is_news(Some(&service(&[held(), going()])), &service(&[held(), going()])),
        "cleaned up until it is"
    );
}

fn node(name: &str, more: &[(&str, Value)]) -> Node {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let mut whole = json!({"metadata": {"name": name, "labels": {"a": "b"}},
        "spec": {"providerID": format!("fake://{name}")}, "status": {"conditions": ready}});
    for (path, value) in more {
        let (field, key) = path.split_once('.').unwrap();
        whole[field][key] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn excluded(value: &str) -> (&'static str, Value) {
    ("metadata.labels", json!({"node.kubernetes.io/exclude-from-external-load-balancers": value}))
}

fn tainted(key: &str) -> (&'static str, Value) {
    ("spec.taints", json!([{"key": key, "effect": "NoSchedule"}]))
}

fn ready(status: &str) -> (&'static str, Value) {
    ("status.conditions", json!([{"type": "Ready", "status": status}]))
}

/// TestNodeChangesForStableNodeSetEnabled, TestListWithPredicate, Test_respectsPredicates.
#[test]
fn nodes_that_load_balancers_lead_to() {
    for (name, node, is) in [
        ("a node", node("n", &[]), true),
        ("1 node goes NotReady", node("n", &[ready("False")]), true),
        ("1 node without conditions", node("n", &[("status.conditions", json!([]))]), true),
        ("1 node gets Tainted", node("n", &[tainted("ToBeDeletedByClusterAutoscaler")]), false),
        ("another taint", node("n", &[tainted("other")]), true),
        ("1 node get excluded", node("n", &[excluded("")]), false),
        ("excluded by true", node("n", &[excluded("true")]), false),
        ("excluded by anything", node("n", &[excluded("maybe")]), false),
        ("not excluded", node("n", &[excluded("false")]), true),
        ("1 node marked for deletion", node("n", &[going()]), false),
    ] {
        assert_eq!(plan::led_to(&[Arc::new(node)]).len() == 1, is, "{name}");
    }
}

/// Test_shouldSyncUpdatedNode_individualPredicates and _compoundedPredicates.
#[test]
fn what_is_news_of_a_node() {
    let plain = || node("n", &[]);
    let id = |id: &str| ("spec.providerID", json!(id));
    for (name, old, new, is) in [
        ("nothing changed", plain(), plain(), false),
        ("excluded F->T", plain(), node("n", &[excluded("")]), true),
        ("excluded changed T->F", node("n", &[excluded("")]), plain(), true),
        ("excluded changed T->T", node("n", &[excluded("")]), node("n", &[excluded("true")]), false),
        ("other taint F->T", plain(), node("n", &[tainted("other")]), false),
        ("other label changed", plain(), node("n", &[("metadata.labels", json!({"x": "y"}))]), false),
        ("readiness changed", plain(), node("n", &[ready("False")]), false),
        ("deletionTimestamp F -> T", plain(), node("n", &[going()]), false),
        ("providerID set F -> T", node("n", &[id("")]), plain(), true),
        ("providerID set T-> F", plain(), node("n", &[id("")]), true),
        ("providerID change", plain(), node("n", &[id("fake://other")]), true),
        (
            "tainted T, excluded F->T",
            node("n", &[tainted("t")]),
            node("n", &[tainted("t"), excluded("")]),
            true,
        ),
        (
            "tainted T, providerID change",
            node("n", &[tainted("t")]),
            node("n", &[tainted("t"), id("x")]),
            true,
        ),
        (
            "tainted T, ready F->T",
            node("n", &[tainted("t"), ready("False")]),
            node("n", &[tainted("t")]),
            false,
        ),
        (
            "excluded T, tainted F->T",
            node("n", &[excluded("")]),
            node("n", &[excluded(""), tainted("t")]),
            false,
        ),
        (
            "excluded T, providerID change",
            node("n", &[excluded("")]),
            node("n", &[excluded(""), id("x")]),
            true,
        ),
        (
            "ready F, tainted F->T",
            node("n", &[ready("False")]),
            node("n", &[ready("False"), tainted("t")]),
            false,
        ),
        (
            "ready F, excluded F->T",
            node("n", &[ready("False")]),
            node("n", &[ready("False"), excluded("")]),
            true,
        ),
        ("providerID unset, excluded F->T", node("n", &[id("")]), node("n", &[id(""), excluded("")]), true),
        ("providerID unset, ready T->F", node("n", &[id("")]), node("n", &[id(""), ready("False")]), false),
    ] {
        assert_eq!(plan::is_nodes_news(Some(&old), Some(&new)), is, "{name}");
    }
    assert!(plan::is_nodes_news(None, Some(&plain())) && plan::is_nodes_news(Some(&plain()), None));
}

/// TestNodesNotEqual.
#[test]
fn nodes_are_known_by_name_and_instance() {
    let (one, other) = (node("a", &[]), node("a", &[("spec.providerID", json!("fake://new"))]));
    let both = [node("b", &[]), one.clone()];
    assert_eq!(plan::known_by(&both), plan::known_by(&[one.clone(), node("b", &[])]), "Nodes unchanged");
    assert_ne!(
        plan::known_by(std::slice::from_ref(&one)),
        plan::known_by(&[other]),
        "Nodes with updated providerID"
    );
    assert_ne!(
        plan::known_by(&[one]),
        plan::known_by(&[node("a", &[("spec.providerID", Value::Null)])]),
        "with empty providerID"
    );
}

/// Ours.
#[test]
fn statuses_are_compared_as_the_api_server_keeps_them() {
    let status =
        |points: Value| -> LoadBalancerStatus { serde_json::from_value(json!({"ingress": points})).unwrap() };
    let ip = |mode: Value| json!([{"ip": "192.0.2.1", "ipMode": mode}]);
    for (name, one, other, is) in [
        ("it is filled in", ip(Value::Null), ip(json!("VIP")), true),
        ("another one", ip(Value::Null), ip(json!("Proxy")), false),
        ("both say so", ip(json!("Proxy")), ip(json!("Proxy")), true),
        ("another address", ip(json!("VIP")), json!([{"ip": "192.0.2.2"}]), false),
        (
            "a name has none",
            json!([{"hostname": "a.example"}]),
            json!([{"hostname": "a.example", "ip": ""}]),
            true,
        ),
        ("and another none", json!([{"hostname": "a.example"}]), json!([{"hostname": "b.example"}]), false),
        ("no ports", ip(Value::Null), json!([{"ip": "192.0.2.1", "ports": []}]), true),
        (
            "ports",
            ip(Value::Null),
            json!([{"ip": "192.0.2.1", "ports": [{"port": 80, "protocol": "TCP"}]}]),
            false,
        ),
        ("nothing", Value::Null, json!([]), true),
        ("something", Value::Null, ip(Value::Null), false),
        (
            "the order says which is first",
            json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]),
            json!([{"ip": "192.0.2.2"}, {"ip": "192.0.2.1"}]),
            false,
        ),
    ] {
        let (one, other) = (status(one), status(other));
        assert_eq!((plan::is_same(&one, &other), plan::is_same(&other, &one)), (is, is), "{name}");
    }
}

#[test]
fn twenty_nodes_are_named() {
    let nodes: Vec<Node> = (10..35).map(|number| node(&format!("n{number}"), &[])).collect();
    let text = plan::named(&nodes);
    assert!(text.starts_with("[n10 n11") && text.ends_with("n29 <5 more>]"), "{text}");
    assert_eq!(plan::named(&nodes[..2]), "[n10 n11]");
}
