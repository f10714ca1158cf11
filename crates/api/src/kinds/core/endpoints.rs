//! Endpoints.

use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Errors, Fields, Kind, table};
use crate::resource::Column;
use serde_json::Value;
use std::net::IpAddr;

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Endpoints", "endpoints", "io.k8s.api.core.v1.Endpoints")
        .short(&["ep"])
        .listed_as("EndpointsList")
        .without_generation()
        .prepare_create(|_| {})
        .default(|object| {
            for subset in object.0.each("subsets") {
                subset.each("ports").for_each(|port| port.fill_text("protocol", "TCP"));
            }
        })
        .validate(validate)
        .validate_update(|_, new, old| {
            if new.0.field("subsets") == old.0.field("subsets") { FieldErrors::new() } else { validate(new) }
        })
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .table(columns, row)
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, subset) in object.0.list("subsets").iter().enumerate() {
        let at = Path::new("subsets").index(index);
        if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (index, address) in subset.list(field).iter().enumerate() {
                check_address(&mut errors, &at.child(field).index(index), address);
            }
        }
        let ports = subset.list("ports");
        for (index, port) in ports.iter().enumerate() {
            check_port(&mut errors, &at.child("ports").index(index), port, ports.len() > 1);
        }
    }
    errors
}

fn check_address(errors: &mut FieldErrors, at: &Path, address: &Value) {
    let (ip, host) = (address.text("ip"), address.text("hostname"));
    errors.extend(names::ip_of_old(&at.child("ip"), ip, true, &[]));
    if !host.is_empty() {
        errors.malformed(at, "hostname", host, names::dns_label(host, false));
    }
    if let Some(node) = address.maybe("nodeName") {
        errors.malformed(at, "nodeName", node, names::dns_subdomain(node, false));
    }
    check_ip(errors, &at.child("ip"), ip);
}

/// An address that can be that of an endpoint.
pub(in crate::kinds) fn check_ip(errors: &mut FieldErrors, path: &Path, text: &str) {
    let Some(ip) = names::parse_ip(text) else {
        errors.invalid(path, text, "must be a valid IP address");
        return;
    };
    if ip.is_unspecified() {
        errors.invalid(path, text, format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        errors.invalid(path, text, "may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (ip.is_unicast_link_local(), ip.segments()[0] & 0xff0f == 0xff02),
    };
    if local {
        errors.invalid(path, text, "may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        errors.invalid(path, text, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

fn check_port(errors: &mut FieldErrors, at: &Path, port: &Value, named: bool) {
    let (name, number) = (port.text("name"), port.int("port").unwrap_or(0));
    if !name.is_empty() {
        errors.malformed(at, "name", name, names::dns_label(name, false));
    } else if named {
        errors.required(&at.child("name"), "");
    }
    for detail in names::port_number(number) {
        errors.invalid(&at.child("port"), number, detail);
    }
    errors.choice(at, port, "protocol", &["SCTP", "TCP", "UDP"], true);
    if let Some(protocol) = port.maybe("appProtocol") {
        errors.malformed(at, "appProtocol", protocol, names::qualified_name(protocol));
    }
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Endpoints", "string", "Endpoints.subsets"), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), addresses(object).into(), table::age_of(object, now)]
}

/// The first three addresses with their ports, and how many more there are.
fn addresses(object: &Object) -> String {
    const MOST: usize = 3;
    let subsets = object.0.list("subsets");
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let mut all = Vec::new();
    for subset in subsets {
        let ips: Vec<&str> = subset.list("addresses").iter().map(|address| address.text("ip")).collect();
        if subset.list("ports").is_empty() {
            all.extend(ips.iter().map(|ip| (*ip).to_owned()));
        }
        for port in subset.list("ports") {
            let port = port.int("port").unwrap_or(0);
            all.extend(
                ips.iter().map(|ip| {
                    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
                }),
            );
        }
    }
    let more = all.len().saturating_sub(MOST);
    all.truncate(MOST);
    if more > 0 { format!("{} + {more} more...", all.join(",")) } else { all.join(",") }
}
