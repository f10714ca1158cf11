//! Which addresses of load balancers are to be answered for by this cluster's own nodes, and by which of them. Nothing here does so.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use client::cache::Name;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::plan::{is_of_another, load_balancers};

/// The class of load balancers that are answered for, besides those without one. A cloud provider leaves it alone: who uses it gives out
/// addresses himself.
pub const CLASS: &str = "metal.sextant.dev/announce";
/// A node with this label has no address of a load balancer, unless its value says false in any of Go's ways: as the controllers of clouds
/// have it (`control::cloud`).
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Nodes by their names.
pub type Nodes = Arc<BTreeSet<String>>;

/// What is to be answered for because of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// The addresses, as its status has them.
    pub addresses: Vec<IpAddr>,
    /// The nodes with endpoints, where no other may take part (`externalTrafficPolicy: Local`).
    pub only: Option<BTreeSet<String>>,
    /// Another proxy has what comes there go on (label `service.kubernetes.io/service-proxy-name`).
    pub is_of_another: bool,
}

/// What is to be answered for because of a Service; nothing for one that goes, or that another looks after.
pub fn balancer<'a>(
    service: &Service,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Option<Balancer> {
    let spec = service.spec.as_ref()?;
    let is_ours = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.as_deref().is_none_or(|class| class == CLASS)
        && service.metadata.deletion_timestamp.is_none();
    let addresses = load_balancers(service);
    (is_ours && !addresses.is_empty()).then(|| Balancer {
        addresses,
        only: only(spec, slices),
        is_of_another: is_of_another(service),
    })
}

/// The nodes with endpoints that are ready; if there are none, with those that still serve while they end, as a node's plan has it.
fn only<'a>(
    spec: &ServiceSpec,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
) -> Option<BTreeSet<String>> {
    if spec.external_traffic_policy.as_deref() != Some("Local") {
        return None;
    }
    let (mut ready, mut serving) = (BTreeSet::new(), BTreeSet::new());
    for endpoint in slices.into_iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
        let conditions = endpoint.conditions.as_ref();
        let is_ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serves = conditions.and_then(|conditions| conditions.serving).unwrap_or(is_ready);
        let Some(node) = &endpoint.node_name else { continue };
        if is_ready {
            ready.insert(node.clone());
        } else if serves {
            serving.insert(node.clone());
        }
    }
    Some(if ready.is_empty() { serving } else { ready })
}

/// Whether a node may have addresses of load balancers.
pub fn takes_part(node: &ObjectMeta) -> bool {
    let excluded = node.labels.as_ref().and_then(|labels| labels.get(EXCLUDED));
    let says_no = |value: &String| matches!(value.as_str(), "0" | "f" | "F" | "false" | "False" | "FALSE");
    node.deletion_timestamp.is_none() && excluded.is_none_or(says_no)
}

/// All that is to be answered for.
#[derive(Debug, Default)]
pub struct Book {
    of: BTreeMap<Name, Balancer>,
    at: BTreeMap<IpAddr, BTreeSet<Name>>,
}

impl Book {
    /// Takes what a Service wants now in place of what it wanted; whether that is something else.
    pub fn enter(&mut self, name: &Name, balancer: Option<Balancer>) -> bool {
        if self.of.get(name) == balancer.as_ref() {
            return false;
        }
        for address in self.of.remove(name).iter().flat_map(|old| &old.addresses) {
            if let Some(names) = self.at.get_mut(address) {
                names.remove(name);
                if names.is_empty() {
                    self.at.remove(address);
                }
            }
        }
        if let Some(new) = balancer {
            for address in &new.addresses {
                self.at.entry(*address).or_default().insert(name.clone());
            }
            self.of.insert(name.clone(), new);
        }
        true
    }

    /// The Services that have an address.
    pub fn at(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        self.at.get(&address).into_iter().flatten()
    }

    /// The addresses at which another proxy has a Service, if not all of them.
    pub fn of_others(&self) -> BTreeSet<IpAddr> {
        let others = self.of.values().filter(|balancer| balancer.is_of_another);
        others.flat_map(|balancer| &balancer.addresses).copied().collect()
    }

    /// The addresses, and which of these nodes may have each.
    ///
    /// Services that share one have it on a node that all of them may use; where there is none, on one that any may.
    pub fn addresses<'a>(&'a self, all: &'a Nodes) -> impl Iterator<Item = (IpAddr, Nodes)> + 'a {
        self.at.iter().map(|(address, names)| (*address, self.nodes(names, all)))
    }

    /// Which of these nodes may have an address; `None` where no Service has it.
    pub fn nodes_of(&self, address: IpAddr, all: &Nodes) -> Option<Nodes> {
        self.at.get(&address).map(|names| self.nodes(names, all))
    }

