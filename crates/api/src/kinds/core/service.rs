//! Service. Its addresses and ports of nodes are given out by the registry.

mod addresses;
mod check;

use crate::contract::field::{FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, table};
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

/// Three hours, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Service", "services", "io.k8s.api.core.v1.Service")
        .short(&["svc"])
        .categories(&["all"])
        .without_generation()
        .named(names::dns_label)
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(|object| {
            object.0.insert("status".to_owned(), json!({ "loadBalancer": {} }));
            if object.spec().text("type") == "ExternalName" {
                object.remove(&["spec", "internalTrafficPolicy"]);
            }
        })
        .prepare_update(prepare_update)
        .validate(|object| check::all(object, None))
        .validate_update(|part, new, old| match part {
            Part::Status => check::status(new, old),
            _ => check::update(new, old),
        })
        .warnings(warnings)
        .table(columns, row)
        .selectable(&["spec.clusterIP", "spec.type"])
}

/// What is wrong with the addresses and families of a service, which is told before any is given out.
#[must_use]
pub fn address_errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(spec) = object.spec() {
        addresses::check(&mut errors, &Path::new("spec"), spec, old.and_then(Object::spec));
    }
    errors
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.fill_text("sessionAffinity", "None");
    match spec.text("sessionAffinity") {
        "None" => drop(spec.remove("sessionAffinityConfig")),
        "ClientIP" if !spec.field("sessionAffinityConfig").field("clientIP").has("timeoutSeconds") => {
            let config = json!({ "clientIP": { "timeoutSeconds": AFFINITY_SECONDS } });
            spec.insert("sessionAffinityConfig".to_owned(), config);
        }
        _ => {}
    }
    spec.fill_text("type", "ClusterIP");
    for port in spec.each("ports") {
        port.fill_text("protocol", "TCP");
        let unset = match port.field("targetPort") {
            None => true,
            Some(Value::String(name)) => name.is_empty(),
            Some(number) => number.as_i64() == Some(0),
        };
        if unset {
            let own = port.int("port").unwrap_or(0);
            port.insert("targetPort".to_owned(), own.into());
        }
    }
    if is_external(spec) {
        spec.fill_text("externalTrafficPolicy", "Cluster");
    }
    if matches!(spec.text("type"), "NodePort" | "LoadBalancer" | "ClusterIP") {
        spec.fill("internalTrafficPolicy", "Cluster");
    }
    let balanced = spec.text("type") == "LoadBalancer";
    if balanced {
        spec.fill("allocateLoadBalancerNodePorts", true);
    }
    if let (true, Some(balancer)) = (balanced, object.make(&["status"]).inside("loadBalancer")) {
        for ingress in balancer.each("ingress").filter(|ingress| !ingress.text("ip").is_empty()) {
            ingress.fill("ipMode", "VIP");
        }
    }
    object.make(&["status", "loadBalancer"]);
}

