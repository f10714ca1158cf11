//! Ingress.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::names::path_segment;
use crate::kinds::{idle, shown};
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The class of an ingress before there was a field for it.
const CLASS: &str = "kubernetes.io/ingress.class";
const NO_ADDRESS: &str = "must be a DNS name, not an IP address";

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "Ingress", "ingresses", "io.k8s.api.networking.v1.Ingress")
        .short(&["ing"])
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({"loadBalancer": {}}))))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    object.make(&["spec"]);
    if let Some(status) = object.0.within("status") {
        status.inside("loadBalancer");
    }
}

/// What old ingresses may keep although new ones may not have it.
#[derive(Clone, Copy, Default)]
struct Kept {
    /// A name of a secret that is none.
    secret: bool,
    /// Rules of hosts with a wildcard that are wrong.
    wildcard: bool,
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = spec_errors(object.spec(), Kept::default());
    let told = object.strings("annotations").and_then(|all| all.maybe(CLASS));
    let class = object.spec().maybe("ingressClassName");
    if let (Some(told), Some(class)) = (told, class)
        && told != class
    {
        let at = Path::new("annotations").child(CLASS);
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&at, told, detail));
    }
    errors
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part == Part::Status {
        return status_errors(object, old);
    }
    let spec = old.spec();
    let list = |field| spec.items(field);
    let bad_secret = |tls: &Value| {
        let name = tls.text("secretName");
        !name.is_empty() && !names::dns_subdomain(name, false).is_empty()
    };
    let bad_wildcard = |rule: &Value| {
        let mut errors = FieldErrors::new();
        rule_errors(&mut errors, rule, &Path::root());
        rule.text("host").contains('*') && !errors.is_empty()
    };
    let kept =
        Kept { secret: list("tls").iter().any(bad_secret), wildcard: list("rules").iter().any(bad_wildcard) };
    spec_errors(object.spec(), kept)
}

fn spec_errors(spec: Option<&Map<String, Value>>, kept: Kept) -> FieldErrors {
    let path = Path::new("spec");
    let mut errors = FieldErrors::new();
    let list = |field| spec.items(field);
    let backend = spec.field("defaultBackend");
    if list("rules").is_empty() && backend.is_none() {
        let rules = spec.field("rules").map_or_else(|| "null".to_owned(), Value::to_string);
        let detail = "either `defaultBackend` or `rules` must be specified";
        errors.push(shown::invalid(&path, rules, detail));
    }
    if let Some(backend) = backend {
        backend_errors(&mut errors, Some(backend), &path.child("defaultBackend"));
    }
    for (index, rule) in list("rules").iter().enumerate() {
        let path = path.child("rules").index(index);
        let wildcard = host_errors(&mut errors, rule.text("host"), &path.child("host"));
        if !wildcard || !kept.wildcard {
            rule_errors(&mut errors, rule, &path);
        }
    }
    for (index, tls) in list("tls").iter().enumerate() {
        let path = path.child("tls").index(index);
        for (index, host) in tls.texts("hosts").enumerate() {
            let wrong = if host.contains('*') {
                names::wildcard_subdomain(host)
            } else {
                names::dns_subdomain(host, false)
            };
            errors.extend(check::invalid(&path.child("hosts").index(index), host, wrong));
        }
        let secret = tls.text("secretName");
        if !kept.secret && !secret.is_empty() {
            let wrong = names::dns_subdomain(secret, false);
            errors.extend(check::invalid(&path.child("secretName"), secret, wrong));
        }
    }
    if let Some(class) = spec.maybe("ingressClassName") {
        let wrong = names::dns_subdomain(class, false);
        errors.extend(check::invalid(&path.child("ingressClassName"), class, wrong));
    }
    errors
}

/// Says whether the host has a wildcard.
fn host_errors(errors: &mut FieldErrors, host: &str, path: &Path) -> bool {
    if host.is_empty() {
        return false;
    }
    if names::parse_ip(host).is_some() {
        errors.push(FieldError::invalid(path, host, NO_ADDRESS));
    }
    let wildcard = host.contains('*');
    let wrong = if wildcard { names::wildcard_subdomain(host) } else { names::dns_subdomain(host, false) };
    errors.extend(check::invalid(path, host, wrong));
    wildcard
}

fn rule_errors(errors: &mut FieldErrors, rule: &Value, path: &Path) {
    let Some(http) = rule.map("http") else { return };
    let path = path.child("http").child("paths");
    if http.list("paths").is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    for (index, rule) in http.list("paths").iter().enumerate() {
        path_errors(errors, rule, &path.index(index));
    }
}

fn path_errors(errors: &mut FieldErrors, rule: &Value, path: &Path) {
    let Some(kind) = rule.maybe("pathType") else {
        errors.push(FieldError::required(&path.child("pathType"), "pathType must be specified"));
        return;
    };
    let (text, at) = (rule.text("path"), path.child("path"));
    let mut refuse = |detail: String| errors.push(FieldError::invalid(&at, text, detail));
    match kind {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                refuse("must be an absolute path".to_owned());
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"].into_iter().filter(|part| text.contains(part)) {
                refuse(format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].into_iter().filter(|end| text.ends_with(end)) {
                refuse(format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                refuse("must be an absolute path".to_owned());
            }
        }
        other => {
            let supported = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(FieldError::not_supported(&path.child("pathType"), other, &supported));
        }
    }
    backend_errors(errors, rule.field("backend"), &path.child("backend"));
}

