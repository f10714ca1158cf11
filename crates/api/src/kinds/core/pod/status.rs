//! What is wrong with the status of a pod that a kubelet or controller writes.

use super::annotations;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check as base};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const STATUSES: &[&str] = &["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

/// What is wrong with an update of the status.
pub(super) fn check(new: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    annotations::check_update(&mut errors, &Path::new("metadata").child("annotations"), new, old);
    let path = Path::new("status");
    let empty = Map::new();
    let (status, kept) = (new.status().unwrap_or(&empty), old.status().unwrap_or(&empty));
    conditions(&mut errors, &path.child("conditions"), status.list("conditions"));
    nominated(&mut errors, &path, status, kept, old);
    if let Some(number) = status.int("observedGeneration").filter(|number| *number < 0) {
        errors.invalid(&path.child("observedGeneration"), number, "must be a non-negative integer");
    }
    if status.text("qosClass") != kept.text("qosClass") {
        errors.invalid(&path.child("qosClass"), status.text("qosClass"), base::IMMUTABLE);
    }
    for field in STATUSES {
        transitions(&mut errors, &path.child(field), field, status, kept, old.spec().unwrap_or(&empty));
    }
    claims(&mut errors, &path.child("resourceClaimStatuses"), status, new.spec().unwrap_or(&empty));
    addresses(&mut errors, &path, status, kept, "podIPs");
    if let Some(first) = status.list("hostIPs").first() {
        if first.text("ip") != status.text("hostIP") {
            let at = path.child("hostIPs").index(0).child("ip");
            errors.invalid(&at, first.text("ip"), "must be equal to `hostIP`");
        }
        addresses(&mut errors, &path, status, kept, "hostIPs");
    }
    for field in STATUSES {
        users(&mut errors, &path.child(field), status.list(field), new.spec().field("os").text("name"));
    }
    errors
}

fn conditions(errors: &mut FieldErrors, path: &Path, conditions: &[Value]) {
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index);
        if let Some(number) = condition.int("observedGeneration").filter(|number| *number < 0) {
            errors.invalid(&at.child("observedGeneration"), number, "must be a non-negative integer");
        }
        let name = condition.text("type");
        if !matches!(name, "PodScheduled" | "Ready" | "Initialized") {
            errors.malformed(&at, "Type", name, names::qualified_name(name));
        }
    }
}

fn nominated(
    errors: &mut FieldErrors,
    path: &Path,
    status: &Map<String, Value>,
    kept: &Map<String, Value>,
    old: &Object,
) {
    let node = status.text("nominatedNodeName");
    if node.is_empty() || node == kept.text("nominatedNodeName") {
        return;
    }
    errors.malformed(path, "nominatedNodeName", node, names::dns_subdomain(node, false));
    if !old.spec().text("nodeName").is_empty() {
        let rule = "may not be set on pods that are already bound to a node";
        errors.forbidden(&path.child("nominatedNodeName"), rule);
    }
}

/// A container that has ended runs again only where its pod or its own rules say so.
fn transitions(
    errors: &mut FieldErrors,
    path: &Path,
    field: &str,
    status: &Map<String, Value>,
    kept: &Map<String, Value>,
    spec: &Map<String, Value>,
) {
    let containers = match field {
        "containerStatuses" => spec.list("containers"),
        "initContainerStatuses" => spec.list("initContainers"),
        _ => &[],
    };
    if field != "ephemeralContainerStatuses" && any_restarts_all(spec) {
        return;
    }
    for (index, old) in kept.list(field).iter().enumerate() {
        let Some(ended) = old.field("state").field("terminated") else { continue };
        let name = old.text("name");
        let Some(new) = status.list(field).iter().find(|new| new.text("name") == name) else { continue };
        if new.field("state").has("terminated") {
            continue;
        }
        let container = containers.iter().find(|container| container.text("name") == name);
        let code = ended.int("exitCode").unwrap_or(0);
        if !container.is_some_and(|container| restarts(container, spec, code)) {
            errors.forbidden(
                &path.index(index).child("state"),
                "may not be transitioned to non-terminated state",
            );
        }
    }
}

