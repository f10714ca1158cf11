//! What a service wants of its load balancer: a function of the service alone.

use std::collections::BTreeMap;

use cpi::contract::{Cidr, Service, health_check, load_balancer_name, source_ranges};

use super::annotations::Annotations;
use crate::api::sign::hash;
use crate::elb::Check;
use crate::provider::CLUSTER;

/// The kubelet's port, which is asked where a service has no TCP port of its own.
pub(super) const KUBELET: u16 = 10250;
/// Ports of the machine itself: SSH, etcd and the API server. Whoever may make Services does not open these.
const NOBODYS: &[u16] = &[22, 2379, 2380, 6443];
/// The longest value of a tag, and the longest key.
const TAG: (usize, usize) = (256, 128);

/// Why there is no wish.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Not {
    /// Another controller does it.
    Elsewhere,
    /// What is wrong with the service.
    Wrong(String),
}

impl From<String> for Not {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}

/// A port of the load balancer, and what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) port: u16,
    /// `TCP`, `UDP`, `TCP_UDP` or `TLS`.
    pub(super) protocol: &'static str,
    /// The same on the way to nodes.
    pub(super) inner: &'static str,
    pub(super) node_port: u16,
    pub(super) check: Check,
}

/// A load balancer as it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) name: String,
    /// What the names of its target groups begin with.
    pub(super) prefix: String,
    /// `internal` or `internet-facing`.
    pub(super) scheme: &'static str,
    /// `ipv4` or `dualstack`.
    pub(super) addresses: &'static str,
    /// `instance` or `ip`.
    pub(super) target: &'static str,
    /// Subnets by id or name; none: those with the cluster's tags.
    pub(super) subnets: Vec<String>,
    pub(super) allocations: Vec<String>,
    pub(super) ports: Vec<Port>,
    pub(super) certificate: String,
    pub(super) policy: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) group_attributes: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) sources: Vec<Cidr>,
    pub(super) node_labels: BTreeMap<String, String>,
    /// `spec.healthCheckNodePort`, where nodes are asked at it.
    pub(super) health_port: Option<u16>,
}

impl Wish {
    /// Whether a port of the nodes is the service's alone, as it was given it.
    pub(super) fn owns(&self, port: u16) -> bool {
        self.health_port == Some(port) || self.ports.iter().any(|one| one.node_port == port)
    }

    /// What the target group of a port is called. What cannot be changed of one is part of its name.
    pub(super) fn group(&self, port: &Port) -> String {
        let text = format!("{}/{}/{}/{}", port.inner, port.node_port, self.target, port.check.protocol);
        format!("{}{}", self.prefix, hash(text.as_bytes()).get(..10).unwrap_or_default())
    }
}

/// What the names of a service's target groups begin with.
pub(super) fn prefix(cluster: &str, service: &Service) -> String {
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    format!("k{}-", hash(format!("{cluster}/{uid}").as_bytes()).get(..20).unwrap_or_default())
}

/// Tags that all of a service's things have: the cluster's, and the service's name.
pub(super) fn marks(mark: &str, service: &Service) -> BTreeMap<String, String> {
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    let name = format!("{}/{}", of(&service.metadata.namespace), of(&service.metadata.name));
    BTreeMap::from([(mark.into(), "owned".into()), ("kubernetes.io/service-name".into(), name)])
}

