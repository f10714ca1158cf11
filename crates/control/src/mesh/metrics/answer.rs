//! What is answered, of flows and of the objects that there are.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use meshwire::contract::flows::Requests;
use serde_json::{Map, Value, json};
use smi::contract::metrics::{
    API_VERSION, Direction, Edge, Metric, Reference, Side, TrafficMetrics, TrafficMetricsList,
};

use super::kinds::Kind;
use super::path::{How, written};
use super::pods::Party;
use super::window::Flow;

/// Percentiles that are told, with the shares that they are.
const PERCENTILES: [(u8, f64); 3] = [(99, 0.99), (90, 0.9), (50, 0.5)];

/// An object's namespace, empty where it is in none, and its name.
type Of<'a> = (&'a str, &'a str);

/// The object of a kind that a pod belongs to.
fn of_pod(party: &Party, kind: Kind) -> Option<Of<'_>> {
    let namespace = party.pod.namespace.as_str();
    match kind {
        Kind::Namespace => Some(("", namespace)),
        Kind::Node => Some(("", party.node.as_str())).filter(|(_, node)| !node.is_empty()),
        Kind::Pod => Some((namespace, party.pod.name.as_str())),
        Kind::Service => None,
        _ => {
            let owner = party.owners.iter().find(|(its, _)| *its == kind);
            owner.map(|(_, name)| (namespace, name.as_str()))
        }
    }
}

/// The objects of a kind that were asked. A Service may have been asked as itself, and another as its backend.
fn asked(flow: &Flow, kind: Kind) -> impl Iterator<Item = Of<'_>> {
    let backend = flow.backend.as_ref();
    let (one, other) = match kind {
        Kind::Service => (Some(&flow.service), backend.filter(|backend| **backend != flow.service)),
        _ => (None, None),
    };
    let service =
        [one, other].into_iter().flatten().map(|name| (name.namespace.as_str(), name.name.as_str()));
    let party = flow.server.as_deref().and_then(|party| of_pod(party, kind));
    // Nobody was there, but it was that namespace's Service.
    let namespace = ("", backend.unwrap_or(&flow.service).namespace.as_str());
    let party = party.or((kind == Kind::Namespace).then_some(namespace));
    service.chain(party)
}

/// The requests that each object of a kind was asked.
pub(super) fn sums<'a>(
    flows: impl Iterator<Item = &'a (Flow, Requests)>,
    kind: Kind,
) -> BTreeMap<Of<'a>, Requests> {
    let mut sums: BTreeMap<Of<'a>, Requests> = BTreeMap::new();
    for (flow, requests) in flows {
        for of in asked(flow, kind) {
            sums.entry(of).or_default().merge(requests);
        }
    }
    sums
}

/// The requests that one object of a kind was asked.
pub(super) fn sum<'a>(flows: impl Iterator<Item = &'a (Flow, Requests)>, kind: Kind, of: Of<'_>) -> Requests {
    let mut sum = Requests::default();
    for (_, requests) in flows.filter(|(flow, _)| asked(flow, kind).any(|one| one == of)) {
        sum.merge(requests);
    }
    sum
}

/// The other end, as an object of this kind if it belongs to one, else as what has made it, or as it is.
fn other(party: &Party, kind: Kind) -> Reference {
    if let Some((namespace, name)) = of_pod(party, kind) {
        return kind.reference(namespace, name);
    }
    let namespace = &party.pod.namespace;
    match party.owners.last() {
        Some((kind, name)) => kind.reference(namespace, name),
        None => Kind::Pod.reference(namespace, &party.pod.name),
    }
}

