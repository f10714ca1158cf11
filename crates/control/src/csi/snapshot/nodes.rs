//! Which node a volume is on.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume,
};

use super::{Snapshots, write};
use crate::csi::provision::topology::holds;

impl Snapshots {
    /// The only node from which a volume can be reached, for drivers whose controller part is on each node.
    pub(super) fn node_of(&self, volume: &PersistentVolume) -> Option<String> {
        let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
        let selector = affinity.required.as_ref()?;
        match &self.context.nodes.find(|node| is_on(selector, node))[..] {
            [node] => Some(write::name(&**node).to_owned()),
            _ => None,
        }
    }
}

fn is_on(selector: &NodeSelector, node: &Node) -> bool {
    let empty = BTreeMap::new();
    let labels = node.metadata.labels.as_ref().unwrap_or(&empty);
    selector.node_selector_terms.iter().any(|term| is_in(term, labels, write::name(node)))
}

/// A term without any requirement holds of no node.
fn is_in(term: &NodeSelectorTerm, labels: &BTreeMap<String, String>, name: &str) -> bool {
    let holds = |one: &NodeSelectorRequirement, value| holds(&one.operator, one.values.as_deref(), value);
    let labelled = term.match_expressions.iter().flatten();
    let named = term.match_fields.iter().flatten();
    (term.match_expressions.is_some() || term.match_fields.is_some())
        && labelled.clone().all(|one| holds(one, labels.get(&one.key).map(String::as_str)))
        && named.clone().all(|one| one.key == "metadata.name" && holds(one, Some(name)))
        && labelled.count() + named.count() > 0
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn nodes_are_found_by_what_volumes_ask_for() {
        let node: Node = serde_json::from_value(json!({"metadata": {"name": "node-1", "labels":
            {"topology.csi.sextant.dev/node": "node-1", "zone": "a", "disks": "4"}}}))
        .unwrap();
        let on = |terms: Value| {
            is_on(&serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap(), &node)
        };
        let one = |key: &str, operator: &str, values: &[&str]| {
            on(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
        };
        assert!(one("topology.csi.sextant.dev/node", "In", &["node-1"]));
        assert!(!one("topology.csi.sextant.dev/node", "In", &["node-2"]));
        assert!(
            one("zone", "NotIn", &["b"]) && one("other", "NotIn", &["b"]) && !one("zone", "NotIn", &["a"])
        );
        assert!(one("zone", "Exists", &[]) && !one("zone", "DoesNotExist", &[]));
        assert!(one("disks", "Gt", &["3"]) && !one("disks", "Lt", &["3"]) && !one("zone", "Gt", &["3"]));
        assert!(on(
            json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}])
        ));
        assert!(!on(json!([])) && !on(json!([{}])) && !on(json!([{"matchExpressions": []}])));
        let both = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
            {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]);
        assert!(on(both));
    }
}
