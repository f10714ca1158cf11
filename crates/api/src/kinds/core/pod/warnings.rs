//! Warnings about pods and templates: what is old, without effect, or said twice.

use super::annotations::APPARMOR;
use super::resources::quantity;
use super::{all_containers, files};
use crate::contract::Object;
use crate::contract::field::Path;
use crate::contract::names;
use crate::kinds::base::Fields;
use crate::kinds::core::claim;
use crate::kinds::node_labels::deprecated;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];

const VOLUMES: &[(&str, &str, &str)] = &[
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Warnings about a new pod.
pub(super) fn pod(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    let wrong = names::dns_label(object.name(), false);
    if !wrong.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            wrong.join(" ")
        ));
    }
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    all(&mut warnings, &Path::root(), spec, object.strings("annotations"), false);
    warnings
}

/// Warnings about a template at `path`.
pub(super) fn template(template: &Value, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    let empty = Map::new();
    let spec = template.map("spec").unwrap_or(&empty);
    all(&mut warnings, path, spec, template.field("metadata").and_then(|all| all.map("annotations")), true);
    warnings
}

fn all(
    warnings: &mut Vec<String>,
    path: &Path,
    spec: &Map<String, Value>,
    annotations: Option<&Map<String, Value>>,
    template: bool,
) {
    let at = path.child("spec");
    nodes(warnings, &at, spec);
    for (key, message) in ANNOTATIONS {
        if annotations.has(key) {
            warnings.push(format!("{}: {message}", path.child("metadata").child("annotations").key(key)));
        }
    }
    for (index, volume) in spec.list("volumes").iter().enumerate() {
        for (field, told, message) in VOLUMES.iter().filter(|(field, ..)| volume.has(field)) {
            let _ = field;
            warnings.push(format!("{}: {message}", at.child("volumes").index(index).child(told)));
        }
        let template = volume.field("ephemeral").field("volumeClaimTemplate");
        if let Some(template) = template {
            let at = at
                .child("volumes")
                .index(index)
                .child("ephemeral")
                .child("volumeClaimTemplate")
                .child("spec");
            warnings.extend(claim::spec_warnings(template.field("spec"), &at));
        }
    }
    warnings.extend(files::overlaps(spec));
    twice(warnings, &at, spec, "hostAliases", "ip");
    twice(warnings, &at, spec, "imagePullSecrets", "name");
    for (index, secret) in spec.list("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            let at = at.child("imagePullSecrets").index(index).child("name");
            warnings.push(format!("{at}: invalid empty name \"\""));
        }
    }
    fractions(warnings, &at.child("overhead"), spec.field("overhead"));
    profiles(warnings, path, spec, annotations, template);
    ports(warnings, &at, spec);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        let at = at.child("terminationGracePeriodSeconds");
        warnings.push(format!("{at}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    selectors(warnings, &at.child("affinity"), spec.field("affinity"));
    for (index, server) in spec.field("dnsConfig").texts("nameservers").enumerate() {
        warnings.extend(names::ip_warnings(&at.child("dnsConfig").child("nameservers").index(index), server));
    }
    for (index, alias) in spec.list("hostAliases").iter().enumerate() {
        warnings
            .extend(names::ip_warnings(&at.child("hostAliases").index(index).child("ip"), alias.text("ip")));
    }
}

fn nodes(warnings: &mut Vec<String>, at: &Path, spec: &Map<String, Value>) {
    for (key, _) in spec.entries("nodeSelector") {
        if let Some(message) = deprecated(key) {
            warnings.push(format!("{}: {message}", at.child("nodeSelector").key(key)));
        }
    }
    let affinity = spec.field("affinity").field("nodeAffinity");
    let path = at.child("affinity").child("nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in affinity.field(required).list("nodeSelectorTerms").iter().enumerate() {
        node_term(warnings, &path.child(required).child("nodeSelectorTerms").index(index), term);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (index, term) in affinity.list(preferred).iter().enumerate() {
        if let Some(term) = term.field("preference") {
            let path = path.child(preferred).index(index).child("preference");
            node_term(warnings, &path, term);
            values(warnings, &path.child("matchExpressions"), term.list("matchExpressions"));
        }
    }
    for (index, constraint) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let path = at.child("topologySpreadConstraints").index(index);
        let key = constraint.text("topologyKey");
        if let Some(message) = deprecated(key) {
            warnings.push(format!("{}: {key} is {message}", path.child("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            let at = path.child("labelSelector");
            warnings.push(format!("{at}: a null labelSelector results in matching no pod"));
        }
    }
}

/// Warnings about one term of a node selector.
pub(in crate::kinds::core) fn node_term(warnings: &mut Vec<String>, path: &Path, term: &Value) {
    for (index, requirement) in term.list("matchExpressions").iter().enumerate() {
        let key = requirement.text("key");
        if let Some(message) = deprecated(key) {
            let at = path.child("matchExpressions").index(index).child("key");
            warnings.push(format!("{at}: {key} is {message}"));
        }
    }
}

/// Values that no label has.
fn values(warnings: &mut Vec<String>, path: &Path, requirements: &[Value]) {
    for (index, requirement) in requirements.iter().enumerate() {
        for (place, value) in requirement.texts("values").enumerate() {
            for wrong in names::label_value(value) {
                let at = path.index(index).child("values").index(place);
                warnings.push(format!("{at}: {value} is invalid, {wrong}"));
            }
        }
    }
}

fn twice(warnings: &mut Vec<String>, at: &Path, spec: &Map<String, Value>, list: &str, field: &str) {
    let mut seen = BTreeSet::new();
    for (index, item) in spec.list(list).iter().enumerate() {
        let value = item.text(field);
        if !seen.insert(value) {
            warnings
                .push(format!("{}: duplicate {field} {value:?}", at.child(list).index(index).child(field)));
        }
    }
}

fn fractions(warnings: &mut Vec<String>, path: &Path, amounts: Option<&Value>) {
    for name in ["memory", "ephemeral-storage"] {
        let amount = amounts.field(name).and_then(quantity).filter(|amount| amount.milli_value() % 1000 != 0);
        if let Some(amount) = amount {
            let rule = "is invalid, must be an integer";
            warnings.push(format!("{}: fractional byte value \"{amount}\" {rule}", path.key(name)));
        }
    }
}

fn profiles(
    warnings: &mut Vec<String>,
    path: &Path,
    spec: &Map<String, Value>,
    annotations: Option<&Map<String, Value>>,
    template: bool,
) {
    let at = |key: &str| path.child("metadata").child("annotations").key(key);
    let old = |key: &str| {
        format!("{}: non-functional in v1.27+; use the \"seccompProfile\" field instead", at(key))
    };
    let pod = "seccomp.security.alpha.kubernetes.io/pod";
    if annotations.has(pod) && !spec.field("securityContext").has("seccompProfile") {
        warnings.push(old(pod));
    }
    for (own_path, container) in all_containers(&path.child("spec"), spec) {
        let context = container.field("securityContext");
        let key = format!("container.{}", pod.replace("/pod", &format!("/{}", container.text("name"))));
        if annotations.has(&key) && !context.has("seccompProfile") {
            warnings.push(old(&key));
        }
        let key = format!("{APPARMOR}{}", container.text("name"));
        let by_field = context.has("appArmorProfile") || spec.field("securityContext").has("appArmorProfile");
        if template && annotations.has(&key) && !by_field {
            let rule = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            warnings.push(format!("{}: {rule}", at(&key)));
        }
        let resources = container.field("resources");
        for field in ["limits", "requests"] {
            fractions(warnings, &own_path.child("resources").child(field), resources.field(field));
        }
        hidden(warnings, &own_path.child("env"), container.list("env"));
    }
}

/// A variable that is told twice, but for one that extends itself.
fn hidden(warnings: &mut Vec<String>, path: &Path, variables: &[Value]) {
    let mut seen = BTreeSet::new();
    for (index, variable) in variables.iter().enumerate() {
        let (name, value) = (variable.text("name"), variable.text("value"));
        let reference = format!("$({name})");
        let extends = value.contains(&reference) && value != reference && !variable.has("valueFrom");
        if !seen.insert(name) && !extends {
            warnings.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                path.index(index)
            ));
        }
    }
}

/// Where a port is told, on which address and port of the host.
type Port<'a> = (Path, &'a str, i64);

/// How many warnings about ports there are at most, and with how many equal ones a port is compared: each pair of thousands
/// would be one.
const MOST: usize = 64;

fn ports(warnings: &mut Vec<String>, at: &Path, spec: &Map<String, Value>) {
    let most = warnings.len() + MOST;
    let mut seen: BTreeMap<(i64, &str), Vec<Port<'_>>> = BTreeMap::new();
    let mut named: Vec<(Path, &str)> = Vec::new();
    for (path, container) in all_containers(at, spec) {
        for (index, port) in container.list("ports").iter().enumerate() {
            let path = path.child("ports").index(index);
            let (ip, host) = (port.text("hostIP"), port.int("hostPort").unwrap_or(0));
            let key = (port.int("containerPort").unwrap_or(0), port.text("protocol"));
            if !ip.is_empty() && host == 0 {
                warnings.push(format!(
                    "{path}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{ip}}}",
                    port.text("name"),
                    key.0,
                    key.1
                ));
            }
            let others = seen.entry(key).or_default();
            for (other, other_ip, other_host) in others.iter().take(MOST) {
                if warnings.len() >= most {
                    return;
                }
                let how = if ip == *other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0 || *other_host == 0 {
                    "overlapping"
                } else if host == *other_host && ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{path}: {how} port definition with {other}"));
            }
            others.push((path.clone(), ip, host));
            if !port.text("name").is_empty() {
                named.push((path, port.text("name")));
            }
        }
    }
    let mut first: BTreeMap<&str, &Path> = BTreeMap::new();
    for (path, name) in &named {
        if let Some(other) = first.get(name) {
            warnings.push(format!(
                "{path}: duplicate port name {name:?} with {other}, services and probes that select ports by name will \
                 use {other}"
            ));
        } else {
            first.insert(name, path);
        }
    }
}

fn selectors(warnings: &mut Vec<String>, path: &Path, affinity: Option<&Value>) {
    let mut warn = |at: Path| warnings.push(format!("{at}: a null labelSelector results in matching no pod"));
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (terms, path) = (affinity.field(kind), path.child(kind));
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in terms.list(required).iter().enumerate() {
            if !term.has("labelSelector") {
                warn(path.child(required).index(index).child("labelSelector"));
            }
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (index, term) in terms.list(preferred).iter().enumerate() {
            if !term.field("podAffinityTerm").has("labelSelector") {
                warn(path.child(preferred).index(index).child("podAffinityTerm").child("labelSelector"));
            }
        }
    }
}
