//! EndpointSlice.

use super::endpoints;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use serde_json::Value;
use std::collections::HashSet;

const PORTS_MAX: usize = 20_000;
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// Who makes slices of what other objects say, and need not be told what is odd in them.
const CONTROLLERS: &[&str] = &["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.discovery.v1.EndpointSlice";
    Kind::new("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", type_name)
        .default(default)
        .prepare_create(drop_topology)
        .prepare_update(|_, object, old| {
            if object.0.get("endpoints") != old.0.get("endpoints") {
                drop_topology(object);
            }
        })
        .validate(|object| validate(object, None))
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    for list in ["endpoints", "ports"] {
        if object.0.list(list).is_empty() {
            object.0.insert(list.to_owned(), Value::Null);
        }
    }
    for endpoint in object.0.each("endpoints") {
        endpoint.inside("conditions");
    }
    for port in object.0.each("ports") {
        port.fill("name", "");
        port.fill("protocol", "TCP");
    }
}

/// The old way to tell where an endpoint is; this version does not take it.
fn drop_topology(object: &mut Object) {
    for endpoint in object.0.each("endpoints") {
        endpoint.remove("deprecatedTopology");
    }
}

fn validate(object: &Object, old: Option<&Object>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let (kind, path) = (object.0.text("addressType"), Path::new("addressType"));
    if kind.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        check::one_of(&mut errors, &path, kind, &["FQDN", "IPv4", "IPv6"]);
    }
    port_errors(&mut errors, object.0.list("ports"), &Path::new("ports"));
    let kept = old.is_some_and(|old| old.0.list("endpoints") == object.0.list("endpoints"));
    if !kept {
        endpoints::errors(&mut errors, object.0.list("endpoints"), kind, &Path::new("endpoints"));
    }
    errors
}

fn port_errors(errors: &mut FieldErrors, ports: &[Value], path: &Path) {
    if ports.len() > PORTS_MAX {
        errors.push(FieldError::too_many(path, ports.len(), PORTS_MAX));
        return;
    }
    let mut seen = HashSet::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        let name = port.text("name");
        if !name.is_empty() {
            errors.extend(check::invalid(&path.child("name"), name, names::dns_label(name, false)));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        match port.maybe("protocol") {
            None => errors.push(FieldError::required(&path.child("protocol"), "")),
            Some(protocol) => {
                check::one_of(errors, &path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]);
            }
        }
        if let Some(protocol) = port.maybe("appProtocol") {
            let wrong = names::qualified_name(protocol);
            errors.extend(check::invalid(&path.child("appProtocol"), protocol, wrong));
        }
    }
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object, Some(old));
    let (new, old) = (object.0.get("addressType"), old.0.get("addressType"));
    check::immutable(&mut errors, &Path::new("addressType"), new, old);
    errors
}

fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let mut warnings = Vec::new();
    if old.is_none() && object.0.text("addressType") == "FQDN" {
        warnings.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if object.label(MANAGED_BY).is_some_and(|manager| CONTROLLERS.contains(&manager)) {
        return warnings;
    }
    for (index, endpoint) in object.0.list("endpoints").iter().enumerate() {
        let path = Path::new("endpoints").index(index).child("addresses");
        for (index, address) in endpoint.texts("addresses").enumerate() {
            warnings.extend(names::ip_warnings(&path.index(index), address));
        }
    }
    warnings
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("AddressType", "string", "What its addresses are."),
        column("Ports", "string", "The ports of each endpoint."),
        column("Endpoints", "string", "The addresses."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let ports = object.0.list("ports").iter().map(|port| match port.int("port") {
        Some(number) => number.to_string(),
        None => port.maybe("name").unwrap_or("*").to_owned(),
    });
    let addresses = object.0.list("endpoints").iter().flat_map(|endpoint| endpoint.texts("addresses"));
    vec![
        object.name().into(),
        object.0.text("addressType").into(),
        first(&ports.collect::<Vec<_>>()).into(),
        first(&addresses.map(str::to_owned).collect::<Vec<_>>()).into(),
        table::age_of(object, now),
    ]
}

/// The first three, and how many there are beyond that.
fn first(all: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(",");
    match all.len() {
        count if count > SHOWN => format!("{shown} + {} more...", count - SHOWN),
        _ if shown.is_empty() => "<unset>".to_owned(),
        _ => shown,
    }
}
