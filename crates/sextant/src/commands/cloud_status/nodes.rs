//! Nodes, as their cloud has described them, and the routes to their pods.

use serde::Serialize;
use serde_json::Value;

use super::news::{News, words};
use crate::objects::{condition, list, text};

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";
const SHUTDOWN: &str = "node.cloudprovider.kubernetes.io/shutdown";

/// How far a node has come with its cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Stage {
    /// No cloud controller has seen it: it has the taint `uninitialized`.
    #[serde(rename = "uninitialized")]
    Waits,
    /// A controller has seen it.
    Initialized,
    /// Its instance is stopped: it has the taint `shutdown`.
    #[serde(rename = "shutdown")]
    ShutDown,
    /// It is of no cloud: it has no provider id, and waits for none.
    None,
}

impl Stage {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Waits => "uninitialized",
            Self::Initialized => "initialized",
            Self::ShutDown => "shutdown",
            Self::None => "-",
        }
    }
}

/// An address of a node.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Address {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) address: String,
}

/// A condition of a node.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Said {
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) cloud: Stage,
    /// Of the condition `Ready`: `True`, `False`, `Unknown`, or nothing.
    pub(super) ready: String,
    #[serde(rename = "providerID")]
    pub(super) provider_id: String,
    pub(super) instance_type: String,
    pub(super) zone: String,
    pub(super) region: String,
    /// All but its host's name.
    pub(super) addresses: Vec<Address>,
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Vec<String>,
    /// Whether no route leads to its pods, as far as somebody has said so.
    pub(super) network_unavailable: Option<Said>,
    /// The last route that could not be made.
    pub(super) route_failure: Option<String>,
}

impl Member {
    pub(super) fn of(node: &Value, news: &News) -> Self {
        let label = |keys: [&str; 2]| {
            let labels = node.pointer("/metadata/labels");
            let of = |key: &str| labels.and_then(|all| all.get(key)).and_then(Value::as_str);
            keys.into_iter().find_map(of).unwrap_or_default().to_owned()
        };
        let has = |key: &str| list(node, "/spec/taints").iter().any(|taint| text(taint, "/key") == key);
        let provider_id = text(node, "/spec/providerID").to_owned();
        let cloud = if has(UNINITIALIZED) {
            Stage::Waits
        } else if has(SHUTDOWN) {
            Stage::ShutDown
        } else if provider_id.is_empty() {
            Stage::None
        } else {
            Stage::Initialized
        };
        let unavailable = condition(node, "NetworkUnavailable").map(|one| Said {
            status: text(one, "/status").into(),
            reason: text(one, "/reason").into(),
            message: text(one, "/message").into(),
        });
        let addresses = list(node, "/status/addresses")
            .iter()
            .map(|one| Address { kind: text(one, "/type").into(), address: text(one, "/address").into() });
        // What has failed before all routes were there is over.
        let fails = unavailable.as_ref().is_none_or(|said| said.status != "False");
        Self {
            name: text(node, "/metadata/name").into(),
            cloud,
            ready: condition(node, "Ready").map(|one| text(one, "/status")).unwrap_or_default().into(),
            provider_id,
            instance_type: label(["node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"]),
            zone: label(["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
            region: label(["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
            addresses: addresses.filter(|one| one.kind != "Hostname").collect(),
            pod_cidrs: list(node, "/spec/podCIDRs")
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            network_unavailable: unavailable,
            route_failure: news.last(node, "FailedToCreateRoute").filter(|_| fails).map(words),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_is_as_its_objects_say() {
        let of = |taints: &[&str], id: Option<&str>| {
            let taints: Vec<Value> = taints.iter().map(|key| json!({"key": key})).collect();
            let node = json!({"metadata": {"name": "a"}, "spec": {"taints": taints, "providerID": id}});
            Member::of(&node, &News::default()).cloud
        };
        assert_eq!(of(&[], None), Stage::None);
        assert_eq!(of(&["other"], Some("rack://a")), Stage::Initialized);
        assert_eq!(of(&[SHUTDOWN], Some("rack://a")), Stage::ShutDown);
        assert_eq!(of(&[SHUTDOWN, UNINITIALIZED], None), Stage::Waits);
        let node = json!({
            "metadata": {"name": "a", "labels": {"beta.kubernetes.io/instance-type": "large", "topology.kubernetes.io/zone": "z1"}},
            "spec": {"podCIDRs": ["10.64.1.0/24"]},
            "status": {"addresses": [{"type": "Hostname", "address": "a"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                "conditions": [{"type": "NetworkUnavailable", "status": "True", "reason": "NoRouteCreated", "message": "m"}]},
        });
        let failed = json!({"involvedObject": {"name": "a"}, "type": "Warning", "reason": "FailedToCreateRoute",
            "message": "throttled", "eventTime": "2026-01-01T00:00:00Z"});
        let news = News::new(vec![failed]);
        let told = Member::of(&node, &news);
        assert_eq!((told.instance_type.as_str(), told.zone.as_str()), ("large", "z1"));
        assert_eq!(told.addresses, [Address { kind: "InternalIP".into(), address: "10.0.0.1".into() }]);
        assert_eq!(told.route_failure.as_deref(), Some("FailedToCreateRoute: throttled"));
        let mut reached = node;
        reached["status"]["conditions"][0]["status"] = json!("False");
        assert_eq!(Member::of(&reached, &news).route_failure, None, "it is over");
    }
}
