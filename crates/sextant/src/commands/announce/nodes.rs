//! The cluster's nodes, of each as little as is asked for: their names and labels, or where routes lead to their pods, ranges and
//! addresses, too. There is one watch of them, of either kind.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use client::cache::{Cache, Change, Kind};
use cpi::contract::Cidr;
use k8s_openapi::api::core::v1::{Node, NodeAddress};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kernel::netlink::IpNet;
use kube::core::{ClusterResourceScope, PartialObjectMeta};
use kube::{Client, Resource};
use metal::NodeRoutes;
use routes::Way;
use serde::{Deserialize, Deserializer};

use super::Due;

/// The condition of a node that has no routes.
pub(super) const UNAVAILABLE: &str = "NetworkUnavailable";

/// Only what is said of nodes by their metadata is sent, and kept of them.
type NodeMeta = PartialObjectMeta<Node>;

/// A node with what is kept of it where routes lead to its pods. The server sends the whole of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Seen {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Status {
    addresses: Option<Vec<NodeAddress>>,
    #[serde(default, rename = "conditions", deserialize_with = "unavailable")]
    unavailable: Option<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: Option<String>,
    reason: Option<String>,
}

fn unavailable<'de, D: Deserializer<'de>>(conditions: D) -> Result<Option<Condition>, D::Error> {
    let all = Option::<Vec<Condition>>::deserialize(conditions)?;
    Ok(all.into_iter().flatten().find(|one| one.kind == UNAVAILABLE))
}

impl Resource for Seen {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        Node::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Node::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Node::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Node::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Seen {
    fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The addresses of its pods.
    pub(super) fn ranges(&self) -> Vec<IpNet> {
        let all = self.spec.pod_cidrs.as_deref().filter(|all| !all.is_empty());
        let all = all.unwrap_or(self.spec.pod_cidr.as_slice());
        // No API server takes what is none.
        all.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Its own addresses: those that other nodes use come first.
    fn addresses(&self) -> Vec<IpAddr> {
        let all = self.status.addresses.as_deref().unwrap_or_default();
        let of = |kind: &'static str| {
            all.iter().filter(move |one| one.type_ == kind).filter_map(|one| one.address.parse().ok())
        };
        of("InternalIP").chain(of("ExternalIP")).collect()
    }

    /// What its condition says: status and reason.
    pub(super) fn said(&self) -> Option<(&str, &str)> {
        let said = self.status.unavailable.as_ref()?;
        Some((said.status.as_deref().unwrap_or_default(), said.reason.as_deref().unwrap_or_default()))
    }
}

/// Whether something has changed that matters: a kubelet says often that its node lives.
fn is_news(change: &Change<Seen>) -> bool {
    let matters = |one: &Seen| {
        let meta = &one.metadata;
        (meta.uid.clone(), meta.labels.clone(), meta.deletion_timestamp.is_some())
    };
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            (&old.spec, &old.status) != (&new.spec, &new.status) || matters(old) != matters(new)
        }
        _ => true,
    }
}

/// All of them.
pub(super) enum Nodes {
    /// Their names and labels.
    Names(Arc<Cache<NodeMeta>>),
    /// With what routes need.
    Whole(Arc<Cache<Seen>>),
}

