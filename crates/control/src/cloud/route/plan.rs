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
    /// Whether routes must be taken away before any are made: they may be to the same destination.
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

/// What a node's range needs.
#[derive(Clone, Copy, PartialEq)]
enum Action {
    Keep,
    Add,
    Update,
}

fn action(routes: &[&Route], node: &Node, cidr: &str) -> Action {
    match routes.iter().find(|route| route.destination_cidr == cidr) {
        None => Action::Add,
        Some(route)
            if !route.enable_node_addresses || are_same(addresses(node), &route.target_node_addresses) =>
        {
            Action::Keep
        }
        Some(_) => Action::Update,
    }
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
    let in_turn = routes.first().is_some_and(|route| route.enable_node_addresses);
    let mut plan = Plan { in_turn, ..Plan::default() };
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
            let action = action(its, node, cidr);
            if action == Action::Keep {
                kept.insert((name, cidr.as_str()));
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
        |route: &Route| kept.contains(&(route.target_node.as_str(), route.destination_cidr.as_str()));
    let is_wrong = |route: &&Route| is_ours(route, clusters) && (route.blackhole || !is_kept(route));
    plan.delete = routes.iter().filter(is_wrong).cloned().collect();
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
