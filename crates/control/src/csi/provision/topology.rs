//! From where a volume must be reachable, as the driver is asked, and from where it is, as Kubernetes is told.

use std::collections::{BTreeMap, BTreeSet};

use csi::contract::v1::{Topology, TopologyRequirement};
use k8s_openapi::api::core::v1::TopologySelectorTerm;
use serde_json::{Value, json};

/// The label that a kubelet gives its node.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A node as a driver sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The node's name.
    pub(crate) node: String,
    /// The labels by which the driver tells nodes apart (CSINode); empty where the driver is not on this node.
    pub(crate) keys: Vec<String>,
    /// All labels of the node.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Place {
    /// The node's part of the cluster, by these labels; `None` where one is missing.
    fn segment(&self, keys: &[String]) -> Option<Segment> {
        let labels = keys.iter().map(|key| self.labels.get_key_value(key));
        labels.map(|found| found.map(|(key, value)| (key.clone(), value.clone()))).collect()
    }
}

/// A part of the cluster.
pub(crate) type Segment = BTreeMap<String, String>;

/// Why there is no requirement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The selected node is no place for a volume of the driver: another may be.
    Elsewhere(String),
    /// It may be otherwise later.
    Later(String),
}

/// All parts of the cluster that a driver is in.
pub(crate) fn segments(places: &[Place]) -> BTreeSet<Segment> {
    // As the sidecars do: the labels of one node, the same at each retry, for all nodes that have them.
    match places.iter().find(|place| !place.keys.is_empty()) {
        Some(first) => places.iter().filter_map(|place| place.segment(&first.keys)).collect(),
        None => BTreeSet::new(),
    }
}

/// What a driver that knows of topology is asked for.
///
/// A claim without a selected node may have its volume anywhere (`allowed` by its class); where first, its name says, so that the
/// replicas of a set are spread. With a selected node the volume must be reachable from there: that node's part is the preferred one, and
/// the only one where a part is one node.
pub(super) fn requirement(
    claim: &str,
    allowed: &[TopologySelectorTerm],
    selected: Option<&str>,
    places: &[Place],
) -> Result<Option<TopologyRequirement>, Trouble> {
    let allowed = flat(allowed);
    let Some(node) = selected else {
        let parts = if allowed.is_empty() { segments(places) } else { allowed };
        let parts: Vec<Segment> = parts.into_iter().collect();
        if parts.is_empty() {
            return Err(Trouble::Later(
                "the driver has not been registered on any node yet (no CSINode names it)".into(),
            ));
        }
        return Ok(Some(ordered(&parts, spread(claim) as usize % parts.len())));
    };
    let place = places.iter().find(|place| place.node == node && !place.keys.is_empty());
    let place = place.ok_or_else(|| {
        Trouble::Elsewhere(format!("the driver is not registered on the selected node {node} (its CSINode)"))
    })?;
    let here = place.segment(&place.keys).ok_or_else(|| {
        let keys = place.keys.join(", ");
        Trouble::Later(format!("the selected node {node} lacks one of the driver's labels: {keys}"))
    })?;
    if !allowed.is_empty() && !allowed.iter().any(|part| within(part, &here)) {
        return Err(Trouble::Elsewhere(format!(
            "the selected node {node} is outside of the class's allowedTopologies"
        )));
    }
    let hostname = place.labels.get(HOSTNAME);
    if here.values().any(|value| value == node || Some(value) == hostname) {
        return Ok(Some(ordered(&[here], 0)));
    }
    let parts: Vec<Segment> = match allowed.is_empty() {
        true => places.iter().filter_map(|other| other.segment(&place.keys)).collect::<BTreeSet<_>>(),
        false => allowed,
    }
    .into_iter()
    .collect();
    let first = parts.iter().position(|part| within(part, &here)).unwrap_or_default();
    Ok(Some(ordered(&parts, first)))
}

/// All of the parts are good, those from `first` on are better.
fn ordered(parts: &[Segment], first: usize) -> TopologyRequirement {
    let requisite: Vec<Topology> =
        parts.iter().map(|segments| Topology { segments: segments.clone() }).collect();
    let mut preferred = requisite.clone();
    preferred.rotate_left(first);
    TopologyRequirement { requisite, preferred }
}

/// Whether all that `part` says holds of `here`.
fn within(part: &Segment, here: &Segment) -> bool {
    part.iter().all(|(key, value)| here.get(key) == Some(value))
}

/// The parts that a class allows: each combination of its values.
fn flat(terms: &[TopologySelectorTerm]) -> BTreeSet<Segment> {
    let mut all = BTreeSet::new();
    for term in terms {
        let mut parts = vec![Segment::new()];
        for label in term.match_label_expressions.iter().flatten() {
            let mut longer = Vec::new();
            for (part, value) in
                parts.iter().flat_map(|part| label.values.iter().map(move |value| (part, value)))
            {
                let mut part = part.clone();
                part.insert(label.key.clone(), value.clone());
                longer.push(part);
            }
            parts = longer;
        }
        all.extend(parts.into_iter().filter(|part| !part.is_empty()));
    }
    all
}

/// Where a claim's volume is to be tried first. Claims of a stateful set are called `CLAIM-SET-NUMBER`: the set says where the first
/// is, the number goes on from there, so that all claims of one replica are together.
fn spread(claim: &str) -> u32 {
    let numbered =
        claim.rsplit_once('-').and_then(|(rest, number)| Some((rest, number.parse::<u32>().ok()?)));
    let (name, number) = match numbered {
        Some((rest, number)) => (rest.rsplit_once('-').map_or(rest, |(_, set)| set), number),
        None => (claim, 0),
    };
    fnv(name.as_bytes()).wrapping_add(number)
}

