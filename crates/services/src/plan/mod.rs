//! What of a Service is to be reached where. Pure: a Service and the slices of its endpoints go in, fronts come out.

mod endpoints;
mod ranges;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kernel::netlink::IpNet;

pub use endpoints::{Endpoint, endpoints};
pub use ranges::disjoint;

/// What a plan depends on besides the Service.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// The node's name: endpoints that name it are local.
    pub name: String,
}

/// Protocols above IP that a Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// That of a port; one without says TCP. None for one that Kubernetes does not have.
    pub fn of(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// IP's number for it.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// As names of DNS have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}

/// What packets are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// An address of the Service.
    Address(IpAddr),
    /// Any address of the node, of this family.
    Node {
        /// IPv4, not IPv6.
        ipv4: bool,
    },
}

impl At {
    /// It is of IPv4.
    pub fn is_ipv4(self) -> bool {
        match self {
            Self::Address(address) => address.is_ipv4(),
            Self::Node { ipv4 } => ipv4,
        }
    }
}

/// Where a Service is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// For those alone who come from outside, neither from a pod nor from the node; for all others there is another front.
    pub outside: bool,
    /// What packets are sent to.
    pub at: At,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// What becomes of who comes there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One of these, in order and each once; at least one.
    Targets {
        /// Address and port of each.
        targets: Vec<SocketAddr>,
        /// Who has come once comes to the same again, if he does within so many seconds.
        affinity: Option<u32>,
    },
    /// No, at once.
    Reject,
    /// Nothing.
    Drop,
}

/// What load balancers are told of a Service that sends what comes from outside to this node's endpoints alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// The port of the node where they ask.
    pub port: u16,
    /// Endpoints on this node that are ready.
    pub local: usize,
}

/// All that is to be in the kernel for a Service, and at its health check node port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Where it is reached.
    pub fronts: BTreeMap<Front, Answer>,
    /// Fronts that only those reach who come from these networks.
    pub ranges: BTreeMap<Front, Vec<IpNet>>,
    /// Targets that are not on this node: who comes from outside is masqueraded on the way to them, so that answers come back here.
    pub remote: Vec<IpAddr>,
    /// What is told at its health check node port.
    pub health: Option<Health>,
}

/// Plans a Service.
pub fn plan<'a>(service: &Service, slices: impl IntoIterator<Item = &'a EndpointSlice>, node: &Node) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = service.spec.as_ref().filter(|spec| is_proxied(service, spec)) else { return plan };
    let known = endpoints(slices, &node.name);
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = Protocol::of(port.protocol.as_deref()) else { continue };
        for ipv4 in [true, false] {
            Port { service, spec, port, protocol, ipv4 }.add(&known, &mut plan);
        }
    }
    plan.health = health(spec, &known);
    plan.remote.sort_unstable();
    plan.remote.dedup();
    plan
}

fn health(spec: &ServiceSpec, known: &[Endpoint]) -> Option<Health> {
    let is_asked = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    let port =
        spec.health_check_node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
    let here = known.iter().filter(|endpoint| endpoint.local && endpoint.ready);
    let local: BTreeSet<IpAddr> = here.map(|endpoint| endpoint.target.ip()).collect();
    is_asked.then_some(Health { port, local: local.len() })
}

/// There is something to do for it here: it has an address, and is not left to another proxy.
fn is_proxied(service: &Service, spec: &ServiceSpec) -> bool {
    let headless = spec.cluster_ip.as_deref().is_none_or(|ip| ip.is_empty() || ip == "None");
    !headless && spec.type_.as_deref() != Some("ExternalName") && !is_of_another(service)
}

/// Whether a Service is left to another proxy.
pub(crate) fn is_of_another(service: &Service) -> bool {
    let labels = service.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key("service.kubernetes.io/service-proxy-name"))
}

/// The addresses that a Service has in the cluster.
pub fn cluster_ips(spec: &ServiceSpec) -> Vec<IpAddr> {
    let several = spec.cluster_ips.iter().flatten();
    let mut addresses: Vec<IpAddr> =
        several.chain(&spec.cluster_ip).filter_map(|text| text.parse().ok()).collect();
    let mut seen = Vec::new();
    addresses.retain(|address| !seen.contains(address) && (seen.push(*address), true).1);
    addresses
}

/// The addresses at which a load balancer hands on packets as they came. What it hands on as its own (`Proxy`) never comes with them.
pub(crate) fn load_balancers(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let of_packets = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
    of_packets.filter_map(|i| i.ip.as_ref()?.parse().ok()).collect()
}

