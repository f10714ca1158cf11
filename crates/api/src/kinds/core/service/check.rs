//! What is wrong with a service.

use super::addresses::{self, is_headless};
use super::{is_checked, is_external};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check};
use crate::kinds::core::endpoints;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
pub(super) const MODE: &str = "service.kubernetes.io/topology-mode";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// Everything that is wrong with a new service, or with one that replaces `old`.
pub(super) fn all(object: &Object, old: Option<&Object>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    topology(&mut errors, object);
    if spec.list("ports").is_empty() && !is_headless(spec) && spec.text("type") != "ExternalName" {
        errors.required(&path.child("ports"), "");
    }
    by_type(&mut errors, &path, spec);
    ports(&mut errors, &path.child("ports"), spec);
    if let Some(selector) = spec.map("selector") {
        errors.extend(names::labels_errors(&path.child("selector"), selector));
    }
    affinity(&mut errors, &path, spec);
    let kept = old.and_then(Object::spec);
    addresses::check(&mut errors, &path, spec, kept);
    external(&mut errors, &path.child("externalIPs"), spec, kept);
    let types = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    errors.choice(&path, spec, "type", types, true);
    port_pairs(&mut errors, &path.child("ports"), spec);
    source_ranges(&mut errors, object, spec, old);
    balancer(&mut errors, &path, spec);
    policies(&mut errors, &path, spec);
    errors
}

fn topology(errors: &mut FieldErrors, object: &Object) {
    let annotations = object.strings("annotations");
    if let (Some(mode), Some(hints)) = (annotations.maybe(MODE), annotations.maybe(HINTS))
        && mode != hints
    {
        let at = Path::new("metadata").child("annotations").key(MODE);
        errors.invalid(&at, mode, format!("must match annotations[{HINTS}] when both are specified"));
    }
}

fn by_type(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let kind = spec.text("type");
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let rule = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&path.child("clusterIPs").index(0), "None", rule);
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec.has(field) && (field == "ipFamilyPolicy" || !spec.list(field).is_empty()) {
                    errors.forbidden(&path.child(field), "may not be set for ExternalName services");
                }
            }
            let name = spec.text("externalName");
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                errors.required(&path.child("externalName"), "");
            } else {
                errors.malformed(path, "externalName", name, names::dns_subdomain(name, false));
            }
        }
        _ => {}
    }
}

fn ports(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let list = spec.list("ports");
    let mut seen = BTreeSet::new();
    for (index, port) in list.iter().enumerate() {
        let at = path.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            errors.malformed(&at, "name", name, names::dns_label(name, false));
            if !seen.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
        } else if list.len() > 1 {
            errors.required(&at.child("name"), "");
        }
        let number = port.int("port").unwrap_or(0);
        for detail in names::port_number(number) {
            errors.invalid(&at.child("port"), number, detail);
        }
        errors.choice(&at, port, "protocol", &["SCTP", "TCP", "UDP"], true);
        check::port(errors, &at.child("targetPort"), port.field("targetPort"));
        if let Some(protocol) = port.maybe("appProtocol") {
            errors.malformed(&at, "appProtocol", protocol, names::qualified_name(protocol));
        }
    }
}

