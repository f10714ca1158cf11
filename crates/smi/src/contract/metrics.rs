//! `metrics.smi-spec.io/v1alpha1`: what traffic there was, as an aggregated API answers it. It is not stored.
//!
//! Of two contradictions the published text counts: a latency has unit `ms` in the Go types and `seconds` in the text, whose value
//! `10m` is ten thousandths of one, so that is what is written here; an edge has a `side`, and an object of a TrafficSplit a
//! `backend`, which the Go types have in a v1alpha2 that was never published.

use serde::{Deserialize, Serialize};

/// Group and version of these objects.
pub const API_VERSION: &str = "metrics.smi-spec.io/v1alpha1";

/// So long a window is by default, in Go's notation.
pub const WINDOW: &str = "30s";

/// Kinds that can be asked about, as they stand in paths.
pub const KINDS: [&str; 11] = [
    "namespaces",
    "nodes",
    "pods",
    "replicationcontrollers",
    "services",
    "daemonsets",
    "deployments",
    "replicasets",
    "statefulsets",
    "jobs",
    "trafficsplits",
];

/// What was measured of one resource, or of it and one other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMetrics {
    /// `TrafficMetrics`.
    pub kind: String,
    /// [`API_VERSION`].
    pub api_version: String,
    /// Namespace, name and labels of the resource, and when this was said.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Whom it is about.
    pub resource: Reference,
    /// With whom it spoke; empty where it is about all its traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
    /// Which backend of a TrafficSplit it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// The end of the window, RFC 3339.
    pub timestamp: String,
    /// How long the window was, in Go's notation.
    pub window: String,
    /// What was measured.
    pub metrics: Vec<Metric>,
}

/// A list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMetricsList {
    /// `TrafficMetricsList`.
    pub kind: String,
    /// [`API_VERSION`].
    pub api_version: String,
    /// A path to itself.
    #[serde(default)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What they have in common: kind and namespace.
    pub resource: Reference,
    /// By which labels they were chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<serde_json::Value>,
    /// Them.
    pub items: Vec<TrafficMetrics>,
}

/// A reference to an object, of which as much is given as is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reference {
    /// Its kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group and version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
}

/// The other end of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Which way it went, seen from the resource.
    pub direction: Direction,
    /// Where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<Side>,
    /// Who it was.
    pub resource: Reference,
}

/// Which way traffic went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the resource from the edge.
    From,
    /// From the resource to the edge.
    To,
}

/// Where traffic was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// At who asked.
    Client,
    /// At who answered.
    Server,
}

/// A backend of a TrafficSplit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The Service that was asked for.
    pub apex: String,
    /// The Service that answered.
    pub name: String,
    /// Its weight.
    pub weight: u64,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metric {
    /// What: see [`Metric::latency`] and [`Metric::count`].
    pub name: String,
    /// `seconds`; counts have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// A quantity.
    pub value: String,
}

impl Metric {
    /// `p99_response_latency` and its like, of nanoseconds.
    #[must_use]
    pub fn latency(percentile: u8, nanoseconds: u64) -> Self {
        // The coarsest unit in which it is whole.
        let units = [(1_000_000_000, ""), (1_000_000, "m"), (1000, "u"), (1, "n")];
        let (factor, suffix) =
            units.into_iter().find(|(factor, _)| nanoseconds.is_multiple_of(*factor)).unwrap_or((1, "n"));
        Self {
            name: format!("p{percentile}_response_latency"),
            unit: "seconds".into(),
            value: format!("{}{suffix}", nanoseconds / factor),
        }
    }

    /// `success_count` or `failure_count`.
    #[must_use]
    pub fn count(is_success: bool, count: u64) -> Self {
        let name = if is_success { "success_count" } else { "failure_count" };
        Self { name: name.into(), unit: String::new(), value: count.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_are_written_as_the_text_has_them() {
        let edge = Edge {
            direction: Direction::From,
            side: Some(Side::Server),
            resource: Reference { namespace: "shop".into(), ..Reference::default() },
        };
        let metrics = TrafficMetrics {
            kind: "TrafficMetrics".into(),
            api_version: API_VERSION.into(),
            metadata: serde_json::Map::new(),
            resource: Reference {
                kind: "Pod".into(),
                namespace: "shop".into(),
                name: "a".into(),
                ..Default::default()
            },
            edge: Some(edge),
            backend: None,
            timestamp: "2026-11-28T07:00:00Z".into(),
            window: WINDOW.into(),
            metrics: vec![Metric::latency(99, 10_000_000), Metric::count(true, 100)],
        };
        let value = serde_json::to_value(&metrics).expect("it can be written");
        assert_eq!(
            value["edge"],
            json!({"direction": "from", "side": "server", "resource": {"namespace": "shop"}})
        );
        assert_eq!(
            value["metrics"][0],
            json!({"name": "p99_response_latency", "unit": "seconds", "value": "10m"})
        );
        assert_eq!(value["metrics"][1], json!({"name": "success_count", "value": "100"}));
        assert_eq!(serde_json::from_value::<TrafficMetrics>(value).expect("it is read again"), metrics);
    }

    #[test]
    fn latencies_are_quantities_of_seconds() {
        for (nanoseconds, wanted) in [(0, "0"), (2_000_000_000, "2"), (1_500_000, "1500u"), (7, "7n")] {
            assert_eq!(Metric::latency(50, nanoseconds).value, wanted);
        }
    }
}
