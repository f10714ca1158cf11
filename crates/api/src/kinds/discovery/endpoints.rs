//! The endpoints of a slice.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Fields, check};
use crate::kinds::names::fully_qualified;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::net::IpAddr;

const ENDPOINTS_MAX: usize = 1000;
const ADDRESSES_MAX: usize = 100;
const HINTS_MAX: usize = 8;

/// What is wrong with endpoints whose addresses are of `kind`.
pub(super) fn errors(errors: &mut FieldErrors, endpoints: &[Value], kind: &str, path: &Path) {
    if endpoints.len() > ENDPOINTS_MAX {
        errors.push(FieldError::too_many(path, endpoints.len(), ENDPOINTS_MAX));
        return;
    }
    for (index, endpoint) in endpoints.iter().enumerate() {
        let path = path.index(index);
        addresses(errors, endpoint, kind, &path.child("addresses"));
        if let Some(node) = endpoint.maybe("nodeName") {
            errors.extend(check::invalid(&path.child("nodeName"), node, names::dns_subdomain(node, false)));
        }
        if let Some(host) = endpoint.maybe("hostname") {
            errors.extend(check::invalid(&path.child("hostname"), host, names::dns_label(host, false)));
        }
        if let Some(told) = endpoint.map("hints") {
            hints(errors, told, &path.child("hints"));
        }
    }
}

fn addresses(errors: &mut FieldErrors, endpoint: &Value, kind: &str, path: &Path) {
    let count = endpoint.list("addresses").len();
    if count == 0 {
        errors.push(FieldError::required(path, "must contain at least 1 address"));
    } else if count > ADDRESSES_MAX {
        errors.push(FieldError::too_many(path, count, ADDRESSES_MAX));
    }
    for (index, address) in endpoint.texts("addresses").enumerate() {
        let at = path.index(index);
        let wrong = match kind {
            "IPv4" => names::ip_of_old(&at, address, true, &[]),
            "IPv6" => names::ip(&at, address),
            "FQDN" => {
                errors.extend(domain(&at, address));
                continue;
            }
            _ => continue,
        };
        let Some(ip) = names::parse_ip(address).filter(|_| wrong.is_empty()) else {
            errors.extend(wrong);
            continue;
        };
        if ip.is_ipv4() != (kind == "IPv4") {
            errors.push(FieldError::invalid(path, address, format!("must be an {kind} address")));
        }
        special(errors, ip, address, &at);
    }
}

fn domain(path: &Path, name: &str) -> FieldErrors {
    let bare = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    let mut errors = if bare.is_empty() {
        vec![FieldError::invalid(path, bare, names::dns_subdomain(bare, false).join(","))]
    } else {
        fully_qualified(path, bare, 2)
    };
    if errors.is_empty() {
        let wrong = bare.split('.').map(|label| (label, names::dns_label(label, false)));
        if let Some((label, wrong)) = wrong.into_iter().find(|(_, wrong)| !wrong.is_empty()) {
            errors.push(FieldError::invalid(path, label, wrong.join(",")));
        }
    }
    errors
}

/// Addresses that no service can be at.
fn special(errors: &mut FieldErrors, ip: IpAddr, shown: &str, path: &Path) {
    let (link_local, multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), matches!(ip.octets(), [224, 0, 0, _])),
        IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0 == 0xfe80, ip.segments()[0] & 0xff0f == 0xff02),
    };
    for (is, detail) in [
        (ip.is_unspecified(), format!("may not be unspecified ({shown})").as_str()),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"),
    ] {
        if is {
            errors.push(FieldError::invalid(path, shown, detail));
        }
    }
}

type Wrong = fn(&str) -> Vec<String>;

fn hints(errors: &mut FieldErrors, hints: &Map<String, Value>, path: &Path) {
    let wrong: [(&str, Wrong); 2] =
        [("forZones", names::label_value), ("forNodes", |name| names::dns_subdomain(name, false))];
    for (field, wrong) in wrong {
        let (list, path) = (hints.list(field), path.child(field));
        if list.len() > HINTS_MAX {
            errors.push(FieldError::too_many(&path, list.len(), HINTS_MAX));
            return;
        }
        let mut seen = HashSet::new();
        for (index, hint) in list.iter().enumerate() {
            let (name, path) = (hint.text("name"), path.index(index).child("name"));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path, name));
            }
            errors.extend(check::invalid(&path, name, wrong(name)));
        }
    }
}
