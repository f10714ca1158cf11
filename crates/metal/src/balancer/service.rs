//! What a service says that matters for its addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cpi::contract::{Node, Service};

use super::Refused;

/// The addresses that a service wants: one, or one of each family with a comma between.
pub(crate) const ADDRESSES: &str = "metal.sextant.dev/addresses";
/// The pool that it wants addresses of.
pub(crate) const POOL: &str = "metal.sextant.dev/pool";
/// Services with the same word here may have the same address.
pub(crate) const SHARE: &str = "metal.sextant.dev/share";

/// `namespace/name`, for people.
pub(crate) fn named(service: &Service) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&service.metadata.namespace), part(&service.metadata.name))
}

pub(crate) fn uid(service: &Service) -> &str {
    service.metadata.uid.as_deref().unwrap_or_default()
}

fn annotation<'a>(service: &'a Service, key: &str) -> Option<&'a str> {
    let value = service.metadata.annotations.as_ref()?.get(key)?.trim();
    (!value.is_empty()).then_some(value)
}

/// The pool that it asks for.
pub(crate) fn pool(service: &Service) -> Option<&str> {
    annotation(service, POOL)
}

/// The addresses in its status.
pub(crate) fn told(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let all = status.iter().flat_map(|status| status.ingress.iter().flatten());
    all.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok()).collect()
}

/// The families that it has, in their order; whether each is IPv6.
pub(crate) fn families(service: &Service) -> Vec<bool> {
    let spec = service.spec.as_ref();
    let families = spec.and_then(|spec| spec.ip_families.as_deref()).unwrap_or_default();
    if families.is_empty() {
        let address = spec.and_then(|spec| spec.cluster_ip.as_deref()).and_then(|ip| ip.parse().ok());
        return vec![address.is_some_and(|address: IpAddr| address.is_ipv6())];
    }
    families.iter().map(|family| family == "IPv6").collect()
}

/// Whether one family will do where it has two.
pub(crate) fn is_content_with_one(service: &Service) -> bool {
    let policy = service.spec.as_ref().and_then(|spec| spec.ip_family_policy.as_deref());
    policy != Some("RequireDualStack")
}

pub(crate) fn family(is_v6: bool) -> &'static str {
    if is_v6 { "IPv6" } else { "IPv4" }
}

/// The addresses that it asks for, by whether they are of IPv6.
pub(crate) fn requested(service: &Service) -> Result<BTreeMap<bool, IpAddr>, Refused> {
    let field = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref());
    let field = field.map(str::trim).filter(|text| !text.is_empty());
    let annotated = annotation(service, ADDRESSES).into_iter().flat_map(|text| text.split(','));
    let all = field
        .map(|text| ("spec.loadBalancerIP".to_owned(), text))
        .into_iter()
        .chain(annotated.map(|text| (format!("annotation {ADDRESSES}"), text.trim())));
    let (mut requested, its) = (BTreeMap::new(), families(service));
    for (place, text) in all {
        let Ok(address) = text.parse::<IpAddr>() else {
            let shown = text.get(..text.floor_char_boundary(64)).unwrap_or_default();
            return Err(Refused::Failed(format!(
                "{place}: {shown:?} is no address; write 10.0.0.1 or fd00::1"
            )));
        };
        if !its.contains(&address.is_ipv6()) {
            let family = family(address.is_ipv6());
            return Err(Refused::Failed(format!(
                "{place}: {address} is of {family}, which the service's ipFamilies do not have; add it there, or ask for another"
            )));
        }
        if let Some(other) = requested.insert(address.is_ipv6(), address).filter(|other| *other != address) {
            return Err(Refused::Failed(format!(
                "{place}: {address} is asked for, and {other} as well; ask for one address of each family"
            )));
        }
    }
    Ok(requested)
}

/// What decides who may have the same address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    key: Option<String>,
    ports: BTreeSet<(String, i32)>,
    /// The pods, where only nodes with some of them are to get what comes in.
    local: Option<BTreeMap<String, String>>,
}

impl Use {
    pub(crate) fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        let ports = ports.map(|port| (port.protocol.clone().unwrap_or_else(|| "TCP".into()), port.port));
        let is_local = spec.and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
        let selector = || spec.and_then(|spec| spec.selector.clone()).unwrap_or_default();
        Self {
            key: annotation(service, SHARE).map(str::to_owned),
            ports: ports.collect(),
            local: is_local.then(selector),
        }
    }

    /// A port by which nodes themselves are reached (SSH, the API server, the kubelet), for people.
    pub(crate) fn of_machine(&self) -> Option<String> {
        let own = [22, 6443, 10250].into_iter().find(|port| self.ports.contains(&("TCP".to_owned(), *port)));
        own.map(|port| format!("port {port}/TCP"))
    }

    /// A port that both have, for people.
    pub(crate) fn common_port(&self, other: &Self) -> Option<String> {
        self.ports.intersection(&other.ports).next().map(|(protocol, port)| format!("port {port}/{protocol}"))
    }

    /// Whether it may be shared at all.
    pub(crate) fn is_shared(&self) -> bool {
        self.key.is_some()
    }

    /// Why both cannot have the same address; `None` if they can.
    pub(crate) fn conflict(&self, other: &Self) -> Option<String> {
        match (&self.key, &other.key) {
            (Some(key), Some(its)) if key == its => {}
            _ => {
                return Some(format!("to share it, give both the same word in annotation {SHARE}"));
            }
        }
        if let Some(port) = self.common_port(other) {
            return Some(format!("they share by {SHARE}, and both have {port}; give them other ports"));
        }
        (self.local != other.local).then(|| {
            format!(
                "they share by {SHARE}, and what comes in goes to other nodes for each; give both externalTrafficPolicy Cluster, or Local and the same selector"
            )
        })
    }
}

/// The addresses of nodes of one family by which others reach them: of each node the external ones, or where it has none, the internal
/// ones.
pub(crate) fn of_nodes(nodes: &[Node], is_v6: bool) -> BTreeSet<IpAddr> {
    let of_node = |node: &Node| -> Vec<IpAddr> {
        let of_type = |kind: &str| -> Vec<IpAddr> {
            let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
            let of_type = all.filter(|one| one.type_ == kind).filter_map(|one| one.address.parse().ok());
            of_type.filter(|address: &IpAddr| address.is_ipv6() == is_v6).collect()
        };
        let external = of_type("ExternalIP");
        if external.is_empty() { of_type("InternalIP") } else { external }
    };
    nodes.iter().flat_map(of_node).collect()
}

/// All addresses of nodes.
pub(crate) fn all_of_nodes<'a>(nodes: impl Iterator<Item = &'a Node>) -> BTreeSet<IpAddr> {
    let all = nodes.flat_map(|node| &node.status).flat_map(|status| status.addresses.iter().flatten());
    all.filter_map(|one| one.address.parse().ok()).collect()
}
