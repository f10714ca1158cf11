//! What is wrong with the spec of a pod or of a template.

use super::containers::{self, Pod};
use super::{affinity, all_containers, env, resources, security, volumes, windows};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check};
use crate::kinds::core::scheduling;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Everything that is wrong with a spec, in Kubernetes' order. `meta` is the metadata of a pod; of a template none.
pub(super) fn check(
    errors: &mut FieldErrors,
    path: &Path,
    spec: &Map<String, Value>,
    meta: Option<&Map<String, Value>>,
) {
    if !spec.has("terminationGracePeriodSeconds") {
        errors.required(&path.child("terminationGracePeriodSeconds"), "");
    }
    let pod_name = meta.text("name");
    let mut pod = Pod {
        spec,
        volumes: Vec::new(),
        claims: spec.list("resourceClaims").iter().map(|claim| claim.text("name")).collect(),
        host_users: spec.flag("hostUsers") != Some(false),
    };
    pod.claims.remove("");
    volumes::check(errors, &path.child("volumes"), spec, pod_name, meta.is_some(), &mut pod.volumes);
    resource_claims(errors, &path.child("resourceClaims"), spec.list("resourceClaims"), meta);
    containers::check(errors, &path.child("containers"), &pod);
    containers::check_init(errors, &path.child("initContainers"), &pod);
    containers::check_ephemeral(errors, &path.child("ephemeralContainers"), &pod);
    resources::check_pod(errors, path, spec, &pod.claims);
    host_network_ports(errors, path, spec, meta.is_some());
    errors.choice(path, spec, "restartPolicy", &["Always", "OnFailure", "Never"], true);
    let dns_policies = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    errors.choice(path, spec, "dnsPolicy", dns_policies, true);
    if let Some(labels) = spec.map("nodeSelector") {
        errors.extend(names::labels_errors(&path.child("nodeSelector"), labels));
    }
    if let Some(context) = spec.field("securityContext") {
        security::check_pod(errors, &path.child("securityContext"), context, spec);
    }
    if let Some(value) = spec.field("affinity") {
        affinity::check(errors, &path.child("affinity"), value);
    }
    dns(errors, &path.child("dnsConfig"), spec);
    gates(errors, path, spec);
    let spread = spec.list("topologySpreadConstraints");
    affinity::check_spread(errors, &path.child("topologySpreadConstraints"), spread);
    windows::check_host_process(errors, path, spec);
    security::check_host_users(errors, path, spec);
    hostname_override(errors, path, spec);
    rest(errors, path, spec);
}

fn rest(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    for field in ["serviceAccountName", "nodeName"] {
        subdomain(errors, path, spec, field);
    }
    let most = i64::from(i32::MAX);
    if let Some(seconds) = spec.int("activeDeadlineSeconds").filter(|seconds| !(1..=most).contains(seconds)) {
        errors.invalid(&path.child("activeDeadlineSeconds"), seconds, names::between(1, most));
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.text(field);
        if !name.is_empty() {
            errors.malformed(path, field, name, names::dns_label(name, false));
        }
    }
    scheduling::tolerations(errors, &path.child("tolerations"), spec.list("tolerations"));
    host_aliases(errors, &path.child("hostAliases"), spec.list("hostAliases"));
    subdomain(errors, path, spec, "priorityClassName");
    if let Some(class) = spec.maybe("runtimeClassName") {
        errors.malformed(path, "runtimeClassName", class, names::dns_subdomain(class, false));
    }
    if spec.has("preemptionPolicy") {
        errors.choice(path, spec, "preemptionPolicy", &["PreemptLowerPriority", "Never"], true);
    }
    if let Some(overhead) = spec.map("overhead") {
        resources::check_overhead(errors, &path.child("overhead"), overhead);
    }
    windows::check_os(errors, path, spec);
    for (at, container) in all_containers(path, spec) {
        env::check_file_volumes(errors, &at, container.list("env"), spec.list("volumes"));
    }
}

fn subdomain(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>, field: &str) {
    let name = spec.text(field);
    if !name.is_empty() {
        errors.malformed(path, field, name, names::dns_subdomain(name, false));
    }
}

