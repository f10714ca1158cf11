//! Which volumes are this process's, where there is one on each node.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, PersistentVolume, VolumeNodeAffinity};
use kube::Api;

use super::Context;
use super::failure::Failure;

/// Whether this process looks after a volume: it looks after all, or the volume is reachable from its node.
pub(super) async fn is_here(context: &Context, volume: &PersistentVolume) -> Result<bool, Failure> {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let (Some(name), Some(affinity)) = (&context.setup.node, affinity) else { return Ok(true) };
    let api: Api<Node> = Api::all(context.client.clone());
    let node =
        api.get(name).await.map_err(|error| Failure::Other(format!("cannot read node {name}: {error}")))?;
    Ok(reaches(affinity, &node.metadata.labels.unwrap_or_default()))
}

fn reaches(affinity: &VolumeNodeAffinity, labels: &BTreeMap<String, String>) -> bool {
    let Some(required) = &affinity.required else { return true };
    required.node_selector_terms.iter().any(|term| {
        let mut rules = term.match_expressions.iter().flatten();
        term.match_fields.is_none() && rules.all(|rule| holds(rule, labels))
    })
}

fn holds(rule: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&rule.key);
    let is_listed = value.is_some_and(|value| rule.values.iter().flatten().any(|one| one == value));
    match rule.operator.as_str() {
        "In" => is_listed,
        "NotIn" => !is_listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_volume_is_where_one_of_its_terms_holds() {
        let affinity: VolumeNodeAffinity = serde_json::from_value(json!({ "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }, { "key": "ssd", "operator": "Exists" }] },
            { "matchExpressions": [{ "key": "node", "operator": "In", "values": ["n1"] }] },
        ] } }))
        .unwrap();
        let at = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            reaches(&affinity, &labels)
        };
        assert!(at(&[("node", "n1")]));
        assert!(at(&[("zone", "a"), ("ssd", "")]));
        assert!(!at(&[("zone", "a"), ("node", "n2")]));
        assert!(!at(&[]));
    }
}
