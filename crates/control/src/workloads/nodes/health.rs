//! What is wrong with a node: its conditions, and the taints that come of them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use serde_json::{Value, json};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Conditions that are well when they do not hold, and their taints.
const WRONG: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];
/// Conditions of which nobody knows anything when a node is not heard of.
const HEARD: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status.as_ref()?.conditions.iter().flatten().find(|condition| condition.type_ == kind)
}

/// The condition `Ready`.
pub(super) fn ready(node: &Node) -> Option<&NodeCondition> {
    condition(node, "Ready")
}

/// Whether a node says that it is not ready, or is not heard of. Of one that has said nothing yet nobody knows.
fn is_down(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status != "True")
}

/// Whether a node says that it is ready.
pub(in crate::workloads) fn is_well(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status == "True")
}

/// Whether a node is down, and nobody has been sent away from it for that.
pub(super) fn is_given_up_next(node: &Node) -> bool {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let sends =
        |taint: &Taint| [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()) && taint.effect == "NoExecute";
    is_down(node) && !taints.iter().any(sends)
}

/// Labels that older programs read, which have the values of those that have taken their place.
const OLD: [(&str, &str); 2] =
    [("kubernetes.io/os", "beta.kubernetes.io/os"), ("kubernetes.io/arch", "beta.kubernetes.io/arch")];

/// The older labels that a node lacks, or has with another value.
pub(super) fn labels(node: &Node) -> Option<BTreeMap<&'static str, String>> {
    let held = node.labels();
    let told = OLD.into_iter().filter_map(|(new, old)| {
        let value = held.get(new).filter(|value| held.get(old) != Some(value))?;
        Some((old, value.clone()))
    });
    let told: BTreeMap<_, _> = told.collect();
    (!told.is_empty()).then_some(told)
}

/// Whether a node is not heard of any more.
pub(super) fn is_lost(node: &Node) -> bool {
    ready(node).is_some_and(|ready| ready.status == "Unknown")
}

