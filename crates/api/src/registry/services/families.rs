//! Which families of addresses a service has.

use super::{kind, refused, texts};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names::{Cidr, parse_ip};
use crate::contract::{Object, Result};
use serde_json::Value;
use std::net::IpAddr;

/// The family's name.
pub(super) fn name(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn spec(field: &str) -> Path {
    Path::new("spec").child(field)
}

/// What an update that leaves out addresses and families means by that.
pub(super) fn keep(service: &mut Object, old: &Object) {
    let with_address = |service: &Object| !matches!(kind(service), "ExternalName" | "");
    let was_single = old.text(&["spec", "clusterIP"]).to_owned();
    let was = texts(old, "clusterIPs");
    if with_address(old) && with_address(service) {
        if service.text(&["spec", "clusterIP"]).is_empty() && !was_single.is_empty() {
            service.make(&["spec"]).insert("clusterIP".to_owned(), was_single.as_str().into());
        }
        if texts(service, "clusterIPs").is_empty() && !was.is_empty() {
            service.make(&["spec"]).insert("clusterIPs".to_owned(), was.clone().into());
        }
    }
    let is_single = service.text(&["spec", "clusterIP"]).to_owned();
    if was_single != is_single && texts(service, "clusterIPs") == was {
        if is_single.is_empty() {
            service.remove(&["spec", "clusterIPs"]);
        } else {
            service.make(&["spec"]).insert("clusterIPs".to_owned(), vec![is_single].into());
        }
    }
    if kind(service) == "ExternalName" && kind(old) != "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if service.at(&["spec", field]) == old.at(&["spec", field]) {
                service.remove(&["spec", field]);
            }
        }
    }
}

/// Fills in policy and families by what the ranges are.
pub(super) fn choose(service: &mut Object, old: Option<&Object>, ranges: &[Cidr]) -> Result<()> {
    let Some(default) = ranges.first().map(|range| name(range.address)) else { return Ok(()) };
    let configured = |family: &str| ranges.iter().any(|range| name(range.address) == family);
    let selects =
        service.at(&["spec", "selector"]).and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    let headless = service.text(&["spec", "clusterIP"]) == "None";
    let policy = policy(service, old, headless && !selects);
    let mut families = texts(service, "ipFamilies");
    let mut addresses = texts(service, "clusterIPs");
    if let Some(old) = old
        && policy == "SingleStack"
    {
        if texts(old, "clusterIPs") == addresses {
            addresses.truncate(1);
        }
        if texts(old, "ipFamilies") == families {
            families.truncate(1);
        }
    }
    let mut errors = policy_errors(&policy, old, &families, &addresses);
    for (index, address) in addresses.iter().enumerate().skip(families.len()) {
        let Some(address) = parse_ip(address) else { break };
        if configured(name(address)) {
            families.push(name(address).to_owned());
        } else {
            let detail = format!("{} is not configured on this cluster", name(address));
            errors.push(FieldError::invalid(&spec("clusterIPs").index(index), addresses.clone(), detail));
        }
    }
    if !errors.is_empty() {
        return Err(refused(service, errors));
    }
    if headless && !selects {
        if families.is_empty() {
            families.push(default.to_owned());
        }
        if policy != "SingleStack" {
            add_other(&mut families);
        }
        write(service, &policy, families, addresses);
        return Ok(());
    }
    if policy == "RequireDualStack" && ranges.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&spec("ipFamilyPolicy"), policy.as_str(), detail));
    }
    for (index, family) in families.iter().enumerate().filter(|(_, family)| !configured(family)) {
        let path = spec("ipFamilies").index(index);
        errors.push(FieldError::invalid(&path, family.as_str(), "not configured on this cluster"));
    }
    if !errors.is_empty() {
        return Err(refused(service, errors));
    }
    if families.is_empty() {
        families.push(default.to_owned());
    }
    if policy != "SingleStack" && ranges.len() > 1 {
        add_other(&mut families);
    }
    write(service, &policy, families, addresses);
    Ok(())
}

fn policy(service: &Object, old: Option<&Object>, open: bool) -> String {
    let text = |service: &Object| service.text(&["spec", "ipFamilyPolicy"]).to_owned();
    let given = text(service);
    let before = old.map(text).unwrap_or_default();
    match (given.is_empty(), before.is_empty()) {
        (false, _) => given,
        (true, false) => before,
        (true, true) if open => "RequireDualStack".to_owned(),
        (true, true) => "SingleStack".to_owned(),
    }
}

fn policy_errors(
    policy: &str,
    old: Option<&Object>,
    families: &[String],
    addresses: &[String],
) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut add = |detail: &str| errors.push(FieldError::invalid(&spec("ipFamilyPolicy"), policy, detail));
    if policy == "SingleStack" {
        if addresses.len() == 2 {
            add("must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified");
        }
        if families.len() == 2 {
            add("must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified");
        }
    } else if let Some(old) = old {
        if addresses.len() == 1 && texts(old, "clusterIPs").len() == 2 {
            add("must be 'SingleStack' to release the secondary cluster IP");
        }
        if families.len() == 1 && texts(old, "ipFamilies").len() == 2 {
            add("must be 'SingleStack' to release the secondary IP family");
        }
    }
    errors
}

fn add_other(families: &mut Vec<String>) {
    if families.len() == 1 {
        let other = if families[0] == "IPv4" { "IPv6" } else { "IPv4" };
        families.push(other.to_owned());
    }
}

fn write(service: &mut Object, policy: &str, families: Vec<String>, addresses: Vec<String>) {
    let spec = service.make(&["spec"]);
    spec.insert("ipFamilyPolicy".to_owned(), policy.into());
    spec.insert("ipFamilies".to_owned(), families.into());
    if !addresses.is_empty() {
        spec.insert("clusterIPs".to_owned(), addresses.into());
    }
}