/// A port of a Service, in one family.
struct Port<'a> {
    service: &'a Service,
    spec: &'a ServiceSpec,
    port: &'a ServicePort,
    protocol: Protocol,
    ipv4: bool,
}

impl Port<'_> {
    fn add(&self, known: &[Endpoint], plan: &mut Plan) {
        let of_port = |e: &&Endpoint| {
            e.protocol == self.protocol
                && e.target.is_ipv4() == self.ipv4
                && e.port_name == self.port.name.as_deref().unwrap_or_default()
        };
        let mine: Vec<&Endpoint> = known.iter().filter(of_port).collect();
        plan.remote.extend(mine.iter().filter(|e| !e.local).map(|e| e.target.ip()));
        let everywhere = self.answer(&mine, false);
        let local = || self.answer(&mine, true);
        let internal_local = self.spec.internal_traffic_policy.as_deref() == Some("Local");
        let external_local = self.spec.external_traffic_policy.as_deref() == Some("Local");
        let inside = if internal_local { local() } else { everywhere.clone() };
        for address in self.of_family(cluster_ips(self.spec)) {
            plan.fronts.insert(self.front(false, At::Address(address), self.number()), inside.clone());
        }
        let mut external = Vec::new();
        let balancers = self.of_family(load_balancers(self.service));
        for address in balancers.iter().copied().chain(self.of_family(self.external_ips())) {
            external.push((At::Address(address), self.number()));
        }
        if let Some(port) = self.port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|p| *p > 0)
            && self.has_family()
        {
            external.push((At::Node { ipv4: self.ipv4 }, port));
        }
        for (at, number) in external {
            // A pod and the node itself reach it as if it had no such policy, as they are not outside.
            plan.fronts.entry(self.front(false, at, number)).or_insert_with(|| everywhere.clone());
            if external_local {
                plan.fronts.insert(self.front(true, at, number), local());
            }
        }
        if let Some(ranges) = self.ranges() {
            for address in balancers {
                plan.ranges.insert(self.front(false, At::Address(address), self.number()), ranges.clone());
            }
        }
    }

    fn front(&self, outside: bool, at: At, port: u16) -> Front {
        Front { outside, at, protocol: self.protocol, port }
    }

    fn number(&self) -> u16 {
        u16::try_from(self.port.port).unwrap_or_default()
    }

    fn of_family(&self, addresses: Vec<IpAddr>) -> Vec<IpAddr> {
        addresses.into_iter().filter(|address| address.is_ipv4() == self.ipv4).collect()
    }

    fn has_family(&self) -> bool {
        !self.of_family(cluster_ips(self.spec)).is_empty()
    }

    fn external_ips(&self) -> Vec<IpAddr> {
        self.spec.external_ips.iter().flatten().filter_map(|text| text.parse().ok()).collect()
    }

    /// Who may come to the load balancer's addresses, where that is said. Said in the other family alone it is nobody.
    fn ranges(&self) -> Option<Vec<IpNet>> {
        let said = self.spec.load_balancer_source_ranges.as_ref().filter(|ranges| !ranges.is_empty())?;
        let read = said.iter().filter_map(|text| text.trim().parse::<IpNet>().ok());
        Some(disjoint(read.filter(|net| net.is_ipv4() == self.ipv4)))
    }

    /// Those that are ready; if there are none, those that still serve while they end.
    fn answer(&self, endpoints: &[&Endpoint], local: bool) -> Answer {
        let fit = |terminating: bool| {
            let usable =
                |e: &&&Endpoint| (if terminating { e.serving } else { e.ready }) && (e.local || !local);
            let mut targets: Vec<SocketAddr> = endpoints.iter().filter(usable).map(|e| e.target).collect();
            targets.sort_unstable();
            targets.dedup();
            targets
        };
        let mut targets = fit(false);
        if targets.is_empty() {
            targets = fit(true);
        }
        // Of none at all it is said; of none here alone nothing, as another node may have some.
        let elsewhere = local && endpoints.iter().any(|e| e.ready || e.serving);
        match targets.is_empty() {
            true if elsewhere => Answer::Drop,
            true => Answer::Reject,
            false => Answer::Targets { targets, affinity: affinity(self.spec) },
        }
    }
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client| client.timeout_seconds).unwrap_or(10_800);
    Some(u32::try_from(seconds).unwrap_or(10_800).max(1))
}

#[cfg(test)]
mod tests;