/// Reads a service; `shared` is the probe that all services without local traffic share.
pub(super) fn wish(
    cluster: &str,
    mark: &str,
    service: &Service,
    shared: Option<&(u16, String)>,
) -> Result<Wish, Not> {
    let mut notes = Annotations::of(service);
    match notes.text("type") {
        None | Some("nlb") => {}
        // These are the AWS Load Balancer Controller's.
        Some("external" | "nlb-ip") => return Err(Not::Elsewhere),
        Some(_) => {
            return Err(notes
                .wrong("type", "is not supported: load balancers are network load balancers, nlb")
                .into());
        }
    }
    let spec = service.spec.as_ref().ok_or_else(|| "the service has no spec".to_owned())?;
    let target = notes.word("nlb-target-type", &["instance", "ip"])?.unwrap_or("instance");
    let is_internal = notes.boolean("internal")?;
    let scheme = match (notes.word("scheme", &["internal", "internet-facing"])?, is_internal) {
        (Some(scheme), None) => scheme,
        (Some(scheme), Some(internal)) if (scheme == "internal") == internal => scheme,
        (Some(_), Some(_)) => {
            return Err(notes.wrong("scheme", "contradicts annotation aws-load-balancer-internal").into());
        }
        (None, Some(true)) => "internal",
        (None, _) => "internet-facing",
    };
    let addresses = notes.word("ip-address-type", &["ipv4", "dualstack"])?.unwrap_or("ipv4");
    let subnets: Vec<String> = notes.list("subnets").into_iter().map(str::to_owned).collect();
    let allocations: Vec<String> = notes.list("eip-allocations").into_iter().map(str::to_owned).collect();
    if !allocations.is_empty() && scheme == "internal" {
        return Err(notes.wrong("eip-allocations", "is for load balancers that are not internal").into());
    }
    let attributes = attributes(&mut notes)?;
    let mut group_attributes = notes.pairs("target-group-attributes")?;
    let proxied = match notes.text("proxy-protocol") {
        None => false,
        Some("*") => true,
        Some(_) => return Err(notes.wrong("proxy-protocol", "is not *, which is all that there is").into()),
    };
    group_attributes.entry("proxy_protocol_v2.enabled".into()).or_insert_with(|| proxied.to_string());
    let is_sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    group_attributes.entry("stickiness.enabled".into()).or_insert_with(|| is_sticky.to_string());
    if is_sticky {
        group_attributes.entry("stickiness.type".into()).or_insert_with(|| "source_ip".into());
    }
    let mut tags = notes.pairs("additional-resource-tags")?;
    let reserved = |key: &&String| key.starts_with(CLUSTER) || key.starts_with("aws:");
    if let Some(key) = tags.keys().find(reserved) {
        return Err(notes
            .wrong("additional-resource-tags", &format!("has the key {key:?}, which is not yours"))
            .into());
    }
    if tags.iter().any(|(key, value)| key.chars().count() > TAG.1 || value.chars().count() > TAG.0) {
        let why = format!("has a key of more than {} or a value of more than {} characters", TAG.1, TAG.0);
        return Err(notes.wrong("additional-resource-tags", &why).into());
    }
    tags.extend(marks(mark, service));
    let secured = Secured::of(&mut notes)?;
    if is_sticky && secured.is_there() {
        return Err(notes.wrong("ssl-cert", "does not go with sessionAffinity ClientIP").into());
    }
    let ports = ports(service, &secured, &mut notes, shared)?;
    let mut sources = source_ranges(service).map_err(|e| e.to_string())?;
    let anywhere = |text: &str| text.parse::<Cidr>().ok();
    if addresses == "dualstack" && sources.len() == 1 && sources.first().copied() == anywhere("0.0.0.0/0") {
        sources.extend(anywhere("::/0"));
    }
    let is_open = sources.iter().any(|one| one.length() == 0);
    if !is_open && target == "ip" {
        group_attributes.entry("preserve_client_ip.enabled".into()).or_insert_with(|| "true".into());
    }
    let is_hidden = group_attributes.get("preserve_client_ip.enabled").is_some_and(|value| value == "false");
    if !is_open && (is_hidden || addresses == "dualstack") {
        let why = "loadBalancerSourceRanges cannot be kept where nodes do not see clients' addresses: leave out ip-address-type \
                   dualstack and preserve_client_ip.enabled=false";
        return Err(why.to_owned().into());
    }
    let node_labels = notes.pairs("target-node-labels")?;
    let wish = Wish {
        name: load_balancer_name(service),
        prefix: prefix(cluster, service),
        scheme,
        addresses,
        target,
        subnets,
        allocations,
        ports,
        certificate: secured.certificate.to_owned(),
        policy: secured.policy.to_owned(),
        attributes,
        group_attributes,
        tags,
        sources,
        node_labels,
        health_port: health_check(service).map(|(_, port)| port),
    };
    notes.done()?;
    Ok(wish)
}

/// Attributes of the load balancer. Those that have annotations of their own are put back where an annotation goes.
fn attributes(notes: &mut Annotations<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut all = notes.pairs("attributes")?;
    let cross = notes.boolean("cross-zone-load-balancing-enabled")?.unwrap_or(false);
    all.entry("load_balancing.cross_zone.enabled".into()).or_insert_with(|| cross.to_string());
    let logs = notes.boolean("access-log-enabled")?.unwrap_or(false);
    all.entry("access_logs.s3.enabled".into()).or_insert_with(|| logs.to_string());
    let bucket = notes.text("access-log-s3-bucket-name");
    let prefix = notes.text("access-log-s3-bucket-prefix");
    if logs {
        let bucket = bucket.ok_or_else(|| {
            notes.wrong(
                "access-log-enabled",
                "needs annotation aws-load-balancer-access-log-s3-bucket-name too",
            )
        })?;
        all.insert("access_logs.s3.bucket".into(), bucket.into());
        all.insert("access_logs.s3.prefix".into(), prefix.unwrap_or_default().into());
    }
    Ok(all)
}

