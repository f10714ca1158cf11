//! From which nodes a volume can be reached, as its object says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, VolumeNodeAffinity};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether a volume is reachable from the node of this name, which has these labels.
pub(crate) fn reaches(
    affinity: Option<&VolumeNodeAffinity>,
    node: &str,
    labels: &BTreeMap<String, String>,
) -> bool {
    let required = affinity.and_then(|affinity| affinity.required.as_ref());
    required.is_none_or(|required| required.node_selector_terms.iter().any(|term| is_in(term, node, labels)))
}

/// A term that says nothing holds of no node.
pub(crate) fn is_in(term: &NodeSelectorTerm, node: &str, labels: &BTreeMap<String, String>) -> bool {
    let holds = |one: &NodeSelectorRequirement, value| holds(&one.operator, one.values.as_deref(), value);
    let labelled = term.match_expressions.as_deref().unwrap_or_default();
    let named = term.match_fields.as_deref().unwrap_or_default();
    labelled.iter().all(|one| holds(one, labels.get(&one.key).map(String::as_str)))
        && named.iter().all(|one| one.key == "metadata.name" && holds(one, Some(node)))
        && labelled.len() + named.len() > 0
}

/// Whether what a selector asks of one label holds of its value. Selectors of labels have no `Gt` and `Lt`, those of nodes have.
pub(crate) fn holds(operator: &str, values: Option<&[String]>, value: Option<&str>) -> bool {
    let values = values.unwrap_or_default();
    let is_one = value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let both = number(value).zip(number(values.first().map(String::as_str)));
    match operator {
        "In" => is_one,
        "NotIn" => !is_one,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => both.is_some_and(|(value, bound)| value > bound),
        "Lt" => both.is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Whether a selector of labels holds of these.
pub(crate) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut plain = selector.match_labels.iter().flatten();
    let mut rules = selector.match_expressions.iter().flatten();
    plain.all(|(key, value)| labels.get(key) == Some(value))
        && rules.all(|rule| {
            holds(&rule.operator, rule.values.as_deref(), labels.get(&rule.key).map(String::as_str))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_asked_of_a_label_holds_or_not() {
        let holds = |operator: &str, values: &[&str], value: Option<&str>| {
            let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
            holds(operator, Some(&values), value)
        };
        assert!(
            holds("In", &["a", "b"], Some("b"))
                && !holds("In", &["a"], Some("b"))
                && !holds("In", &["a"], None)
        );
        assert!(
            holds("NotIn", &["a"], Some("b"))
                && holds("NotIn", &["a"], None)
                && !holds("NotIn", &["a"], Some("a"))
        );
        assert!(holds("Exists", &[], Some("")) && !holds("Exists", &[], None));
        assert!(holds("DoesNotExist", &[], None) && !holds("DoesNotExist", &[], Some("")));
        assert!(
            holds("Gt", &["3"], Some("4"))
                && !holds("Gt", &["4"], Some("4"))
                && !holds("Gt", &["x"], Some("4"))
        );
        assert!(holds("Lt", &["5"], Some("4")) && !holds("Lt", &["5"], None));
        assert!(!holds("Like", &["a"], Some("a")));
    }

    #[test]
    fn a_volume_is_where_one_of_its_terms_holds() {
        let affinity: VolumeNodeAffinity = serde_json::from_value(json!({ "required": { "nodeSelectorTerms": [
            { "matchExpressions": [{ "key": "zone", "operator": "In", "values": ["a"] }, { "key": "ssd", "operator": "Exists" }] },
            { "matchExpressions": [{ "key": "node", "operator": "In", "values": ["n1"] }] },
        ] } }))
        .unwrap();
        let at = |labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            reaches(Some(&affinity), "n9", &labels)
        };
        assert!(at(&[("node", "n1")]));
        assert!(at(&[("zone", "a"), ("ssd", "")]));
        assert!(!at(&[("zone", "a"), ("node", "n2")]));
        assert!(!at(&[]));
        let nowhere: VolumeNodeAffinity =
            serde_json::from_value(json!({"required": {"nodeSelectorTerms": [{}]}})).unwrap();
        assert!(!reaches(Some(&nowhere), "n1", &[("zone".to_owned(), "a".to_owned())].into()));
    }

    #[test]
    fn nodes_are_found_by_what_volumes_ask_for() {
        let labels = [("topology.csi.sextant.dev/node", "node-1"), ("zone", "a"), ("disks", "4")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let on = |terms: Value| {
            let affinity = json!({"required": {"nodeSelectorTerms": terms}});
            reaches(Some(&serde_json::from_value(affinity).unwrap()), "node-1", &labels)
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
        let elsewhere = json!([{"key": "metadata.name", "operator": "In", "values": ["node-2"]}]);
        let here = json!([{"key": "zone", "operator": "In", "values": ["a"]}]);
        assert!(
            !on(json!([{"matchExpressions": here, "matchFields": elsewhere}])),
            "all of a term has to hold"
        );
        assert!(!on(json!([])) && !on(json!([{}])) && !on(json!([{"matchExpressions": []}])));
        let both = json!([{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]},
            {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]);
        assert!(on(both));
    }
}