fn backend_errors(errors: &mut FieldErrors, backend: Option<&Value>, path: &Path) {
    let of = |field| backend.and_then(|backend| backend.map(field));
    match (of("resource"), of("service")) {
        (Some(_), Some(_)) => {
            errors.push(FieldError::invalid(path, "", "cannot set both resource and service backends"));
        }
        (Some(resource), None) => typed_reference(errors, resource, &path.child("resource")),
        (None, Some(service)) => service_errors(errors, service, path),
        (None, None) => {
            errors.push(FieldError::invalid(path, "", "resource or service backend is required"));
        }
    }
}

/// What is wrong with a reference by group, kind and name.
pub(super) fn typed_reference(errors: &mut FieldErrors, reference: &Map<String, Value>, path: &Path) {
    if let Some(group) = reference.maybe("apiGroup") {
        let wrong = names::dns_subdomain(group, false);
        errors.extend(check::invalid(&path.child("apiGroup"), group, wrong));
    }
    for field in ["kind", "name"] {
        errors.extend(path_segment(&path.child(field), reference.text(field)));
    }
}

fn service_errors(errors: &mut FieldErrors, service: &Map<String, Value>, path: &Path) {
    let (name, at) = (service.text("name"), path.child("service"));
    if name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else {
        errors.extend(check::invalid(&at.child("name"), name, names::dns_label(name, false)));
    }
    let port = service.map("port");
    let at = at.child("port");
    match (port.text("name"), port.int("number").unwrap_or(0)) {
        ("", 0) => errors.push(FieldError::required(path, "port name or number is required")),
        ("", number) => check::port(errors, &at.child("number"), Some(&number.into())),
        (name, 0) => check::port(errors, &at.child("name"), Some(&name.into())),
        _ => errors.push(FieldError::invalid(path, "", "cannot set both port name & port number")),
    }
}

fn entries(object: &Object) -> &[Value] {
    let balancer = object.status().under("loadBalancer");
    balancer.items("ingress")
}

fn status_errors(object: &Object, old: &Object) -> FieldErrors {
    let kept: Vec<&str> = entries(old).iter().filter_map(|entry| entry.maybe("ip")).collect();
    let path = Path::new("status").child("loadBalancer").child("ingress");
    let mut errors = FieldErrors::new();
    for (index, entry) in entries(object).iter().enumerate() {
        let path = path.index(index);
        if let Some(ip) = entry.maybe("ip").filter(|ip| !ip.is_empty()) {
            errors.extend(names::ip_of_old(&path.child("ip"), ip, true, &kept));
        }
        let (host, at) = (entry.text("hostname"), path.child("hostname"));
        if !host.is_empty() {
            errors.extend(check::invalid(&at, host, names::dns_subdomain(host, false)));
            if names::parse_ip(host).is_some() {
                errors.push(FieldError::invalid(&at, host, NO_ADDRESS));
            }
        }
    }
    errors
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let mut warnings = idle::warnings(object, old);
    let annotated = object.strings("annotations").is_some_and(|all| all.contains_key(CLASS));
    if old.is_none() && annotated && !object.spec().has("ingressClassName") {
        warnings
            .push(format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"));
    }
    warnings
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Class", "string", "Which controller serves it."),
        column("Hosts", "string", "Names under which it is reached."),
        column("Address", "string", "Addresses under which it is reached."),
        column("Ports", "string", "Ports on which it is reached."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let addresses: BTreeSet<&str> = entries(object)
        .iter()
        .map(|entry| entry.maybe("ip").filter(|ip| !ip.is_empty()).unwrap_or_else(|| entry.text("hostname")))
        .filter(|address| !address.is_empty())
        .collect();
    let secure = spec.is_some_and(|spec| !spec.list("tls").is_empty());
    vec![
        object.name().into(),
        spec.maybe("ingressClassName").unwrap_or("<none>").into(),
        hosts(spec.items("rules")).into(),
        addresses.into_iter().collect::<Vec<_>>().join(",").into(),
        if secure { "80, 443" } else { "80" }.into(),
        table::age_of(object, now),
    ]
}

/// The first three hosts, and how many rules there are beyond that.
fn hosts(rules: &[Value]) -> String {
    const SHOWN: usize = 3;
    let mut shown: Vec<&str> = Vec::new();
    let mut more = false;
    for rule in rules {
        more |= shown.len() == SHOWN;
        let host = rule.text("host");
        if !more && !host.is_empty() {
            shown.push(host);
        }
    }
    match shown.is_empty() {
        true => "*".to_owned(),
        false if more => format!("{} + {} more...", shown.join(","), rules.len() - SHOWN),
        false => shown.join(","),
    }
}