/// Which ports speak TLS.
struct Secured<'a> {
    certificate: &'a str,
    policy: &'a str,
    /// Numbers or names of ports; none: all.
    ports: Vec<&'a str>,
    /// Whether nodes are spoken to in TLS too.
    within: bool,
}

impl<'a> Secured<'a> {
    fn of(notes: &mut Annotations<'a>) -> Result<Self, String> {
        let certificate = notes.text("ssl-cert").unwrap_or_default();
        let policy = notes.text("ssl-negotiation-policy").unwrap_or_default();
        let ports = notes.list("ssl-ports").into_iter().filter(|port| *port != "*").collect();
        let within = notes.word("backend-protocol", &["tcp", "ssl"])? == Some("ssl");
        Ok(Self { certificate, policy, ports, within })
    }

    fn is_there(&self) -> bool {
        !self.certificate.is_empty()
    }

    fn has(&self, port: u16, name: &str) -> bool {
        let is_it = |one: &&str| **one == *name && !name.is_empty() || one.parse() == Ok(port);
        self.is_there() && (self.ports.is_empty() || self.ports.iter().any(is_it))
    }
}

fn number(what: &str, number: i32) -> Result<u16, String> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number > 0)
        .ok_or_else(|| format!("{what} is {number}, which is no port"))
}

fn ports(
    service: &Service,
    secured: &Secured<'_>,
    notes: &mut Annotations<'_>,
    shared: Option<&(u16, String)>,
) -> Result<Vec<Port>, String> {
    let listed = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut all: Vec<Port> = Vec::new();
    for (at, one) in listed.iter().enumerate() {
        let field = format!("spec.ports[{at}]");
        let port = number(&format!("{field}.port"), one.port)?;
        let node_port =
            number(&format!("{field}.nodePort"), one.node_port.unwrap_or_default()).map_err(|why| {
                format!("{why}: load balancers lead to node ports; leave allocateLoadBalancerNodePorts true")
            })?;
        let (protocol, inner) = match one.protocol.as_deref().unwrap_or("TCP") {
            "TCP" if secured.has(port, one.name.as_deref().unwrap_or_default()) => {
                ("TLS", if secured.within { "TLS" } else { "TCP" })
            }
            "TCP" => ("TCP", "TCP"),
            "UDP" => ("UDP", "UDP"),
            other => return Err(format!("{field}.protocol: network load balancers have no {other}")),
        };
        match all.iter_mut().find(|other| other.port == port) {
            None => all.push(Port { port, protocol, inner, node_port, check: Check::default() }),
            // TCP and UDP are one port of a load balancer, with one way to nodes.
            Some(other) if other.node_port == node_port && other.protocol != "TLS" && protocol != "TLS" => {
                (other.protocol, other.inner) = ("TCP_UDP", "TCP_UDP");
            }
            Some(_) => {
                return Err(format!(
                    "{field}: port {port} is there with TCP and UDP, which need the same nodePort and no TLS"
                ));
            }
        }
    }
    if all.is_empty() {
        return Err("spec.ports is empty: there is nothing to lead to".into());
    }
    let probe = Probe::of(service, notes, shared)?;
    let tcp = all.iter().find(|port| port.inner != "UDP").map(|port| port.node_port);
    for port in &mut all {
        port.check = probe.check(port, tcp);
    }
    Ok(all)
}

/// How nodes are asked for their health.
struct Probe {
    check: Check,
    /// Whether nodes know themselves whether they have endpoints.
    is_local: bool,
}

