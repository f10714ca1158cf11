//! Whether a pod may be on a node by what it says itself of nodes, and by the node's taints: a scheduler has looked, and may have been passed by.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use super::memory::Waiting;

/// The node, as far as pods ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Its name.
    pub(crate) name: String,
    /// Its labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its taints.
    pub(crate) taints: Vec<Taint>,
}

/// Why a pod may not be on the node, in a kubelet's words.
pub(super) fn affinity(pod: &Pod, place: &Place) -> Option<Waiting> {
    let words = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    (!selects(pod, place)).then(|| Waiting::new("NodeAffinity", words))
}

/// Why a pod may not be on the node because of a taint that ends pods, too, in a kubelet's words: of others it takes no notice.
pub(super) fn taints(pod: &Pod, place: &Place) -> Option<Waiting> {
    let tolerations: Vec<&Toleration> =
        pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten()).collect();
    let is_borne = |taint: &&Taint| tolerations.iter().any(|one| bears(one, taint));
    let mut ending = place.taints.iter().filter(|taint| taint.effect == "NoExecute");
    let words = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
    ending.any(|taint| !is_borne(&taint)).then(|| Waiting::new("TaintToleration", words))
}

fn bears(toleration: &Toleration, taint: &Taint) -> bool {
    let is =
        |own: &Option<String>, other: &str| own.as_deref().is_none_or(|own| own.is_empty() || own == other);
    let same_value =
        || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    is(&toleration.effect, &taint.effect)
        && is(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => same_value(),
            Some(operator) => operator == "Exists",
        }
}

/// `nodeSelector`, and the affinity that is required when a pod is scheduled.
fn selects(pod: &Pod, place: &Place) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let mut wanted = spec.node_selector.iter().flatten();
    let affinity = spec.affinity.as_ref().and_then(|all| all.node_affinity.as_ref());
    let required = affinity.and_then(|one| one.required_during_scheduling_ignored_during_execution.as_ref());
    wanted.all(|(name, value)| place.labels.get(name) == Some(value))
        && required.is_none_or(|one| one.node_selector_terms.iter().any(|term| meets(term, place)))
}

/// A term that demands nothing is met by no node.
fn meets(term: &NodeSelectorTerm, place: &Place) -> bool {
    let expressions = || term.match_expressions.iter().flatten();
    let fields = || term.match_fields.iter().flatten();
    let of_name = |one: &NodeSelectorRequirement| (one.key == "metadata.name").then_some(place.name.as_str());
    (expressions().next().is_some() || fields().next().is_some())
        && expressions().all(|one| holds(one, place.labels.get(&one.key).map(String::as_str)))
        && fields().all(|one| of_name(one).is_some_and(|name| holds(one, Some(name))))
}

fn holds(one: &NodeSelectorRequirement, has: Option<&str>) -> bool {
    let values = one.values.as_deref().unwrap_or_default();
    let is_one = |has: &str| values.iter().any(|value| value == has);
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = |than: fn(&i64, &i64) -> bool| {
        let [value] = values else { return false };
        has.and_then(number).zip(number(value)).is_some_and(|(has, value)| than(&has, &value))
    };
    match one.operator.as_str() {
        "In" => has.is_some_and(is_one),
        "NotIn" => !has.is_some_and(is_one),
        "Exists" => has.is_some(),
        "DoesNotExist" => has.is_none(),
        "Gt" => compared(i64::gt),
        "Lt" => compared(i64::lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn place() -> Place {
        let labels = [("zone", "a"), ("cores", "8")].map(|(name, value)| (name.into(), value.into())).into();
        let taint = |key: &str, effect: &str| json!({"key": key, "value": "v", "effect": effect});
        let taints = json!([taint("soft", "NoSchedule"), taint("hard", "NoExecute")]);
        Place { name: "node-1".into(), labels, taints: serde_json::from_value(taints).unwrap() }
    }

    #[test]
    fn a_pod_says_which_nodes_it_may_be_on() {
        let fits = |spec: Value| selects(&serde_json::from_value(json!({"spec": spec})).unwrap(), &place());
        assert!(fits(json!({"containers": []})));
        assert!(fits(json!({"containers": [], "nodeSelector": {"zone": "a"}})));
        assert!(!fits(json!({"containers": [], "nodeSelector": {"zone": "a", "disk": "ssd"}})));
        let terms = |terms: Value| {
            let required = json!({"nodeSelectorTerms": terms});
            let affinity =
                json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}});
            fits(json!({"containers": [], "affinity": affinity}))
        };
        let one = |key: &str, operator: &str, values: Value| json!({"key": key, "operator": operator, "values": values});
        for (wanted, key, operator, values) in [
            (true, "zone", "In", json!(["b", "a"])),
            (false, "zone", "In", json!(["b"])),
            (false, "none", "In", json!(["a"])),
            (false, "zone", "NotIn", json!(["a"])),
            (true, "none", "NotIn", json!(["a"])),
            (true, "zone", "Exists", json!([])),
            (false, "none", "Exists", json!([])),
            (true, "none", "DoesNotExist", json!([])),
            (true, "cores", "Gt", json!(["7"])),
            (false, "cores", "Gt", json!(["8"])),
            (true, "cores", "Lt", json!(["9"])),
            (false, "zone", "Lt", json!(["9"])),
            (false, "zone", "Like", json!(["a"])),
        ] {
            let is = terms(json!([{"matchExpressions": [one(key, operator, values.clone())]}]));
            assert_eq!(is, wanted, "{key} {operator} {values}");
        }
        let named = |name: &str| json!({"matchFields": [one("metadata.name", "In", json!([name]))]});
        assert!(terms(json!([named("other"), named("node-1")])), "one of the terms is enough");
        assert!(!terms(json!([named("other")])) && !terms(json!([{}])) && !terms(json!([])));
    }

    #[test]
    fn a_taint_that_ends_pods_keeps_those_away_that_do_not_bear_it() {
        let refused = |tolerations: Value| {
            let spec = json!({"containers": [], "tolerations": tolerations});
            taints(&serde_json::from_value(json!({"spec": spec})).unwrap(), &place()).is_some()
        };
        assert!(refused(json!(null)));
        for (wanted, toleration) in [
            (false, json!({"operator": "Exists"})),
            (false, json!({"key": "hard", "operator": "Exists"})),
            (false, json!({"key": "hard", "value": "v", "effect": "NoExecute"})),
            (true, json!({"key": "hard", "value": "w", "effect": "NoExecute"})),
            (true, json!({"key": "hard", "operator": "Exists", "effect": "NoSchedule"})),
            (true, json!({"key": "soft", "operator": "Exists"})),
        ] {
            assert_eq!(refused(json!([toleration])), wanted, "{toleration}");
        }
    }
}