/// Whether a rule of some container restarts all of them.
fn any_restarts_all(spec: &Map<String, Value>) -> bool {
    let all = spec.list("containers").iter().chain(spec.list("initContainers"));
    all.flat_map(|container| container.list("restartPolicyRules"))
        .any(|rule| rule.text("action") == "RestartAllContainers")
}

fn restarts(container: &Value, spec: &Map<String, Value>, code: i64) -> bool {
    let by_rule = container.list("restartPolicyRules").iter().any(|rule| {
        let codes = rule.field("exitCodes");
        let listed = codes.list("values").iter().any(|value| value.as_i64() == Some(code));
        rule.text("action") == "Restart" && listed == (codes.text("operator") == "In")
    });
    let policy = container.maybe("restartPolicy").unwrap_or_else(|| spec.text("restartPolicy"));
    by_rule || policy == "Always" || (policy == "OnFailure" && code != 0)
}

fn claims(errors: &mut FieldErrors, path: &Path, status: &Map<String, Value>, spec: &Map<String, Value>) {
    let mut names_seen = BTreeSet::new();
    for (index, claim) in status.list("resourceClaimStatuses").iter().enumerate() {
        let at = path.index(index);
        let name = claim.text("name");
        if !spec.list("resourceClaims").iter().any(|own| own.text("name") == name) {
            errors.invalid(
                &at.child("name"),
                name,
                "must match the name of an entry in `spec.resourceClaims`",
            );
        }
        if !names_seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        if let Some(made) = claim.maybe("resourceClaimName") {
            errors.malformed(&at, "resourceClaimName", made, names::dns_subdomain(made, false));
        }
    }
}

/// Addresses are well formed, or as they were; one of each family.
fn addresses(
    errors: &mut FieldErrors,
    path: &Path,
    status: &Map<String, Value>,
    kept: &Map<String, Value>,
    field: &str,
) {
    let at = path.child(field);
    let old: Vec<&str> = kept.list(field).iter().map(|ip| ip.text("ip")).collect();
    let list = status.list(field);
    for (index, ip) in list.iter().enumerate() {
        errors.extend(names::ip_of_old(&at.index(index), ip.text("ip"), true, &old));
    }
    let foreign = list.iter().position(|ip| names::parse_ip(ip.text("ip")).is_none());
    if let Some(index) = foreign.filter(|_| list.len() > 1) {
        let ip = list[index].text("ip");
        let cause = format!("failed to check for dual stack with error:invalid IP[{index}]: {ip}");
        errors.push(FieldError::internal(&at, cause));
    }
    let families: BTreeSet<bool> =
        list.iter().filter_map(|ip| names::parse_ip(ip.text("ip"))).map(|ip| ip.is_ipv4()).collect();
    if list.len() > 1 && (families.len() != 2 || list.len() > 2) {
        let shown: Vec<Value> = list.iter().map(|ip| serde_json::json!({ "IP": ip.text("ip") })).collect();
        errors.invalid(&at, shown, "may specify no more than one IP for each IP family");
    }
}

fn users(errors: &mut FieldErrors, path: &Path, statuses: &[Value], os: &str) {
    for (index, status) in statuses.iter().enumerate() {
        let Some(user) = status.field("user").field("linux") else { continue };
        let at = path.index(index).child("user").child("linux");
        if os == "windows" {
            errors.forbidden(&at, "cannot be set for a windows pod");
            continue;
        }
        for field in ["uid", "gid"] {
            let id = user.int(field).unwrap_or(0);
            for detail in names::numeric_id(id) {
                errors.invalid(&at.child(field), id, detail);
            }
        }
        for (group_index, group) in user.list("supplementalGroups").iter().enumerate() {
            let group = group.as_i64().unwrap_or(0);
            for detail in names::numeric_id(group) {
                errors.invalid(&at.child("supplementalGroups").index(group_index), group, detail);
            }
        }
    }
}