impl Probe {
    fn of(
        service: &Service,
        notes: &mut Annotations<'_>,
        shared: Option<&(u16, String)>,
    ) -> Result<Self, String> {
        let local = health_check(service);
        let known = local.map(|(path, port)| (port, path.to_owned())).or_else(|| shared.cloned());
        let mut check = Check { port: "traffic-port".into(), protocol: "TCP".into(), ..Check::default() };
        if let Some((port, path)) = &known {
            check = Check { port: port.to_string(), protocol: "HTTP".into(), path: path.clone(), ..check };
        }
        if let Some(protocol) = notes.word("healthcheck-protocol", &["TCP", "HTTP", "HTTPS"])? {
            check.protocol = protocol.into();
        }
        match notes.text("healthcheck-port") {
            None => {}
            Some("traffic-port") => check.port = "traffic-port".into(),
            Some(_) => {
                let port = notes.number("healthcheck-port", 1, u16::MAX)?;
                if port.is_some_and(|port| NOBODYS.contains(&port)) {
                    return Err(notes.wrong(
                        "healthcheck-port",
                        "is a port of the nodes themselves, which no Service opens; use traffic-port, or the port of what tells the \
                         health of the Service",
                    ));
                }
                check.port = port.map(|port| port.to_string()).unwrap_or_default();
            }
        }
        match notes.text("healthcheck-path") {
            Some(path) if !path.starts_with('/') => {
                return Err(notes.wrong("healthcheck-path", "is no path; it begins with a slash"));
            }
            Some(path) => check.path = path.into(),
            None if check.path.is_empty() => check.path = "/".into(),
            None => {}
        }
        if check.protocol == "TCP" {
            check.path = String::new();
        }
        check.interval = notes.number("healthcheck-interval", 5, 300)?.or(Some(10));
        check.timeout = notes.number("healthcheck-timeout", 2, 120)?;
        check.healthy = notes.number("healthcheck-healthy-threshold", 2, 10)?.or(Some(3));
        check.unhealthy = notes.number("healthcheck-unhealthy-threshold", 2, 10)?.or(Some(3));
        Ok(Self { check, is_local: local.is_some() })
    }

