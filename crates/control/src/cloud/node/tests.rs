//! The situations of Kubernetes' own tests of this controller (node_controller_test.go, address_test.go), by their names there.

mod looks;

use cpi::contract::InstanceMetadata;
use k8s_openapi::api::core::v1::{Node, NodeAddress};
use serde_json::{Value, json};

use super::plan;

const NEW: &str = "node.cloudprovider.kubernetes.io/uninitialized";

fn node(object: Value) -> Node {
    serde_json::from_value(object).unwrap()
}

/// A node that nobody has initialized, with more or other metadata.
fn new(metadata: Value) -> Node {
    let mut whole = json!({"name": "node0", "uid": "u", "resourceVersion": "7"});
    whole.as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    let taints =
        json!([{"key": "a", "effect": "NoSchedule"}, {"key": NEW, "value": "true", "effect": "NoSchedule"}]);
    node(json!({"metadata": whole, "spec": {"taints": taints}}))
}

fn address(kind: &str, address: &str) -> NodeAddress {
    NodeAddress { type_: kind.into(), address: address.into() }
}

fn metadata() -> InstanceMetadata {
    InstanceMetadata {
        provider_id: "fake://12345".into(),
        instance_type: "t1.micro".into(),
        node_addresses: vec![
            address("Hostname", "node0.cloud.internal"),
            address("InternalIP", "10.0.0.1"),
            address("ExternalIP", "132.143.154.163"),
        ],
        ..Default::default()
    }
}

#[test]
fn node_initialized_with_provider_id() {
    let change = plan::initialized(&new(json!({})), &metadata()).unwrap();
    assert_eq!(
        change["spec"],
        json!({"providerID": "fake://12345", "taints": [{"key": "a", "effect": "NoSchedule"}]})
    );
    assert_eq!(change["metadata"]["resourceVersion"], "7");
    assert_eq!(
        change["metadata"]["labels"],
        json!({"beta.kubernetes.io/instance-type": "t1.micro", "node.kubernetes.io/instance-type": "t1.micro"})
    );
}