/// With whom an object of a kind spoke, and how often: those who have asked it first.
pub(super) fn edges<'a>(
    flows: impl Iterator<Item = &'a (Flow, Requests)>,
    kind: Kind,
    of: Of<'_>,
) -> Vec<(Edge, Requests)> {
    let mut sums: BTreeMap<(bool, Reference), Requests> = BTreeMap::new();
    for (flow, requests) in flows {
        if asked(flow, kind).any(|one| one == of) {
            sums.entry((false, other(&flow.client, kind))).or_default().merge(requests);
        }
        if of_pod(&flow.client, kind) == Some(of) {
            let to = match &flow.server {
                Some(server) => other(server, kind),
                None => {
                    let service = flow.backend.as_ref().unwrap_or(&flow.service);
                    match kind {
                        Kind::Namespace => kind.reference("", &service.namespace),
                        _ => Kind::Service.reference(&service.namespace, &service.name),
                    }
                }
            };
            sums.entry((true, to)).or_default().merge(requests);
        }
    }
    let edge = |is_to: bool, resource: Reference| Edge {
        direction: if is_to { Direction::To } else { Direction::From },
        side: Some(Side::Client),
        resource,
    };
    sums.into_iter().map(|((is_to, resource), requests)| (edge(is_to, resource), requests)).collect()
}

/// What all of an object's traffic is about: what was asked of it, by whomever.
pub(super) fn all() -> Edge {
    Edge { direction: Direction::From, side: Some(Side::Client), resource: Reference::default() }
}

fn metrics(requests: &Requests) -> Vec<Metric> {
    let latency = |(percentile, share)| {
        let latency = requests.latency.quantile(share)?;
        Some(Metric::latency(percentile, u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)))
    };
    // Where there was no answer there is no latency.
    let latencies = PERCENTILES.into_iter().filter_map(latency);
    latencies
        .chain([Metric::count(true, requests.successes), Metric::count(false, requests.failures)])
        .collect()
}

/// When something is said, and by what.
#[derive(Debug)]
pub(super) struct Saying<'a> {
    pub(super) kind: Kind,
    pub(super) how: &'a How,
    pub(super) at: Timestamp,
}

impl Saying<'_> {
    fn timestamp(&self) -> String {
        self.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// Of one object.
    pub(super) fn one(&self, object: &ObjectMeta, edge: Edge, requests: &Requests) -> TrafficMetrics {
        let (namespace, name) = of(object);
        let mut metadata = Map::new();
        metadata.insert("name".into(), name.into());
        if !namespace.is_empty() {
            metadata.insert("namespace".into(), namespace.into());
        }
        if let Some(labels) = object.labels.as_ref().filter(|labels| !labels.is_empty()) {
            metadata.insert("labels".into(), json!(labels));
        }
        metadata.insert("creationTimestamp".into(), self.timestamp().into());
        TrafficMetrics {
            kind: "TrafficMetrics".into(),
            api_version: API_VERSION.into(),
            metadata,
            resource: self.kind.reference(namespace, name),
            edge: Some(edge),
            backend: None,
            timestamp: self.timestamp(),
            window: written(self.how.window),
            metrics: metrics(requests),
        }
    }

    /// Of several.
    pub(super) fn list(&self, namespace: &str, items: Vec<TrafficMetrics>) -> TrafficMetricsList {
        let selector =
            self.how.labels.as_ref().map(|(_, selector)| json!(LabelSelector::from(selector.clone())));
        TrafficMetricsList {
            kind: "TrafficMetricsList".into(),
            api_version: API_VERSION.into(),
            metadata: Map::new(),
            resource: self.kind.reference(namespace, ""),
            selector,
            items,
        }
    }
}

/// Which object it is.
pub(super) fn of(object: &ObjectMeta) -> Of<'_> {
    (object.namespace.as_deref().unwrap_or_default(), object.name.as_deref().unwrap_or_default())
}

/// What can be asked about.
pub(super) fn resources() -> Value {
    let of = |kind: Kind, more: &str, verbs: &[&str]| {
        json!({"name": format!("{}{more}", kind.plural()), "singularName": "", "namespaced": kind.is_namespaced(),
            "kind": "TrafficMetrics", "verbs": verbs})
    };
    let all = Kind::all().flat_map(|kind| [of(kind, "", &["get", "list"]), of(kind, "/edges", &["get"])]);
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": API_VERSION, "resources": all.collect::<Vec<_>>()})
}