/// Whether it can be reached from outside.
fn is_external(spec: &Map<String, Value>) -> bool {
    match spec.text("type") {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

/// Whether nodes tell a balancer if they have an endpoint.
fn is_checked(spec: &Map<String, Value>) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn has_node_ports(spec: &Map<String, Value>) -> bool {
    matches!(spec.text("type"), "NodePort" | "LoadBalancer")
}

/// What only the old type had goes with it, unless the client changed it at the same time.
fn prepare_update(part: Part, object: &mut Object, old: &Object) {
    if part == Part::Status {
        return;
    }
    let empty = Map::new();
    let was = old.spec().unwrap_or(&empty);
    let spec = object.make(&["spec"]);
    let same = |spec: &Map<String, Value>, field: &str| spec.field(field) == was.field(field);
    let mut gone = Vec::new();
    if was.text("type") != "ExternalName" && spec.text("type") == "ExternalName" {
        if same(spec, "clusterIP") && same(spec, "clusterIPs") {
            gone.extend(["clusterIP", "clusterIPs"]);
        }
        gone.extend(["ipFamilies", "ipFamilyPolicy"].into_iter().filter(|field| same(spec, field)));
    }
    if is_checked(was) && !is_checked(spec) && same(spec, "healthCheckNodePort") {
        gone.push("healthCheckNodePort");
    }
    if was.text("type") == "LoadBalancer" && spec.text("type") != "LoadBalancer" {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        gone.extend(fields.into_iter().filter(|field| same(spec, field)));
    }
    if is_external(was) && !is_external(spec) && same(spec, "externalTrafficPolicy") {
        gone.push("externalTrafficPolicy");
    }
    for field in gone {
        spec.remove(field);
    }
    let numbers = |spec: &Map<String, Value>| -> Vec<i64> {
        spec.list("ports").iter().filter_map(|port| port.int("nodePort")).filter(|port| *port != 0).collect()
    };
    let kept = numbers(was);
    if has_node_ports(was) && !has_node_ports(spec) && numbers(spec).iter().all(|port| kept.contains(port)) {
        spec.each("ports").for_each(|port| drop(port.remove("nodePort")));
    }
    if spec.text("type") != "LoadBalancer" {
        object.make(&["status"]).insert("loadBalancer".to_owned(), Map::new().into());
    }
}

fn warnings(object: &Object, _old: Option<&Object>) -> Vec<String> {
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    let at = Path::new("spec");
    let mut warnings = Vec::new();
    if object.strings("annotations").has(check::HINTS) {
        warnings.push(format!(
            "annotation {} is deprecated, please use {} instead",
            check::HINTS,
            check::MODE
        ));
    }
    let headless = addresses::is_headless(spec);
    if !matches!(spec.text("clusterIP"), "" | "None") {
        for (index, ip) in spec.texts("clusterIPs").enumerate() {
            warnings.extend(names::ip_warnings(&at.child("clusterIPs").index(index), ip));
        }
    }
    if headless {
        let mut ignored = |set: bool, field: &str| {
            if set {
                warnings.push(format!("spec.{field} is ignored for headless services"));
            }
        };
        ignored(!spec.text("loadBalancerIP").is_empty(), "loadBalancerIP");
        ignored(!spec.list("externalIPs").is_empty(), "externalIPs");
        ignored(spec.text("sessionAffinity") != "None", "SessionAffinity");
    }
    for (index, ip) in spec.texts("externalIPs").enumerate() {
        warnings.extend(names::ip_warnings(&at.child("externalIPs").index(index), ip));
    }
    let named = spec.text("type") == "ExternalName";
    if !spec.list("externalIPs").is_empty() && !headless && !named {
        let rule = "spec.externalIPs is deprecated and may no longer be implemented in some clusters";
        warnings.push(rule.to_owned());
    }
    warnings.extend(names::ip_warnings(&at.child("loadBalancerIP"), spec.text("loadBalancerIP")));
    for (index, range) in spec.texts("loadBalancerSourceRanges").enumerate() {
        warnings.extend(names::cidr_warnings(&at.child("loadBalancerSourceRanges").index(index), range));
    }
    if named && !spec.list("externalIPs").is_empty() {
        warnings.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !named && !spec.text("externalName").is_empty() {
        warnings.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        let rule = "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"";
        warnings.push(rule.to_owned());
    }
    warnings
}

fn columns() -> Vec<Column> {
    let (column, wide) = (table::column, table::wide);
    vec![
        table::name(),
        column("Type", "string", "ServiceSpec.type"),
        column("Cluster-IP", "string", "ServiceSpec.clusterIP"),
        column("External-IP", "string", "ServiceSpec.externalIPs"),
        column("Port(s)", "string", "ServiceSpec.ports"),
        table::age(),
        wide("Selector", "string", "ServiceSpec.selector"),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    let port = |port: &Value| {
        let (own, protocol) = (port.int("port").unwrap_or(0), port.text("protocol"));
        match port.int("nodePort").filter(|node| *node > 0) {
            Some(node) => format!("{own}:{node}/{protocol}"),
            None => format!("{own}/{protocol}"),
        }
    };
    let ports: Vec<String> = spec.list("ports").iter().map(port).collect();
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    vec![
        object.name().into(),
        spec.text("type").into(),
        spec.texts("clusterIPs").next().unwrap_or("<none>").into(),
        outside(object, spec).into(),
        or_none(ports.join(",")).into(),
        table::age_of(object, now),
        table::labels(spec.map("selector")).into(),
    ]
}

/// Under which addresses it is known outside.
fn outside(object: &Object, spec: &Map<String, Value>) -> String {
    let external: Vec<&str> = spec.texts("externalIPs").collect();
    match spec.text("type") {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".to_owned(),
        "ClusterIP" | "NodePort" => external.join(","),
        "LoadBalancer" => {
            let ingress = object.status().field("loadBalancer").list("ingress").iter();
            let mut all: Vec<&str> = ingress
                .map(|ingress| {
                    if ingress.text("ip").is_empty() { ingress.text("hostname") } else { ingress.text("ip") }
                })
                .filter(|text| !text.is_empty())
                .collect();
            all.sort_unstable();
            all.dedup();
            all.extend(external);
            if all.is_empty() { "<pending>".to_owned() } else { all.join(",") }
        }
        "ExternalName" => spec.text("externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}