#[test]
fn node_ignored() {
    let ready = node(
        json!({"metadata": {"name": "node0"}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    );
    assert!(!plan::is_new(&ready) && plan::is_new(&new(json!({}))));
    assert!(plan::labels(&ready).is_empty());
}

#[test]
fn zone_region_topology_labels_added() {
    let there = InstanceMetadata { zone: "us-east-1a".into(), region: "us-east".into(), ..metadata() };
    let change = plan::initialized(&new(json!({})), &there).unwrap();
    let labels = &change["metadata"]["labels"];
    for (key, value) in [
        ("topology.kubernetes.io/zone", "us-east-1a"),
        ("topology.kubernetes.io/region", "us-east"),
        ("failure-domain.beta.kubernetes.io/zone", "us-east-1a"),
        ("failure-domain.beta.kubernetes.io/region", "us-east"),
    ] {
        assert_eq!(labels[key], value, "{key}");
    }
}

#[test]
fn provider_id_already_set() {
    let mut has = new(json!({}));
    has.spec.as_mut().unwrap().provider_id = Some("fake://old".into());
    let change = plan::initialized(&has, &metadata()).unwrap();
    assert_eq!(change["spec"]["providerID"], Value::Null, "it never changes");
    // And one that the provider cannot tell is not needed.
    assert!(plan::initialized(&has, &InstanceMetadata { provider_id: String::new(), ..metadata() }).is_ok());
}

#[test]
fn provider_id_not_implemented() {
    let none = InstanceMetadata { provider_id: String::new(), ..metadata() };
    let error = plan::initialized(&new(json!({})), &none).unwrap_err();
    assert!(error.contains("no provider id of node node0"), "{error}");
}

#[test]
fn provided_additional_labels_and_labels_to_discard() {
    let labels = [
        ("topology.k8s.cloud.com/zone", "a"),
        ("example.com/rack", "7"),
        ("mine", "theirs"),
        ("topology.kubernetes.io/zone", "other"),
        ("kubernetes.io/os", "other"),
        ("foo.k8s.io/bar", "x"),
    ];
    let additional_labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let there = InstanceMetadata { additional_labels, zone: "z".into(), ..metadata() };
    let change = plan::initialized(&new(json!({"labels": {"mine": "kept"}})), &there).unwrap();
    let labels = &change["metadata"]["labels"];
    assert_eq!(
        (&labels["topology.k8s.cloud.com/zone"], &labels["example.com/rack"]),
        (&json!("a"), &json!("7"))
    );
    assert_eq!(labels["topology.kubernetes.io/zone"], "z");
    for key in ["mine", "kubernetes.io/os", "foo.k8s.io/bar"] {
        assert_eq!(labels[key], Value::Null, "{key}");
    }
}

fn told(ips: &str) -> Value {
    json!({"annotations": {"alpha.kubernetes.io/provided-node-ip": ips}})
}

#[test]
fn provided_node_ip_address_is_not_valid_or_not_present() {
    for (ips, says) in [
        ("invalid-ip", "failed to parse node IP \"invalid-ip\""),
        ("10.0.0.1,", "failed to parse node IP"),
        ("10.0.0.9", "matches ip: 10.0.0.9"),
        ("10.0.0.1,fd00::1", "matches ip: fd00::1"),
    ] {
        let error = plan::initialized(&new(told(ips)), &metadata()).unwrap_err();
        assert!(
            error.contains(says) && error.contains("provided node ip for node \"node0\" is not valid"),
            "{error}"
        );
    }
    assert!(plan::initialized(&new(told("10.0.0.1")), &metadata()).is_ok());
}

/// A node that is initialized, has these addresses, and these were its kubelet's.
fn has(addresses: &[NodeAddress], ips: Option<&str>) -> Node {
    let metadata = ips.map_or(json!({}), told);
    node(json!({"metadata": metadata, "status": {"addresses": addresses}}))
}

fn wanted(node: &Node, of_cloud: &[NodeAddress]) -> Option<Vec<(String, String)>> {
    let wanted = plan::addresses(node, of_cloud).unwrap();
    wanted.map(|all| all.into_iter().map(|one| (one.type_, one.address)).collect())
}

fn pairs(all: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    Some(all.iter().map(|(kind, address)| ((*kind).to_owned(), (*address).to_owned())).collect())
}

#[test]
fn node_addresses_are_updated_once_the_node_is_initialized() {
    let of_cloud = metadata().node_addresses;
    assert_eq!(wanted(&new(json!({})), &of_cloud), None, "it is not");
    let all = pairs(&[
        ("Hostname", "node0.cloud.internal"),
        ("InternalIP", "10.0.0.1"),
        ("ExternalIP", "132.143.154.163"),
    ]);
    assert_eq!(wanted(&has(&[], None), &of_cloud), all);
    assert_eq!(wanted(&has(&of_cloud, None), &of_cloud), None, "they are the same");
    assert_eq!(wanted(&has(&of_cloud, None), &[]), None, "the cloud has none");
}

#[test]
fn node_initialized_with_hostname_and_cloud_provider_missing_hostname() {
    let node = has(&[address("Hostname", "node0"), address("InternalIP", "10.0.0.9")], None);
    let of_cloud = [address("InternalIP", "10.0.0.1")];
    assert_eq!(wanted(&node, &of_cloud), pairs(&[("InternalIP", "10.0.0.1"), ("Hostname", "node0")]));
    let of_cloud = [address("Hostname", "cloud"), address("InternalIP", "10.0.0.1")];
    assert_eq!(wanted(&node, &of_cloud), pairs(&[("Hostname", "cloud"), ("InternalIP", "10.0.0.1")]));
}

#[test]
fn node_addresses_change_detected() {
    let two = [address("InternalIP", "10.0.0.1"), address("ExternalIP", "1.2.3.4")];
    let swapped = [two[1].clone(), two[0].clone()];
    assert_eq!(wanted(&has(&two, None), &swapped), None, "the order is no change");
    assert!(wanted(&has(&two, None), &two[..1]).is_some());
    assert!(wanted(&has(&two[..1], None), &two).is_some());
    assert!(wanted(&has(&two, None), &[two[0].clone(), address("ExternalIP", "1.2.3.5")]).is_some());
    assert!(wanted(&has(&two, None), &[two[0].clone(), address("InternalDNS", "1.2.3.4")]).is_some());
    // Upstream's edge: of two of a type the last one is compared.
    let doubled = [address("InternalIP", "10.0.0.7"), two[0].clone()];
    let other = [address("InternalIP", "10.0.0.8"), two[0].clone()];
    assert_eq!(wanted(&has(&doubled, None), &other), None);
}

/// What comes of the cloud's addresses where the kubelet was told these.
fn picked(ips: &str, of_cloud: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
    let of_cloud: Vec<_> = of_cloud.iter().map(|(kind, text)| address(kind, text)).collect();
    let all = plan::addresses(&has(&[address("Hostname", "h")], Some(ips)), &of_cloud)?.unwrap_or_default();
    Ok(all.into_iter().filter(|one| one.type_ != "Hostname").map(|one| (one.type_, one.address)).collect())
}

/// TestGetNodeAddressesFromNodeIP.
#[test]
fn addresses_from_node_ip() {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: &[(&str, &str, Pairs, Pairs)] = &[
        ("A single InternalIP", "10.1.1.1", &[("InternalIP", "10.1.1.1")], &[("InternalIP", "10.1.1.1")]),
        (
            "NodeIP is external",
            "55.55.55.55",
            &[("InternalIP", "10.1.1.1"), ("ExternalIP", "55.55.55.55")],
            &[("ExternalIP", "55.55.55.55"), ("InternalIP", "10.1.1.1")],
        ),
        (
            "InternalIP and ExternalIP are the same",
            "44.44.44.44",
            &[("InternalIP", "44.44.44.44"), ("ExternalIP", "44.44.44.44")],
            &[("InternalIP", "44.44.44.44"), ("ExternalIP", "44.44.44.44")],
        ),
        (
            "An Internal/ExternalIP, an Internal/ExternalDNS",
            "10.1.1.1",
            &[
                ("InternalIP", "10.1.1.1"),
                ("ExternalIP", "55.55.55.55"),
                ("InternalDNS", "ip-10"),
                ("ExternalDNS", "ec2"),
            ],
            &[
                ("InternalIP", "10.1.1.1"),
                ("ExternalIP", "55.55.55.55"),
                ("InternalDNS", "ip-10"),
                ("ExternalDNS", "ec2"),
            ],
        ),
        (
            "An Internal with multiple internal IPs",
            "10.1.1.1",
            &[("InternalIP", "10.1.1.1"), ("InternalIP", "10.2.2.2"), ("ExternalIP", "55.55.55.55")],
            &[("InternalIP", "10.1.1.1"), ("ExternalIP", "55.55.55.55")],
        ),
        (
            "Dual-stack cloud, with nodeIP, different IPv6 formats",
            "2600:1f14:1d4:d101::ba3d",
            &[("InternalIP", "10.1.1.1"), ("InternalIP", "2600:1f14:1d4:d101:0:0:0:ba3d")],
            &[("InternalIP", "2600:1f14:1d4:d101:0:0:0:ba3d")],
        ),
        (
            "Dual-stack cloud, IPv6 first, IPv4-primary request",
            "10.1.1.1,fc01:1234::5678",
            &[("InternalIP", "fc01:1234::5678"), ("InternalIP", "10.1.1.1")],
            &[("InternalIP", "10.1.1.1"), ("InternalIP", "fc01:1234::5678")],
        ),
        (
            "Dual-stack cloud, dual-stack request, extra ExternalIP",
            "10.1.1.1,fc01:1234::5678",
            &[
                ("InternalIP", "10.1.1.1"),
                ("InternalIP", "fc01:1234::5678"),
                ("InternalIP", "10.1.1.2"),
                ("ExternalIP", "55.55.55.55"),
            ],
            &[("InternalIP", "10.1.1.1"), ("InternalIP", "fc01:1234::5678"), ("ExternalIP", "55.55.55.55")],
        ),
        (
            "Dual-stack cloud, dual-stack request, mixed InternalIP/ExternalIP match",
            "55.55.55.55,fc01:1234::5678",
            &[
                ("InternalIP", "10.1.1.1"),
                ("ExternalIP", "55.55.55.55"),
                ("InternalIP", "fc01:1234::5678"),
                ("ExternalIP", "2001::1"),
            ],
            &[("ExternalIP", "55.55.55.55"), ("InternalIP", "fc01:1234::5678")],
        ),
    ];
    for (name, ips, of_cloud, wanted) in cases {
        assert_eq!(picked(ips, of_cloud).unwrap(), pairs(wanted).unwrap(), "{name}");
    }
    let single = picked("10.1.1.1,fc01:1234::5678", &[("InternalIP", "10.1.1.1")]);
    assert!(single.is_err(), "Single-stack cloud, dual-stack request");
    assert!(picked("10.1.1.9", &[("InternalIP", "10.1.1.1")]).is_err(), "An InternalIP that isn't valid");
}

/// Test_reconcileNodeLabels.
#[test]
fn labels_of_today_follow_the_older_ones() {
    let of = |labels: Value| {
        let labels = plan::labels(&node(json!({"metadata": {"labels": labels}})));
        labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    let [zone, region, kind] = [
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
    ];
    assert_eq!(
        of(json!({zone: "z", region: "r", kind: "t"})),
        [
            "node.kubernetes.io/instance-type=t",
            "topology.kubernetes.io/region=r",
            "topology.kubernetes.io/zone=z"
        ],
        "requires reconcile"
    );
    let same = json!({zone: "z", "topology.kubernetes.io/zone": "z", kind: "t", "node.kubernetes.io/instance-type": "t"});
    assert!(of(same).is_empty(), "doesn't require reconcile");
    let other = json!({zone: "z", "topology.kubernetes.io/zone": "mine"});
    assert_eq!(of(other), ["topology.kubernetes.io/zone=z"], "secondary labels are different from primary");
    assert!(
        of(json!({"topology.kubernetes.io/zone": "mine"})).is_empty(),
        "without the older one nothing happens"
    );
}