fn affinity(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    const MOST: i64 = 86_400;
    const RULE: &str = "when session affinity type is ClientIP";
    errors.choice(path, spec, "sessionAffinity", &["ClientIP", "None"], true);
    let at = path.child("sessionAffinityConfig");
    let config = spec.field("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => match (config, config.field("clientIP")) {
            (None, _) => errors.required(&at, RULE),
            (Some(_), None) => errors.required(&at.child("clientIP"), RULE),
            (Some(_), Some(client)) => {
                let at = at.child("clientIP").child("timeoutSeconds");
                match client.int("timeoutSeconds") {
                    None => errors.required(&at, RULE),
                    Some(seconds) if !(1..=MOST).contains(&seconds) => {
                        errors.invalid(&at, seconds, format!("must be greater than 0 and less than {MOST}"));
                    }
                    Some(_) => {}
                }
            }
        },
        "None" if config.is_some() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn external(
    errors: &mut FieldErrors,
    path: &Path,
    spec: &Map<String, Value>,
    old: Option<&Map<String, Value>>,
) {
    let kept: Vec<&str> = old.texts("externalIPs").collect();
    for (index, ip) in spec.texts("externalIPs").enumerate() {
        let at = path.index(index);
        let found = names::ip_of_old(&at, ip, true, &kept);
        if found.is_empty() {
            endpoints::check_ip(errors, &at, ip);
        }
        errors.extend(found);
    }
}

/// Ports of nodes are for types that have them; no pair of protocol and port is there twice.
fn port_pairs(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let list = spec.list("ports");
    let node = |port: &Value| port.int("nodePort").unwrap_or(0);
    if spec.text("type") == "ClusterIP" {
        for (index, _) in list.iter().enumerate().filter(|(_, port)| node(port) != 0) {
            let rule = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(&path.index(index).child("nodePort"), rule);
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in list.iter().enumerate().filter(|(_, port)| node(port) != 0) {
        if !seen.insert((port.text("protocol"), node(port))) {
            errors.push(FieldError::duplicate(&path.index(index).child("nodePort"), node(port)));
        }
    }
    let mut seen = BTreeSet::new();
    for (index, port) in list.iter().enumerate() {
        let (protocol, number) = (port.text("protocol"), port.int("port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            let shown = serde_json::json!({ "protocol": protocol, "port": number });
            let shown = crate::kinds::base::internal::shown("ServicePort", &shown);
            let mut error = FieldError::duplicate(&path.index(index), Value::Null);
            error.shown = Some(shown);
            errors.push(error);
        }
    }
}

fn source_ranges(errors: &mut FieldErrors, object: &Object, spec: &Map<String, Value>, old: Option<&Object>) {
    const RULE: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = spec.text("type") == "LoadBalancer";
    let ranges = spec.list("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        let path = Path::new("spec").child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&path, RULE);
        }
        let kept: Vec<&str> =
            old.and_then(Object::spec).texts("loadBalancerSourceRanges").map(str::trim).collect();
        for (index, range) in spec.texts("loadBalancerSourceRanges").enumerate() {
            errors.extend(names::cidr(&path.index(index), range.trim(), true, &kept));
        }
    } else if let Some(text) = object.strings("annotations").maybe(RANGES) {
        let path = Path::new("metadata").child("annotations").key(RANGES);
        if !balanced {
            errors.forbidden(&path, RULE);
        }
        let kept = old.is_some_and(|old| old.strings("annotations").maybe(RANGES) == Some(text));
        for range in text.trim().split(',').filter(|_| !kept && !text.trim().is_empty()) {
            errors.extend(names::cidr(&path, range.trim(), true, &[]));
        }
    }
}

fn balancer(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    const RULE: &str = "may only be used when `type` is 'LoadBalancer'";
    let balanced = spec.text("type") == "LoadBalancer";
    let ports = "allocateLoadBalancerNodePorts";
    if spec.has(ports) && !balanced {
        errors.forbidden(&path.child(ports), RULE);
    }
    if !spec.has(ports) && balanced {
        errors.required(&Path::new(ports), "");
    }
    match spec.maybe("loadBalancerClass") {
        Some(class) if balanced => {
            errors.malformed(path, "loadBalancerClass", class, names::qualified_name(class));
        }
        Some(_) => errors.forbidden(&path.child("loadBalancerClass"), RULE),
        None => {}
    }
}

fn policies(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let policy = spec.text("externalTrafficPolicy");
    let at = path.child("externalTrafficPolicy");
    match (is_external(spec), policy) {
        (false, "") | (true, "Cluster" | "Local") => {}
        (false, _) => errors.invalid(&at, policy, "may only be set for externally-accessible services"),
        (true, "") => errors.required(&at, ""),
        (true, _) => errors.not_supported(&at, policy, &["Cluster", "Local"]),
    }
    let at = path.child("healthCheckNodePort");
    match (is_checked(spec), spec.int("healthCheckNodePort").unwrap_or(0)) {
        (false, 0) => {}
        (false, port) => {
            let rule = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&at, port, rule);
        }
        (true, 0) => errors.required(&at, ""),
        (true, port) => {
            for detail in names::port_number(port) {
                errors.invalid(&at, port, detail);
            }
        }
    }
    let needed = matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP");
    if spec.has("internalTrafficPolicy") || needed {
        match spec.maybe("internalTrafficPolicy") {
            None => errors.required(&path.child("internalTrafficPolicy"), ""),
            Some("Cluster" | "Local") => {}
            Some(other) => {
                errors.not_supported(&path.child("internalTrafficPolicy"), other, &["Cluster", "Local"]);
            }
        }
    }
    let known = &["PreferClose", "PreferSameZone", "PreferSameNode"];
    errors.choice(path, spec, "trafficDistribution", known, false);
}

/// Everything that is wrong with an update.
pub(super) fn update(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    addresses::check_update(&mut errors, new, old);
    let empty = Map::new();
    let (is, was) = (new.spec().unwrap_or(&empty), old.spec().unwrap_or(&empty));
    let class = "loadBalancerClass";
    let path = Path::new("spec");
    if is.text("type") == "LoadBalancer"
        && was.text("type") == "LoadBalancer"
        && is.field(class) != was.field(class)
    {
        let shown = is.field(class).cloned().unwrap_or(Value::Null);
        errors.invalid(&path.child(class), shown, "may not change once set");
    }
    balancer_class(&mut errors, &path, is);
    let port = "healthCheckNodePort";
    if is_checked(is) && is_checked(was) && is.field(port) != was.field(port) {
        errors.forbidden(&path.child(port), check::IMMUTABLE);
    }
    errors.extend(all(new, Some(old)));
    errors
}

/// The class is checked once for the update and once with the rest.
fn balancer_class(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    if let Some(class) = spec.maybe("loadBalancerClass") {
        if spec.text("type") == "LoadBalancer" {
            errors.malformed(path, "loadBalancerClass", class, names::qualified_name(class));
        } else {
            errors.forbidden(
                &path.child("loadBalancerClass"),
                "may only be used when `type` is 'LoadBalancer'",
            );
        }
    }
}

/// What is wrong with the status that a balancer's controller writes.
pub(super) fn status(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let ingress = |object: &Object| object.status().field("loadBalancer").list("ingress").to_vec();
    let (list, kept) = (ingress(new), ingress(old));
    if !list.is_empty() && new.spec().text("type") != "LoadBalancer" {
        errors.forbidden(&path, "may only be used when `spec.type` is 'LoadBalancer'");
        return errors;
    }
    let kept: Vec<&str> = kept.iter().map(|ingress| ingress.text("ip")).filter(|ip| !ip.is_empty()).collect();
    for (index, ingress) in list.iter().enumerate() {
        let at = path.index(index);
        let (ip, host) = (ingress.text("ip"), ingress.text("hostname"));
        if !ip.is_empty() {
            errors.extend(names::ip_of_old(&at.child("ip"), ip, true, &kept));
        }
        match ingress.maybe("ipMode") {
            None if !ip.is_empty() => {
                errors.required(&at.child("ipMode"), "must be specified when `ip` is set")
            }
            None | Some("VIP" | "Proxy") if !ip.is_empty() || !ingress.has("ipMode") => {}
            Some(_) if ip.is_empty() => {
                errors.forbidden(&at.child("ipMode"), "may not be specified when `ip` is not set");
            }
            Some(mode) => errors.not_supported(&at.child("ipMode"), mode, &["Proxy", "VIP"]),
            None => {}
        }
        if !host.is_empty() {
            errors.malformed(&at, "hostname", host, names::dns_subdomain(host, false));
            if names::parse_ip(host).is_some() {
                errors.invalid(&at.child("hostname"), host, "must be a DNS name, not an IP address");
            }
        }
    }
    errors
}
