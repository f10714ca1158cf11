//! Which routes there are to be.

use std::collections::{BTreeMap, BTreeSet};

use cpi::contract::{Cidr, Node, NodeAddress, Route};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::super::{condition, pod_cidrs};

/// The condition of a node to whose pods no route leads.
const UNAVAILABLE: &str = "NetworkUnavailable";

/// What is to be done about routes, and what may then be said of nodes.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Routes to take away.
    pub(super) delete: Vec<Route>,
    /// Routes to make, each with its node's uid.
    pub(super) create: Vec<(String, Route)>,
    /// Nodes of which something is said: those with ranges, and those without that have routes. Whether all their routes are there
    /// already; `None` of those without ranges, which have none.
    pub(super) nodes: BTreeMap<String, Option<bool>>,
    /// Whether routes must be taken away before any are made: some are to the same destination.
    pub(super) in_turn: bool,
}

/// Whether a route is within the cluster's ranges. Others are never touched.
fn is_ours(route: &Route, clusters: &[Cidr]) -> bool {
    let Ok(cidr) = route.destination_cidr.parse::<Cidr>() else {
        let (name, destination) = (&route.name, &route.destination_cidr);
        eprintln!(
            "sextant control: warning: route {name} leads to {destination:?}, which is no range of addresses: it is left alone"
        );
        return false;
    };
    clusters.iter().any(|cluster| cluster.covers(&cidr))
}

fn addresses(node: &Node) -> &[NodeAddress] {
    node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default()
}

/// Whether both are the same addresses, in any order.
fn are_same(one: &[NodeAddress], other: &[NodeAddress]) -> bool {
    one.len() == other.len() && one.iter().all(|address| other.contains(address))
}

/// Where a route leads, however it is written; what is no range is itself alone.
fn range(text: &str) -> Result<Cidr, &str> {
    text.parse().map_err(|_| text)
}

/// Whether a node's range is reached by a route.
fn leads(route: &Route, node: &Node, cidr: &str) -> bool {
    let is_there = !route.enable_node_addresses || are_same(addresses(node), &route.target_node_addresses);
    range(&route.destination_cidr) == range(cidr) && !route.blackhole && is_there
}

/// What of a node routes depend on: of one without ranges none do.
fn shape(node: &Node) -> Option<(&[String], &[NodeAddress])> {
    let ranges = pod_cidrs(node);
    (!ranges.is_empty()).then(|| (ranges, addresses(node)))
}

/// Whether a node's change may change routes.
pub(super) fn is_news(old: Option<&Node>, new: Option<&Node>) -> bool {
    old.and_then(shape) != new.and_then(shape)
}

/// What is to be done, by the routes that the provider lists.
pub(super) fn plan<'a>(
    nodes: impl IntoIterator<Item = &'a Node> + Clone,
    routes: &[Route],
    clusters: &[Cidr],
) -> Plan {
    let mut by_node: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
    for route in routes.iter().filter(|route| !route.target_node.is_empty()) {
        by_node.entry(&route.target_node).or_default().push(route);
    }
    let mut plan = Plan::default();
    let mut kept = BTreeSet::new();
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let its = by_node.get(name).map(Vec::as_slice).unwrap_or_default();
        if pod_cidrs(node).is_empty() {
            if !its.is_empty() {
                plan.nodes.insert(name.into(), None);
            }
            continue;
        }
        let mut are_all_there = true;
        for cidr in pod_cidrs(node) {
            if its.iter().any(|route| leads(route, node, cidr)) {
                kept.insert((name, range(cidr)));
                continue;
            }
            are_all_there = false;
            let route = Route {
                target_node: name.into(),
                target_node_addresses: addresses(node).to_vec(),
                destination_cidr: cidr.clone(),
                ..Route::default()
            };
            plan.create.push((node.metadata.uid.clone().unwrap_or_default(), route));
        }
        plan.nodes.insert(name.into(), Some(are_all_there));
    }
    let is_kept =
        |route: &Route| kept.contains(&(route.target_node.as_str(), range(&route.destination_cidr)));
    let is_wrong = |route: &&Route| is_ours(route, clusters) && (route.blackhole || !is_kept(route));
    plan.delete = routes.iter().filter(is_wrong).cloned().collect();
    let to: BTreeSet<_> = plan.delete.iter().map(|route| range(&route.destination_cidr)).collect();
    plan.in_turn = plan.create.iter().any(|(_, route)| to.contains(&range(&route.destination_cidr)));
    plan
}

/// The condition that a node is to have, where it has another.
pub(super) fn said(node: &Node, is_reached: bool, now: Timestamp) -> Option<Value> {
    let (status, reason, message) = if is_reached {
        ("False", "RouteCreated", "RouteController created a route")
    } else {
        ("True", "NoRouteCreated", "RouteController failed to create a route")
    };
    let has = condition(node, UNAVAILABLE);
    if has.is_some_and(|has| has.status == status && has.reason.as_deref() == Some(reason)) {
        return None;
    }
    let (at, kind) = (format!("{now:.0}"), UNAVAILABLE);
    Some(
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at,
        "lastHeartbeatTime": at}),
    )
}

/// Whether it is said of a node that it waits for a route.
pub(super) fn waits(node: &Node) -> bool {
    condition(node, UNAVAILABLE)
        .is_some_and(|has| has.status == "True" && has.reason.as_deref() == Some("NoRouteCreated"))
}

/// What takes back whatever is said, in a strategic merge patch.
pub(super) fn nothing_said() -> Value {
    json!({"type": UNAVAILABLE, "$patch": "delete"})
}
