//! What a node says to a pod by itself: whether it takes it, and why not.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, Pod, Taint, Toleration};
use kube::ResourceExt as _;

use super::state::Place;
use super::{Refusal, resources};
use crate::csi::reach;

const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// The first filter that a node does not pass, with its reasons, as Kubernetes orders them.
pub(super) fn refuses(pod: &Pod, place: &Place) -> Option<Refusal> {
    unschedulable(pod, &place.node)
        .or_else(|| named(pod, &place.node))
        .or_else(|| tainted(pod, &place.node))
        .or_else(|| (!is_wanted(pod, &place.node)).then(elsewhere))
        .or_else(|| ports_taken(pod, place))
        .or_else(|| lacks(pod, place))
}

fn tolerations(pod: &Pod) -> &[Toleration] {
    pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default()
}

/// Whether a toleration is of a taint.
pub(in crate::workloads) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |of: &Option<String>| of.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let value = match toleration.operator.as_deref().unwrap_or_default() {
        "Exists" => true,
        "" | "Equal" => text(&toleration.value) == text(&taint.value),
        operator @ ("Gt" | "Lt") => {
            let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<i64>().ok());
            let both = number(&taint.value).zip(number(&toleration.value));
            both.is_some_and(|(its, bound)| if operator == "Gt" { its > bound } else { its < bound })
        }
        _ => false,
    };
    (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key) && value
}

fn unschedulable(pod: &Pod, node: &Node) -> Option<Refusal> {
    let taint = Taint { key: UNSCHEDULABLE.into(), effect: "NoSchedule".into(), ..Taint::default() };
    let is_closed = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or_default();
    let refused = is_closed && !tolerations(pod).iter().any(|one| tolerates(one, &taint));
    refused.then(|| Refusal::for_good("node(s) were unschedulable"))
}

fn named(pod: &Pod, node: &Node) -> Option<Refusal> {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
    let refused = !wanted.is_empty() && wanted != node.name_any();
    refused.then(|| Refusal::for_good("node(s) didn't match the requested node name"))
}

/// The taints of a node that a pod does not tolerate, of those that keep it away.
pub(in crate::workloads) fn untolerated<'a>(node: &'a Node, held: &[Toleration]) -> Option<&'a Taint> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let keeps = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    taints.iter().filter(keeps).find(|taint| !held.iter().any(|one| tolerates(one, taint)))
}

fn tainted(pod: &Pod, node: &Node) -> Option<Refusal> {
    untolerated(node, tolerations(pod)).map(|_| Refusal::for_good("node(s) had untolerated taint(s)"))
}

/// How many taints there are that would rather not have the pod.
pub(super) fn disliked(pod: &Pod, node: &Node) -> usize {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let dislikes = taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    dislikes.filter(|taint| !tolerations(pod).iter().any(|one| tolerates(one, taint))).count()
}

fn elsewhere() -> Refusal {
    Refusal::for_good("node(s) didn't match Pod's node affinity/selector")
}

/// Whether a node is one that the pod's selector and required affinity ask for.
pub(in crate::workloads) fn is_wanted(pod: &Pod, node: &Node) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let labels = node.labels();
    let selected = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required =
        affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    selected && required.is_none_or(|required| is_one_of(&required.node_selector_terms, node))
}

fn is_one_of(terms: &[NodeSelectorTerm], node: &Node) -> bool {
    terms.iter().any(|term| reach::is_in(term, &node.name_any(), node.labels()))
}

/// The sum of the weights of what the pod prefers in a node, and this one has.
pub(super) fn preferred(pod: &Pod, node: &Node) -> i64 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
    let terms = affinity.and_then(|node| node.preferred_during_scheduling_ignored_during_execution.as_ref());
    let held = terms
        .into_iter()
        .flatten()
        .filter(|term| reach::is_in(&term.preference, &node.name_any(), node.labels()));
    held.map(|term| i64::from(term.weight)).sum()
}

/// A port of the host: address, protocol, number.
pub(super) type HostPort = (String, String, i32);

/// The ports of the host that a pod takes.
pub(super) fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let Some(spec) = &pod.spec else { return BTreeSet::new() };
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let of =
        |text: &Option<String>, or: &str| text.clone().filter(|text| !text.is_empty()).unwrap_or(or.into());
    ports
        .filter_map(|port| Some((of(&port.host_ip, "0.0.0.0"), of(&port.protocol, "TCP"), port.host_port?)))
        .filter(|(_, _, port)| *port > 0)
        .collect()
}

fn ports_taken(pod: &Pod, place: &Place) -> Option<Refusal> {
    let any = |address: &str| matches!(address, "0.0.0.0" | "::");
    let meets = |one: &HostPort, other: &HostPort| {
        one.1 == other.1 && one.2 == other.2 && (one.0 == other.0 || any(&one.0) || any(&other.0))
    };
    let taken = host_ports(pod).iter().any(|wanted| place.ports.iter().any(|held| meets(wanted, held)));
    taken.then(|| Refusal::for_now("node(s) didn't have free ports for the requested pod ports"))
}

fn lacks(pod: &Pod, place: &Place) -> Option<Refusal> {
    let mut refusal = Refusal::default();
    let has = resources::allocatable(&place.node);
    let of = |resource: &str| has.get(resource).copied().unwrap_or_default();
    let count = i64::try_from(place.pods.len()).unwrap_or(i64::MAX);
    if count + 1 > of("pods") {
        refusal.reasons.push("Too many pods".into());
    }
    for (resource, asked) in resources::requests(pod) {
        let used = place.used.get(&resource).copied().unwrap_or_default();
        if asked > of(&resource) - used {
            refusal.reasons.push(format!("Insufficient {resource}"));
            // Whoever goes, it will not be enough.
            refusal.is_for_good |= asked > of(&resource);
        }
    }
    (!refusal.reasons.is_empty()).then_some(refusal)
}
