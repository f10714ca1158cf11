//! What services want of their provider, and which nodes they are led to.

use cpi::contract::{LoadBalancerIngress, LoadBalancerStatus};
use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use std::collections::BTreeMap;

use super::super::taints;

/// What holds a service until its load balancer is gone.
pub(super) const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";
/// A node that load balancers are not led to.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// A node that is about to go.
const GOING: &str = "ToBeDeletedByClusterAutoscaler";
/// As many nodes are named in an event.
const NAMED: usize = 20;

fn spec(service: &Service) -> Option<&ServiceSpec> {
    service.spec.as_ref()
}

fn is_of_balancer(service: &Service) -> bool {
    spec(service).and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

/// Whether a service is to have a load balancer of the cluster's provider: those of a class are others'.
pub(super) fn wants(service: &Service) -> bool {
    is_of_balancer(service) && spec(service).is_some_and(|spec| spec.load_balancer_class.is_none())
}

/// Whether there is a finalizer whose load balancer is to go.
pub(super) fn needs_cleanup(service: &Service) -> bool {
    let is_held = service.metadata.finalizers.iter().flatten().any(|one| one == FINALIZER);
    is_held && (service.metadata.deletion_timestamp.is_some() || !is_of_balancer(service))
}

/// What a service is to be looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Its load balancer is to be as wanted.
    Ensured,
    /// Its load balancer, if there is one, is to go.
    Gone,
}

/// What is to become of a service's load balancer.
pub(super) fn wish(service: &Service) -> Wish {
    if wants(service) && !needs_cleanup(service) { Wish::Ensured } else { Wish::Gone }
}

/// Whether a service that has come to be `new` is to be looked at; `old` is what it was, if it was there.
pub(super) fn is_news(old: Option<&Service>, new: &Service) -> bool {
    needs_cleanup(new)
        || match old {
            None => wants(new),
            Some(old) => has_changed(old, new),
        }
}

/// What of a service a load balancer depends on.
#[derive(PartialEq)]
struct Shape<'a> {
    ports: Vec<[String; 6]>,
    session: (Option<&'a str>, String),
    address: Option<&'a str>,
    external: &'a [String],
    annotations: BTreeMap<&'a String, &'a String>,
    uid: Option<&'a str>,
    traffic: Option<&'a str>,
    health: Option<i32>,
    families: usize,
}

fn port(port: &ServicePort) -> [String; 6] {
    let text = |option: Option<&String>| option.cloned().unwrap_or_default();
    [
        text(port.name.as_ref()),
        text(port.protocol.as_ref()),
        port.port.to_string(),
        port.node_port.unwrap_or_default().to_string(),
        format!("{:?}", port.target_port),
        format!("{:?}", port.app_protocol),
    ]
}

fn shape(service: &Service) -> Shape<'_> {
    let spec = spec(service);
    let text = |of: fn(&ServiceSpec) -> Option<&String>| {
        spec.and_then(of).map(String::as_str).filter(|text| !text.is_empty())
    };
    Shape {
        ports: spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).map(port).collect(),
        session: (
            text(|spec| spec.session_affinity.as_ref()),
            format!("{:?}", spec.and_then(|spec| spec.session_affinity_config.as_ref())),
        ),
        address: text(|spec| spec.load_balancer_ip.as_ref()),
        external: spec.and_then(|spec| spec.external_ips.as_deref()).unwrap_or_default(),
        annotations: service.metadata.annotations.iter().flatten().collect(),
        uid: service.metadata.uid.as_deref(),
        traffic: text(|spec| spec.external_traffic_policy.as_ref()),
        health: spec.and_then(|spec| spec.health_check_node_port).filter(|port| *port != 0),
        families: spec.and_then(|spec| spec.ip_families.as_ref()).map_or(0, Vec::len),
    }
}