fn resource_claims(
    errors: &mut FieldErrors,
    path: &Path,
    claims: &[Value],
    meta: Option<&Map<String, Value>>,
) {
    let mut names_seen = BTreeSet::new();
    let mirror = meta.field("annotations").has(super::annotations::MIRROR);
    for (index, claim) in claims.iter().enumerate() {
        if mirror {
            errors.forbidden(&check::whole(), "static pods do not support resource claims");
            continue;
        }
        let at = path.index(index);
        let name = claim.text("name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if names_seen.insert(name) {
            errors.malformed(&at, "name", name, names::dns_label(name, false));
        } else {
            errors.duplicate(&at.child("name"), name);
        }
        let (by_name, by_template) =
            (claim.maybe("resourceClaimName"), claim.maybe("resourceClaimTemplateName"));
        let rule = match (by_name, by_template) {
            (Some(_), Some(_)) => {
                Some("at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified")
            }
            (None, None) => Some("must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => None,
        };
        if let Some(rule) = rule {
            errors.invalid_inside(&at, "PodResourceClaim", claim, rule);
        }
        for (field, value) in [("resourceClaimName", by_name), ("resourceClaimTemplateName", by_template)] {
            if let Some(value) = value {
                errors.malformed(&at, field, value, names::dns_subdomain(value, false));
            }
        }
    }
}

/// On the network of the host a container's port is a port of the host.
fn host_network_ports(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>, is_pod: bool) {
    if !spec.is("hostNetwork") {
        return;
    }
    for (index, container) in spec.list("containers").iter().enumerate() {
        for (port_index, port) in container.list("ports").iter().enumerate() {
            let (host, own) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            if (is_pod || host != 0) && host != own {
                let at =
                    path.child("containers").index(index).child("ports").index(port_index).child("hostPort");
                errors.invalid(&at, host, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

fn dns(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>) {
    const SERVERS: usize = 3;
    const SEARCHES: usize = 32;
    const CHARACTERS: usize = 2048;
    let config = spec.field("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        if config.is_none() {
            errors.required(at, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if config.list("nameservers").is_empty() {
            let rule = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.required(&at.child("nameservers"), rule);
            return;
        }
    }
    let Some(config) = config else { return };
    let servers = config.list("nameservers");
    if servers.len() > SERVERS {
        let rule = format!("must not have more than {SERVERS} nameservers");
        errors.invalid(&at.child("nameservers"), servers.to_vec(), rule);
    }
    for (index, server) in config.texts("nameservers").enumerate() {
        errors.extend(names::ip_of_old(&at.child("nameservers").index(index), server, true, &[]));
    }
    let searches = config.list("searches");
    if searches.len() > SEARCHES {
        let rule = format!("must not have more than {SEARCHES} search paths");
        errors.invalid(&at.child("searches"), searches.to_vec(), rule);
    }
    let length = config.texts("searches").map(|search| search.len() + 1).sum::<usize>().saturating_sub(1);
    if length > CHARACTERS {
        let rule =
            format!("must not have more than {CHARACTERS} characters (including spaces) in the search list");
        errors.invalid(&at.child("searches"), searches.to_vec(), rule);
    }
    for (index, search) in config.texts("searches").enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        for detail in names::dns_subdomain_with_underscore(search) {
            errors.invalid(&at.child("searches").index(index), search, detail);
        }
    }
    for (index, option) in config.list("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.required(&at.child("options").index(index), "must not be empty");
        }
    }
}

fn gates(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    for (index, gate) in spec.list("readinessGates").iter().enumerate() {
        let name = gate.text("conditionType");
        let at = path.child("readinessGates").index(index);
        errors.malformed(&at, "conditionType", name, names::qualified_name(name));
    }
    let mut seen = BTreeSet::new();
    for (index, gate) in spec.list("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        let at = path.child("schedulingGates").index(index);
        errors.extend(names::qualified_name_errors(&at, name));
        if !seen.insert(name) {
            errors.duplicate(&at, name);
        }
    }
}

fn hostname_override(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    const MOST: usize = 64;
    let Some(name) = spec.maybe("hostnameOverride") else { return };
    let at = path.child("hostnameOverride");
    if spec.is("setHostnameAsFQDN") {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.is("hostNetwork") {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if name.len() > MOST {
        errors.push(FieldError::too_long(&at, MOST));
    }
    for detail in names::dns_subdomain(name, false) {
        errors.invalid(&at, name, detail);
    }
}

fn host_aliases(errors: &mut FieldErrors, path: &Path, aliases: &[Value]) {
    for (index, alias) in aliases.iter().enumerate() {
        let at = path.index(index);
        errors.extend(names::ip_of_old(&at.child("ip"), alias.text("ip"), true, &[]));
        for (name_index, name) in alias.texts("hostnames").enumerate() {
            for detail in names::dns_subdomain(name, false) {
                errors.invalid(&at.child("hostnames").index(name_index), name, detail);
            }
        }
    }
}