/// FNV-1, 32 bits: the sidecars' choice, kept, so that a set that they began goes on where it is.
pub(crate) fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte))
}

/// A volume's `nodeAffinity`, from where the driver says that it is reachable.
pub(super) fn affinity(accessible: &[Topology]) -> Option<Value> {
    let term = |topology: &Topology| {
        let labels = topology.segments.iter();
        let matches: Vec<Value> =
            labels.map(|(key, value)| json!({"key": key, "operator": "In", "values": [value]})).collect();
        json!({"matchExpressions": matches})
    };
    let terms: Vec<Value> =
        accessible.iter().filter(|topology| !topology.segments.is_empty()).map(term).collect();
    (!terms.is_empty()).then(|| json!({"required": {"nodeSelectorTerms": terms}}))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::VolumeNodeAffinity;

    use super::*;
    use crate::csi::reach::reaches;

    fn segment(labels: &[(&str, &str)]) -> Segment {
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn place(node: &str, key: &str, value: &str) -> Place {
        let labels = segment(&[(key, value), (HOSTNAME, node), ("arch", "arm64")]);
        Place { node: node.into(), keys: vec![key.into()], labels }
    }

    fn zones() -> Vec<Place> {
        vec![
            place("n1", "zone", "a"),
            place("n2", "zone", "b"),
            place("n3", "zone", "b"),
            place("n4", "zone", "c"),
        ]
    }

    fn allowed(zones: &[&str]) -> Vec<TopologySelectorTerm> {
        serde_json::from_value(json!([{"matchLabelExpressions": [{"key": "zone", "values": zones}]}]))
            .unwrap()
    }

    fn values(parts: &[Topology]) -> Vec<&str> {
        parts.iter().flat_map(|part| part.segments.values().map(String::as_str)).collect()
    }

    #[test]
    fn without_a_node_it_may_be_anywhere_and_replicas_are_spread() {
        let first = |claim: &str| {
            let asked = requirement(claim, &[], None, &zones()).unwrap().unwrap();
            assert_eq!(values(&asked.requisite), ["a", "b", "c"]);
            assert_eq!(asked.preferred.len(), 3);
            values(&asked.preferred)[0].to_owned()
        };
        let replicas = BTreeSet::from([first("data-db-0"), first("data-db-1"), first("data-db-2")]);
        assert_eq!(replicas.len(), 3);
        assert_eq!(first("data-db-1"), first("log-db-1"), "claims of one replica are together");
        assert_eq!(first("data-db-3"), first("data-db-0"));
        let asked = requirement("x", &allowed(&["b", "c"]), None, &zones()).unwrap().unwrap();
        assert_eq!(values(&asked.requisite), ["b", "c"]);
    }

    #[test]
    fn a_selected_node_is_preferred_and_alone_where_a_part_is_a_node() {
        let asked = requirement("x", &[], Some("n2"), &zones()).unwrap().unwrap();
        assert_eq!(values(&asked.requisite), ["a", "b", "c"]);
        assert_eq!(values(&asked.preferred), ["b", "c", "a"]);
        let nodes = [place("n1", "node", "n1"), place("n2", "node", "n2")];
        let asked = requirement("x", &[], Some("n2"), &nodes).unwrap().unwrap();
        assert_eq!((values(&asked.requisite), values(&asked.preferred)), (vec!["n2"], vec!["n2"]));
    }

    #[test]
    fn a_node_that_is_no_place_is_told() {
        let trouble = |node, allowed: &[TopologySelectorTerm], places: &[Place]| {
            requirement("x", allowed, node, places).unwrap_err()
        };
        assert!(matches!(trouble(Some("n9"), &[], &zones()), Trouble::Elsewhere(_)));
        assert!(matches!(trouble(Some("n1"), &allowed(&["b"]), &zones()), Trouble::Elsewhere(_)));
        assert!(matches!(trouble(None, &[], &[Place::default()]), Trouble::Later(_)));
        let unlabelled = Place { labels: Segment::new(), ..place("n1", "zone", "a") };
        assert!(matches!(trouble(Some("n1"), &[], &[unlabelled]), Trouble::Later(_)));
    }

    #[test]
    fn what_a_class_allows_is_every_combination() {
        let terms: Vec<TopologySelectorTerm> = serde_json::from_value(json!([
            {"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}, {"key": "rack", "values": ["1", "2"]}]},
            {"matchLabelExpressions": [{"key": "zone", "values": ["c"]}]},
            {},
        ]))
        .unwrap();
        let parts = flat(&terms);
        assert_eq!(parts.len(), 5);
        assert!(parts.contains(&segment(&[("zone", "b"), ("rack", "1")])));
        assert!(parts.contains(&segment(&[("zone", "c")])));
    }

    #[test]
    fn a_volume_is_reachable_from_where_its_driver_says() {
        let topology = |labels| Topology { segments: segment(labels) };
        assert_eq!(affinity(&[]), None);
        assert_eq!(affinity(&[topology(&[])]), None);
        let made =
            affinity(&[topology(&[("zone", "a"), ("rack", "1")]), topology(&[("zone", "b")])]).unwrap();
        let made: VolumeNodeAffinity = serde_json::from_value(made).unwrap();
        assert!(reaches(Some(&made), "n1", &segment(&[("zone", "b"), ("rack", "9")])));
        assert!(reaches(Some(&made), "n1", &segment(&[("zone", "a"), ("rack", "1")])));
        assert!(!reaches(Some(&made), "n1", &segment(&[("zone", "a"), ("rack", "2")])));
        assert!(reaches(None, "n1", &segment(&[])));
    }

    #[test]
    fn the_hash_is_the_sidecars() {
        assert_eq!(fnv(b""), 0x811c_9dc5);
        assert_eq!(fnv(b"a"), 0x050c_5d7e);
    }
}