/// Whether what a load balancer depends on has changed.
fn has_changed(old: &Service, new: &Service) -> bool {
    let sources = |service| {
        spec(service).and_then(|spec| spec.load_balancer_source_ranges.as_deref()).unwrap_or_default()
    };
    match (wants(old), wants(new)) {
        (false, false) => false,
        (true, true) => sources(old) != sources(new) || shape(old) != shape(new),
        _ => true,
    }
}

/// Whether the labels of a node let load balancers lead to it.
pub(super) fn is_included(node: &Node) -> bool {
    let excluded = node.metadata.labels.as_ref().and_then(|labels| labels.get(EXCLUDED));
    // What says false in any of Go's ways excludes nothing; the label with anything else does.
    excluded.is_none_or(|value| matches!(value.as_str(), "0" | "f" | "F" | "false" | "False" | "FALSE"))
}

/// Whether load balancers lead to a node. Whether it is ready is not asked: their health checks find out.
fn is_led_to(node: &Node) -> bool {
    node.metadata.deletion_timestamp.is_none()
        && is_included(node)
        && !taints(node).iter().any(|taint| taint.key == GOING)
}

/// The nodes that load balancers lead to.
pub(super) fn led_to(nodes: &[std::sync::Arc<Node>]) -> Vec<Node> {
    nodes.iter().filter(|node| is_led_to(node)).map(|node| Node::clone(node)).collect()
}

/// Nodes as load balancers know them apart: by name, and by the instance that has the name.
pub(super) fn known_by(nodes: &[Node]) -> BTreeMap<String, String> {
    let id = |node: &Node| node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default();
    nodes.iter().map(|node| (node.metadata.name.clone().unwrap_or_default(), id(node))).collect()
}

/// Whether a node's change may change where load balancers lead.
pub(super) fn is_nodes_news(old: Option<&Node>, new: Option<&Node>) -> bool {
    let id = |node: &Node| node.spec.as_ref().and_then(|spec| spec.provider_id.clone()).unwrap_or_default();
    match (old, new) {
        (Some(old), Some(new)) => is_included(old) != is_included(new) || id(old) != id(new),
        _ => true,
    }
}

/// A node's addresses, to compare them.
pub(super) fn addresses(node: &Node) -> String {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.map(|one| format!(" {}={}", one.type_, one.address)).collect()
}

/// Whether a node that was there has other addresses.
pub(super) fn is_addresses_news(old: Option<&Node>, new: Option<&Node>) -> bool {
    old.zip(new).is_some_and(|(old, new)| addresses(old) != addresses(new))
}

/// Names of nodes for an event, in Go's way of writing lists.
pub(super) fn named(nodes: &[Node]) -> String {
    let mut names: Vec<&str> =
        nodes.iter().take(NAMED).filter_map(|node| node.metadata.name.as_deref()).collect();
    names.sort_unstable();
    let more = match nodes.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" <{more} more>"),
    };
    format!("[{}{more}]", names.join(" "))
}

/// The status that a service has of its load balancer.
pub(super) fn status(service: &Service) -> LoadBalancerStatus {
    service.status.as_ref().and_then(|status| status.load_balancer.clone()).unwrap_or_default()
}

/// Whether two statuses come to the same once they are written: providers may leave out what the API server fills in.
pub(super) fn is_same(one: &LoadBalancerStatus, other: &LoadBalancerStatus) -> bool {
    kept(one) == kept(other)
}

/// The ingress points of a status as the API server keeps them: what is empty is not there, and an address of which is not said how it
/// behaves is one that packets for it reach nodes with.
fn kept(status: &LoadBalancerStatus) -> Vec<LoadBalancerIngress> {
    let points = status.ingress.iter().flatten().cloned();
    let as_kept = points.map(|mut point| {
        point.ip = point.ip.filter(|ip| !ip.is_empty());
        point.hostname = point.hostname.filter(|name| !name.is_empty());
        point.ports = point.ports.filter(|ports| !ports.is_empty());
        if point.ip.is_some() && point.ip_mode.is_none() {
            point.ip_mode = Some("VIP".into());
        }
        point
    });
    as_kept.collect()
}