    fn nodes(&self, names: &BTreeSet<Name>, all: &Nodes) -> Nodes {
        let only = names.iter().filter_map(|name| self.of.get(name)?.only.as_ref());
        let only: Vec<&BTreeSet<String>> = only.collect();
        let Some((first, rest)) = only.split_first() else { return all.clone() };
        let fits_all = |node: &&String| rest.iter().all(|nodes| nodes.contains(*node));
        let both: BTreeSet<String> = first.intersection(all).filter(|node| fits_all(node)).cloned().collect();
        if !both.is_empty() {
            return Arc::new(both);
        }
        // Any node fits one that says nothing of nodes.
        if only.len() < names.len() {
            return all.clone();
        }
        Arc::new(only.iter().flat_map(|nodes| nodes.intersection(all)).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(service: Value, endpoints: Value) -> Option<Balancer> {
        let slice: EndpointSlice =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}))
            .unwrap();
        balancer(&serde_json::from_value(service).unwrap(), [&slice])
    }

    fn service(spec: Value) -> Value {
        let mut service = json!({"metadata": {"name": "web", "namespace": "default"}, "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}, {"ip": "2001:db8::7", "ipMode": "VIP"},
                {"hostname": "web.example.com"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}]}}});
        service["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        service
    }

    fn names(nodes: &[&str]) -> BTreeSet<String> {
        nodes.iter().map(ToString::to_string).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_that_packets_come_to_are_answered_for_where_nobody_else_does() {
        let found = read(service(json!({})), json!([])).unwrap();
        let addresses = vec![ip("192.0.2.7"), ip("2001:db8::7")];
        assert_eq!(found, Balancer { addresses, only: None, is_of_another: false });
        assert_eq!(read(service(json!({"loadBalancerClass": CLASS})), json!([])), Some(found));
        for other in [json!({"loadBalancerClass": "example.com/mine"}), json!({"type": "ClusterIP"})] {
            assert_eq!(read(service(other), json!([])), None);
        }
        let mut going = service(json!({}));
        going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(read(going, json!([])), None);
        let mut bare = service(json!({}));
        bare["status"] = json!({});
        assert_eq!(read(bare, json!([])), None);
    }

    #[test]
    fn an_address_is_anothers_where_one_of_its_services_is() {
        let mut other = service(json!({}));
        other["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
        let mut book = Book::default();
        let (one, two) = (Name::new("default", "one"), Name::new("default", "two"));
        book.enter(&one, read(service(json!({})), json!([])));
        assert!(book.of_others().is_empty());
        assert!(book.enter(&two, read(other, json!([]))));
        assert_eq!(book.of_others(), BTreeSet::from([ip("192.0.2.7"), ip("2001:db8::7")]));
        assert!(book.enter(&two, read(service(json!({})), json!([]))), "the label alone is gone");
        assert!(book.of_others().is_empty());
    }

    #[test]
    fn with_policy_local_nodes_with_endpoints_alone_take_part() {
        let local = || service(json!({"externalTrafficPolicy": "Local"}));
        let ready = json!({"addresses": ["10.9.0.1"], "nodeName": "a", "conditions": {"ready": true}});
        let said_nothing = json!({"addresses": ["10.9.0.4"], "nodeName": "d"});
        let ends = json!({"addresses": ["10.9.0.2"], "nodeName": "b",
            "conditions": {"ready": false, "serving": true, "terminating": true}});
        let away = json!({"addresses": ["10.9.0.3"], "nodeName": "c", "conditions": {"ready": false, "serving": false}});
        let only = |endpoints| read(local(), endpoints).unwrap().only.unwrap();
        assert_eq!(only(json!([ready, said_nothing, ends, away])), names(&["a", "d"]));
        assert_eq!(only(json!([ends, away])), names(&["b"]));
        assert_eq!(only(json!([away])), names(&[]));
    }

    #[test]
    fn nodes_that_go_or_are_excluded_take_no_part() {
        let node = |meta: Value| takes_part(&serde_json::from_value(meta).unwrap());
        assert!(node(json!({"name": "a", "labels": {"a": "b"}})) && node(json!({"name": "a"})));
        assert!(!node(json!({"name": "a", "labels": {EXCLUDED: ""}})));
        assert!(node(json!({"name": "a", "labels": {EXCLUDED: "false"}})));
        assert!(!node(json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"})));
    }

    #[test]
    fn services_that_share_an_address_have_it_where_all_may_be_reached() {
        let mut book = Book::default();
        let at = ip("192.0.2.7");
        let all = Arc::new(names(&["a", "b", "c"]));
        let enter = |book: &mut Book, name: &str, only: Option<&[&str]>| {
            let balancer = Balancer { addresses: vec![at], only: only.map(names), is_of_another: false };
            book.enter(&Name::new("default", name), Some(balancer))
        };
        let nodes = |book: &Book| book.addresses(&all).map(|(_, nodes)| (*nodes).clone()).collect::<Vec<_>>();
        assert_eq!(book.nodes_of(at, &all), None);
        assert!(enter(&mut book, "one", None));
        assert!(!enter(&mut book, "one", None), "nothing else is wanted");
        assert!(Arc::ptr_eq(&book.addresses(&all).next().unwrap().1, &all));
        enter(&mut book, "two", Some(&["a", "b", "gone"]));
        assert_eq!(nodes(&book), [names(&["a", "b"])]);
        enter(&mut book, "three", Some(&["b", "c"]));
        assert_eq!(nodes(&book), [names(&["b"])]);
        assert_eq!(book.nodes_of(at, &all).as_deref(), Some(&names(&["b"])));
        enter(&mut book, "three", Some(&["c"]));
        assert_eq!(nodes(&book), [names(&["a", "b", "c"])]);
        assert_eq!(book.at(at).count(), 3);
        enter(&mut book, "two", Some(&[]));
        enter(&mut book, "three", Some(&[]));
        assert_eq!(nodes(&book), [names(&["a", "b", "c"])]);
        for name in ["one", "two", "three"] {
            assert!(book.enter(&Name::new("default", name), None));
        }
        assert!(book.addresses(&all).next().is_none() && book.at(at).next().is_none());
    }
}