    /// The check of a port; `tcp` is a node port of the service that speaks TCP.
    fn check(&self, port: &Port, tcp: Option<u16>) -> Check {
        let mut check = self.check.clone();
        if check.port == "traffic-port" && port.inner == "UDP" && !self.is_local {
            // Nobody can tell whether UDP is answered.
            check.port = tcp.unwrap_or(KUBELET).to_string();
            check.protocol = "TCP".into();
            check.path = String::new();
        }
        check
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(annotations: Value, spec: Value) -> Result<Wish, String> {
        let mut all = serde_json::Map::new();
        for (key, value) in annotations.as_object().unwrap() {
            all.insert(format!("service.beta.kubernetes.io/aws-load-balancer-{key}"), value.clone());
        }
        let service = json!({"metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "annotations": all}, "spec": spec});
        let service: Service = serde_json::from_value(service).unwrap();
        wish("c", "kubernetes.io/cluster/c", &service, None).map_err(|not| match not {
            Not::Wrong(why) => why,
            Not::Elsewhere => "elsewhere".into(),
        })
    }

    fn port(port: u16, protocol: &str, node_port: u16) -> Value {
        json!({"port": port, "protocol": protocol, "nodePort": node_port})
    }

    fn web() -> Value {
        json!({"type": "LoadBalancer", "ports": [port(80, "TCP", 30080)]})
    }

    #[test]
    fn what_is_wanted_without_annotations() {
        let wish = of(json!({}), web()).unwrap();
        assert_eq!((wish.scheme, wish.addresses, wish.target), ("internet-facing", "ipv4", "instance"));
        assert_eq!(wish.tags["kubernetes.io/cluster/c"], "owned");
        assert_eq!(wish.tags["kubernetes.io/service-name"], "shop/web");
        let [one] = &wish.ports[..] else { panic!("{:?}", wish.ports) };
        assert_eq!((one.port, one.protocol, one.node_port), (80, "TCP", 30080));
        assert_eq!((one.check.port.as_str(), one.check.protocol.as_str()), ("traffic-port", "TCP"));
        assert_eq!(wish.attributes["load_balancing.cross_zone.enabled"], "false");
        assert_eq!((wish.name.as_str(), wish.group(one).len()), ("au1", 32));
        assert!(wish.group(one).starts_with(&wish.prefix));
    }

    #[test]
    fn local_traffic_is_asked_of_nodes() {
        let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000,
            "ports": [port(53, "UDP", 30053)]});
        let wish = of(json!({}), spec).unwrap();
        let check = &wish.ports[0].check;
        assert_eq!(
            (check.protocol.as_str(), check.port.as_str(), check.path.as_str()),
            ("HTTP", "32000", "/healthz")
        );
    }

    #[test]
    fn tcp_and_udp_and_tls() {
        let spec = json!({"ports": [port(53, "UDP", 30053), port(53, "TCP", 30053), port(80, "TCP", 30080), port(9, "UDP", 30009)]});
        let wish = of(json!({"ssl-cert": "arn:x", "ssl-ports": "80"}), spec).unwrap();
        let all: Vec<_> =
            wish.ports.iter().map(|one| (one.port, one.protocol, one.check.port.as_str())).collect();
        assert_eq!(all, [(53, "TCP_UDP", "traffic-port"), (80, "TLS", "traffic-port"), (9, "UDP", "30053")]);
        let spec = json!({"ports": [port(9, "UDP", 30009)]});
        assert_eq!(of(json!({}), spec).unwrap().ports[0].check.port, "10250");
        let spec = json!({"ports": [port(53, "UDP", 30053), port(53, "TCP", 30054)]});
        assert!(of(json!({}), spec).unwrap_err().contains("need the same nodePort"));
    }

    #[test]
    fn annotations_are_obeyed() {
        let notes = json!({"internal": "true", "cross-zone-load-balancing-enabled": "true", "subnets": "subnet-1, b",
            "additional-resource-tags": "a=b, c=d", "proxy-protocol": "*", "healthcheck-interval": "30", "healthcheck-path": "/x",
            "healthcheck-protocol": "http", "healthcheck-port": "8080", "nlb-target-type": "ip", "type": "nlb",
            "access-log-enabled": "true", "access-log-s3-bucket-name": "logs", "target-node-labels": "role=edge",
            "ip-address-type": "dualstack", "target-group-attributes": "deregistration_delay.timeout_seconds=5"});
        let wish = of(notes, web()).unwrap();
        assert_eq!((wish.scheme, wish.target, wish.addresses), ("internal", "ip", "dualstack"));
        assert_eq!(wish.attributes["load_balancing.cross_zone.enabled"], "true");
        assert_eq!(wish.attributes["access_logs.s3.bucket"], "logs");
        assert_eq!(wish.group_attributes["proxy_protocol_v2.enabled"], "true");
        assert_eq!(wish.group_attributes["deregistration_delay.timeout_seconds"], "5");
        assert_eq!((wish.tags["a"].as_str(), wish.subnets.len()), ("b", 2));
        let check = &wish.ports[0].check;
        assert_eq!(
            (check.protocol.as_str(), check.port.as_str(), check.path.as_str()),
            ("HTTP", "8080", "/x")
        );
        assert_eq!((check.interval, wish.sources.len()), (Some(30), 2));
    }

    #[test]
    fn what_is_wrong_names_annotation_and_value() {
        for (key, value, why) in [
            ("internal", "yes", "\"yes\" is neither true nor false"),
            ("scheme", "public", "\"public\" is none of internal, internet-facing"),
            ("type", "clb", "\"clb\" is not supported"),
            ("healthcheck-interval", "1", "\"1\" is no number of 5 to 300"),
            ("healthcheck-path", "x", "\"x\" is no path"),
            ("healthcheck-port", "22", "\"22\" is a port of the nodes themselves"),
            ("healthcheck-port", "2379", "no Service opens; use traffic-port"),
            ("healthcheck-port", "2380", "no Service opens"),
            ("healthcheck-port", "6443", "no Service opens"),
            ("proxy-protocol", "v1", "\"v1\" is not *"),
            ("backend-protocol", "http", "\"http\" is none of tcp, ssl"),
            ("connection-idle-timeout", "60", "is not supported; remove it"),
            ("additional-resource-tags", "kubernetes.io/cluster/x=owned", "is not yours"),
            ("additional-resource-tags", "=x", "has a part without a key"),
            ("access-log-enabled", "true", "s3-bucket-name too"),
        ] {
            let error = of(json!({key: value}), web()).unwrap_err();
            let begin = format!("annotation service.beta.kubernetes.io/aws-load-balancer-{key}: ");
            assert!(error.starts_with(&begin) && error.contains(why), "{error}");
        }
        assert_eq!(of(json!({"type": "external"}), web()).unwrap_err(), "elsewhere");
        let spec = json!({"ports": [{"port": 80}]});
        assert!(of(json!({}), spec).unwrap_err().contains("spec.ports[0].nodePort is 0"));
        assert!(of(json!({}), json!({"ports": []})).unwrap_err().contains("spec.ports is empty"));
    }
}
