//! Requests and limits of containers and pods.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::contract::quantity::Quantity;
use crate::kinds::base::{Errors, Fields};
use crate::kinds::core::resource_names as resource;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The quantity in a value that the schema has checked.
pub(in crate::kinds) fn quantity(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// Which names `requests` and `limits` may have.
type NameCheck = fn(&mut FieldErrors, &Path, &str);

/// What is wrong with the resources of a container; `claims` are the names of the pod's resource claims.
pub(super) fn check(errors: &mut FieldErrors, path: &Path, resources: &Value, claims: &BTreeSet<&str>) {
    requirements(errors, path, resources, claims, container_name);
}

/// What is wrong with the overhead of a runtime: limits without requests, told without `limits` in the path of names.
pub(super) fn check_overhead(errors: &mut FieldErrors, path: &Path, overhead: &Map<String, Value>) {
    let resources = serde_json::json!({ "limits": overhead });
    requirements(errors, path, &resources, &BTreeSet::new(), container_name);
}

fn requirements(
    errors: &mut FieldErrors,
    path: &Path,
    resources: &Value,
    claims: &BTreeSet<&str>,
    name_check: NameCheck,
) {
    let limits = resources.map("limits");
    let (mut huge, mut ordinary) = (false, false);
    for field in ["limits", "requests"] {
        let Some(list) = resources.map(field) else { continue };
        let list_path = path.child(field);
        for (name, value) in list {
            let Some(amount) = quantity(value) else { continue };
            let at = list_path.key(name);
            name_check(errors, &at, name);
            resource::amount(errors, &at, name, &amount);
            if field == "requests" {
                against_limit(errors, path, name, &amount, limits);
            }
            if resource::is_huge_page(name) {
                huge = true;
                if !resource::is_whole_pages(name, &amount) {
                    let rule = format!("{amount} is not positive integer multiple of {name}");
                    errors.invalid(&at, amount.to_string(), rule);
                }
            }
            ordinary |= matches!(name.as_str(), "cpu" | "memory");
        }
    }
    if huge && !ordinary {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
    claim_names(errors, &path.child("claims"), resources.list("claims"), claims);
}

/// A request is not above its limit, and equal to it where the resource cannot be overcommitted.
fn against_limit(
    errors: &mut FieldErrors,
    path: &Path,
    name: &str,
    amount: &Quantity,
    limits: Option<&Map<String, Value>>,
) {
    let overcommit = resource::can_overcommit(name);
    match limits.field(name).and_then(quantity) {
        Some(limit) if *amount != limit && !overcommit => {
            let rule = format!("must be equal to {name} limit of {limit}");
            errors.invalid(&path.child("requests"), amount.to_string(), rule);
        }
        Some(limit) if *amount > limit => {
            let rule = format!("must be less than or equal to {name} limit of {limit}");
            errors.invalid(&path.child("requests"), amount.to_string(), rule);
        }
        Some(_) => {}
        None if !overcommit => {
            errors.required(&path.child("limits"), "Limit must be set for non overcommitable resources");
        }
        None => {}
    }
}

pub(super) fn container_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    resource::any_name(errors, path, name);
    if !name.contains('/') {
        if !resource::is_of_containers(name) {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !resource::is_native(name) && !resource::is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

fn pod_name(errors: &mut FieldErrors, path: &Path, name: &str) {
    let before = errors.len();
    resource::any_name(errors, path, name);
    if errors.len() == before && !is_of_pods(name) {
        errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// Whether a resource can be set for a pod as a whole.
pub(super) fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || resource::is_huge_page(name)
}

fn claim_names(errors: &mut FieldErrors, path: &Path, list: &[Value], claims: &BTreeSet<&str>) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (index, claim) in list.iter().enumerate() {
        let at = path.index(index);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.required(&at, "");
        } else if seen.contains(name) {
            errors.duplicate(&at, name);
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                errors.malformed(&at, "request", request, names::dns_label(request, false));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.duplicate(&at, &key);
            } else if request.is_empty() {
                let prefix = format!("{name}/");
                for _ in seen.iter().filter(|other| other.starts_with(&prefix)) {
                    errors.duplicate(&at, name);
                }
            }
            seen.insert(key);
        }
        if !name.is_empty() && !claims.contains(name) {
            let mut error = crate::contract::field::FieldError::not_found(&at, name);
            error.detail = if claims.is_empty() {
                "must be one of the names in pod.spec.resourceClaims which is empty".to_owned()
            } else {
                let claims: Vec<&str> = claims.iter().copied().collect();
                format!("must be one of the names in pod.spec.resourceClaims: {}", claims.join(", "))
            };
            errors.push(error);
        }
    }
}

/// What is wrong with the resources of a pod as a whole, against those of its containers.
pub(super) fn check_pod(
    errors: &mut FieldErrors,
    path: &Path,
    spec: &Map<String, Value>,
    claims: &BTreeSet<&str>,
) {
    let Some(resources) = spec.field("resources") else { return };
    let at = path.child("resources");
    if spec.field("os").text("name") == "windows" {
        errors.forbidden(&at, "may not be set for a windows pod");
        return;
    }
    if resources.has("claims") {
        errors.forbidden(&at.child("claims"), "claims may not be set for Resources at pod-level");
    }
    requirements(errors, &at, resources, claims, pod_name);
    consistency(errors, &at, spec, resources);
}

fn consistency(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>, resources: &Value) {
    for (name, sum) in super::qos::sum(spec, "requests") {
        let Some(whole) = resources.field("requests").field(&name).and_then(quantity) else { continue };
        if sum > whole {
            let rule = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&at.child("requests").key(&name), whole.to_string(), rule);
        }
    }
    for (name, sum) in super::qos::sum(spec, "limits") {
        let Some(whole) = resources.field("limits").field(&name).and_then(quantity) else { continue };
        if resource::is_huge_page(&name) && sum > whole {
            let rule = format!("must be greater than or equal to aggregate container limits of {sum}");
            errors.invalid(&at.child("limits").key(&name), whole.to_string(), rule);
        }
    }
    for (index, container) in spec.list("containers").iter().enumerate() {
        for (name, value) in container.field("resources").entries("limits") {
            let whole = resources.field("limits").field(name).and_then(quantity);
            let (Some(whole), Some(limit)) = (whole, quantity(value)) else { continue };
            if limit > whole {
                let at = at.child("containers").index(index).key(name).child("limits");
                let rule = format!("must be less than or equal to pod limits of {whole}");
                errors.invalid(&at, limit.to_string(), rule);
            }
        }
    }
}