impl Nodes {
    /// Follows them from now on; `due` is told when something has changed.
    pub(super) fn start(client: &Client, is_whole: bool, due: &Arc<Due>) -> Self {
        let tell = due.clone();
        if is_whole {
            let cache = Cache::<Seen>::start(client);
            cache.listen(move |change| {
                if is_news(change) {
                    tell.tell(|changed| changed.nodes = true);
                }
            });
            return Self::Whole(cache);
        }
        let cache = Cache::<NodeMeta>::start(client);
        cache.listen(move |_| tell.tell(|changed| changed.nodes = true));
        Self::Names(cache)
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// Resolves once all are known.
    pub(super) async fn filled(&self) {
        match self {
            Self::Names(cache) => cache.filled().await,
            Self::Whole(cache) => cache.filled().await,
        }
    }

    /// Shows the metadata of each.
    pub(super) fn each(&self, show: impl FnMut(&ObjectMeta)) {
        match self {
            Self::Names(cache) => each(cache, show),
            Self::Whole(cache) => each(cache, show),
        }
    }
}

fn each<K: Kind>(cache: &Cache<K>, mut show: impl FnMut(&ObjectMeta)) {
    cache.all().iter().for_each(|node| show(node.meta()));
}

/// The ways to the pods of all nodes but one's own, as far as they are wanted, the oldest node first: of two with the same range it has it.
pub(super) fn ways(nodes: &[Arc<Seen>], own: &str, wanted: &NodeRoutes) -> Vec<Way> {
    let mut others: Vec<&Arc<Seen>> = nodes.iter().filter(|node| node.name() != own).collect();
    others.sort_by_cached_key(|node| node.metadata.creation_timestamp.clone());
    let of = |node: &Arc<Seen>| {
        let (name, gateways) = (node.name().to_owned(), node.addresses());
        let way = move |range: IpNet| Way {
            node: name.clone(),
            range,
            is_admitted: Cidr::around(range.address(), range.prefix())
                .is_some_and(|range| wanted.admit(&range)),
            gateways: gateways.clone(),
        };
        node.ranges().into_iter().map(way)
    };
    others.into_iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(object: Value) -> Arc<Seen> {
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn node(name: &str, created: &str, ranges: &[&str]) -> Value {
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "uid": format!("uid-{name}"), "creationTimestamp": created},
            "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges, "taints": []},
            "status": {"capacity": {"cpu": "2"}, "addresses": [{"type": "Hostname", "address": name},
                {"type": "ExternalIP", "address": "203.0.113.7"}, {"type": "InternalIP", "address": "192.0.2.7"},
                {"type": "InternalIP", "address": "2001:db8::7"}],
                "conditions": [{"type": "Ready", "status": "True"}]}})
    }

    #[test]
    fn ways_lead_to_all_others_the_oldest_first() {
        let nodes = [
            node("a", "2026-01-03T00:00:00Z", &["10.64.1.0/24", "fd64:1::/64"]),
            node("b", "2026-01-02T00:00:00Z", &["10.64.1.0/24"]),
            node("own", "2026-01-01T00:00:00Z", &["10.64.3.0/24"]),
            node("none", "2026-01-01T00:00:00Z", &[]),
            json!({"metadata": {"name": "bare"}}),
        ];
        let nodes: Vec<Arc<Seen>> = nodes.into_iter().map(seen).collect();
        let within = NodeRoutes::Within(vec!["10.64.0.0/16".parse().unwrap()]);
        let admitted: Vec<bool> = ways(&nodes, "own", &within).iter().map(|way| way.is_admitted).collect();
        assert_eq!(admitted, [true, true, false]);
        let ways = ways(&nodes, "own", &NodeRoutes::All);
        assert!(ways.iter().all(|way| way.is_admitted));
        let found: Vec<_> = ways.iter().map(|way| (way.node.as_str(), way.range.to_string())).collect();
        let wanted = [("b", "10.64.1.0/24"), ("a", "10.64.1.0/24"), ("a", "fd64:1::/64")];
        assert_eq!(found, wanted.map(|(node, range)| (node, range.to_owned())));
        let gateways: [IpAddr; 3] =
            ["192.0.2.7", "2001:db8::7", "203.0.113.7"].map(|one| one.parse().unwrap());
        assert!(ways.iter().all(|way| way.gateways == gateways), "{ways:?}");
        // As older servers have it.
        let old = json!({"metadata": {"name": "old"}, "spec": {"podCIDR": "10.64.9.0/24"}});
        let range: IpNet = "10.64.9.0/24".parse().unwrap();
        assert_eq!(seen(old).ranges(), [range]);
    }

    #[test]
    fn that_a_node_lives_is_no_news() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut node = node("a", "2026-01-03T00:00:00Z", &["10.64.1.0/24"]);
            change(&mut node);
            seen(node)
        };
        let old = with(&|_| {});
        assert_eq!(old.said(), None);
        let beat = with(&|node| {
            node["metadata"]["resourceVersion"] = "7".into();
            node["status"]["conditions"][0]["lastHeartbeatTime"] = "2026-01-03T00:00:10Z".into();
        });
        let condition = with(&|node| {
            let said = json!({"type": UNAVAILABLE, "status": "False", "reason": "RouteCreated"});
            node["status"]["conditions"].as_array_mut().unwrap().push(said);
        });
        assert_eq!(condition.said(), Some(("False", "RouteCreated")));
        let labelled = with(&|node| node["metadata"]["labels"] = json!({"a": "b"}));
        let moved = with(&|node| node["status"]["addresses"][2]["address"] = "192.0.2.8".into());
        let news = |new: &Arc<Seen>| is_news(&Change { old: Some(old.clone()), new: Some(new.clone()) });
        assert!(!news(&old) && !news(&beat));
        assert!(news(&condition) && news(&labelled) && news(&moved));
        assert!(is_news(&Change { old: Some(old.clone()), new: None }));
    }
}