/// The conditions of a node that is not heard of, where they are others than it has.
pub(super) fn unknown(node: &Node, now: Timestamp) -> Option<Vec<Value>> {
    let is_known = |kind: &&str| condition(node, kind).is_none_or(|condition| condition.status != "Unknown");
    let told = HEARD.into_iter().filter(is_known).map(|kind| {
        let was = condition(node, kind);
        let (reason, message) = match was {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        json!({
            "type": kind, "status": "Unknown", "reason": reason, "message": message,
            "lastTransitionTime": format!("{now:.0}"),
            "lastHeartbeatTime": was.map_or_else(|| json!(node.metadata.creation_timestamp), |was| json!(was.last_heartbeat_time)),
        })
    });
    let told: Vec<Value> = told.collect();
    (!told.is_empty()).then_some(told)
}

/// The taints that a node is to have, where they are others than it has. `sends` says whether pods are sent away from it if it is down.
pub(super) fn taints(node: &Node, sends: bool, now: Timestamp) -> Option<Vec<Taint>> {
    let spec = node.spec.clone().unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let down = match ready(node).map(|ready| ready.status.as_str()) {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    };
    if let Some(key) = down {
        wanted.push((key, "NoSchedule"));
        if sends {
            wanted.push((key, "NoExecute"));
        }
    }
    let is_so = |kind: &str| condition(node, kind).is_some_and(|condition| condition.status == "True");
    wanted.extend(WRONG.into_iter().filter(|(kind, _)| is_so(kind)).map(|(_, key)| (key, "NoSchedule")));
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    let is_ours = |taint: &Taint| {
        let is_wrong = WRONG.iter().any(|(_, key)| *key == taint.key) || taint.key == UNSCHEDULABLE;
        let is_down = [NOT_READY, UNREACHABLE].contains(&taint.key.as_str());
        is_down && taint.effect != "PreferNoSchedule" || is_wrong && taint.effect == "NoSchedule"
    };
    let held = spec.taints.unwrap_or_default();
    let is_wanted = |taint: &Taint| wanted.contains(&(taint.key.as_str(), taint.effect.as_str()));
    let mut new: Vec<Taint> =
        held.iter().filter(|taint| !is_ours(taint) || is_wanted(taint)).cloned().collect();
    for (key, effect) in wanted {
        if !held.iter().any(|taint| taint.key == key && taint.effect == effect) {
            let time_added = Some(Time(now));
            new.push(Taint { key: key.into(), effect: effect.into(), time_added, value: None });
        }
    }
    (new != held).then_some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &[(&str, &str)], spec: Value) -> Node {
        let condition = |(kind, status): &(&str, &str)| json!({"type": kind, "status": status});
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        serde_json::from_value(
            json!({"metadata": {"name": "n"}, "spec": spec, "status": {"conditions": conditions}}),
        )
        .unwrap()
    }

    fn told(node: &Node, sends: bool) -> Option<Vec<String>> {
        let taints = taints(node, sends, Timestamp::UNIX_EPOCH)?;
        let short = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
        Some(taints.iter().map(|taint| format!("{}:{}", short(&taint.key), taint.effect)).collect())
    }

    #[test]
    fn what_is_wrong_is_told_by_taints() {
        let list = |list: &[&str]| Some(list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(told(&node(&[("Ready", "True"), ("DiskPressure", "False")], json!({})), true), None);
        assert_eq!(told(&node(&[], json!({})), true), None);
        let down = node(&[("Ready", "False"), ("MemoryPressure", "True")], json!({}));
        let taints = ["not-ready:NoSchedule", "not-ready:NoExecute", "memory-pressure:NoSchedule"];
        assert_eq!(told(&down, true), list(&taints));
        assert_eq!(told(&down, false), list(&["not-ready:NoSchedule", "memory-pressure:NoSchedule"]));
        let gone = node(&[("Ready", "Unknown")], json!({"unschedulable": true}));
        let taints = ["unreachable:NoSchedule", "unreachable:NoExecute", "unschedulable:NoSchedule"];
        assert_eq!(told(&gone, true), list(&taints));
    }

    #[test]
    fn taints_of_others_stay_and_ours_go_when_it_is_well() {
        let held = json!({"taints": [
            {"key": "example.org/own", "effect": "NoExecute"},
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"},
            {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/disk-pressure", "effect": "PreferNoSchedule"}]});
        let well = told(&node(&[("Ready", "True")], held.clone()), true).unwrap();
        assert_eq!(well, ["own:NoExecute", "disk-pressure:PreferNoSchedule"]);
        // One that stays is since when it was.
        let gone = node(&[("Ready", "Unknown")], held);
        let new = taints(&gone, true, Timestamp::UNIX_EPOCH).unwrap();
        let since = new.iter().find(|taint| taint.effect == "NoExecute" && taint.key == UNREACHABLE);
        assert_eq!(json!(since.unwrap().time_added), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn labels_of_old_are_kept_up() {
        let with = |labels: Value| serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap();
        let new: Node = with(json!({"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64",
            "beta.kubernetes.io/arch": "amd64"}));
        let told = json!(labels(&new));
        assert_eq!(told, json!({"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "arm64"}));
        assert_eq!(labels(&with(json!({"beta.kubernetes.io/os": "linux"}))), None);
    }

    #[test]
    fn who_was_given_up_is_not_given_up_again() {
        let held = json!({"taints": [{"key": NOT_READY, "effect": "NoExecute"}]});
        assert!(is_given_up_next(&node(&[("Ready", "Unknown")], json!({}))));
        assert!(!is_given_up_next(&node(&[("Ready", "Unknown")], held)));
        assert!(!is_given_up_next(&node(&[("Ready", "True")], json!({}))));
    }

    #[test]
    fn of_who_is_not_heard_of_nothing_is_known() {
        let are = |node: &Node| (is_down(node), is_lost(node));
        assert_eq!(are(&node(&[("Ready", "Unknown")], json!({}))), (true, true));
        assert_eq!(are(&node(&[("Ready", "False")], json!({}))), (true, false), "it says so itself");
        assert_eq!(are(&node(&[("Ready", "True")], json!({}))), (false, false));
        assert_eq!(are(&node(&[], json!({}))), (false, false));
        let told =
            unknown(&node(&[("Ready", "True"), ("DiskPressure", "False")], json!({})), Timestamp::UNIX_EPOCH);
        let told = told.unwrap();
        assert_eq!(told.iter().map(|one| one["type"].as_str().unwrap()).collect::<Vec<_>>(), HEARD);
        assert_eq!(
            (&told[0]["status"], &told[0]["reason"]),
            (&json!("Unknown"), &json!("NodeStatusUnknown"))
        );
        assert_eq!(told[1]["message"], "Kubelet never posted node status.");
        let all = HEARD.map(|kind| (kind, "Unknown"));
        assert_eq!(unknown(&node(&all, json!({})), Timestamp::UNIX_EPOCH), None);
    }
}
