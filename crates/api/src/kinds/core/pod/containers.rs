//! Containers: ordinary ones, those that run before, and those that are added for debugging.

use super::volumes::Volumes;
use super::{env, mounts, probes, resources, security};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

pub(super) const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
/// Fields that a container for debugging may have; in the order in which the others are told.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// What containers are checked against beside themselves.
pub(super) struct Pod<'a> {
    /// The pod's spec.
    pub spec: &'a Map<String, Value>,
    /// Its volumes that are well formed.
    pub volumes: Volumes<'a>,
    /// The names of its resource claims.
    pub claims: BTreeSet<&'a str>,
    /// Whether it shares the users of the host.
    pub host_users: bool,
}

impl<'a> Pod<'a> {
    fn grace(&self) -> Option<i64> {
        self.spec.int("terminationGracePeriodSeconds")
    }

    fn os(&self) -> Option<&'a str> {
        self.spec.field("os").map(|os| os.text("name"))
    }
}

/// `containers`.
pub(super) fn check(errors: &mut FieldErrors, path: &Path, pod: &Pod<'_>) {
    let containers = pod.spec.list("containers");
    if containers.is_empty() {
        errors.required(path, "");
        return;
    }
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let at = path.index(index);
        common(errors, &at, container, pod);
        if !names.insert(container.text("name")) {
            errors.duplicate(&at.child("name"), container.text("name"));
        }
        probes::check_all(errors, &at, container, pod.grace(), pod.os());
        restarts(errors, &at, container);
    }
    host_ports(errors, path, containers);
}

const RULES_ALONE: &str = "must specify restartPolicy when restart rules are used";

/// `initContainers`.
pub(super) fn check_init(errors: &mut FieldErrors, path: &Path, pod: &Pod<'_>) {
    let mut names: BTreeSet<&str> =
        pod.spec.list("containers").iter().map(|container| container.text("name")).collect();
    for (index, container) in pod.spec.list("initContainers").iter().enumerate() {
        let at = path.index(index);
        common(errors, &at, container, pod);
        match container.has("restartPolicy") {
            true => restarts(errors, &at, container),
            false if container.list("restartPolicyRules").is_empty() => {}
            false => errors.required(&at.child("restartPolicy"), RULES_ALONE),
        }
        let name = container.text("name");
        if names.contains(name) {
            errors.duplicate(&at.child("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        host_ports(errors, path, std::slice::from_ref(container));
        if container.text("restartPolicy") == "Always" {
            probes::check_all(errors, &at, container, pod.grace(), pod.os());
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                let rule = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&at.child(field), rule);
            }
        }
        for (policy_index, policy) in container.list("resizePolicy").iter().enumerate() {
            if policy.text("restartPolicy") == "RestartContainer" {
                let rule = "must not be set to 'RestartContainer' for non-sidecar initContainers";
                let at = at.child("resizePolicy").index(policy_index).child("restartPolicy");
                errors.invalid(&at, "RestartContainer", rule);
            }
        }
    }
}

/// `ephemeralContainers`.
pub(super) fn check_ephemeral(errors: &mut FieldErrors, path: &Path, pod: &Pod<'_>) {
    const RULE: &str = "cannot be set for an Ephemeral Container";
    let of = |field| pod.spec.list(field).iter().map(|container: &Value| container.text("name"));
    let others: BTreeSet<&str> = of("containers").chain(of("initContainers")).collect();
    let mut names = others.clone();
    for (index, container) in pod.spec.list("ephemeralContainers").iter().enumerate() {
        let at = path.index(index);
        common(errors, &at, container, pod);
        image_padding(errors, &at, container);
        if !names.insert(container.text("name")) {
            errors.duplicate(&at.child("name"), container.text("name"));
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&at.child("targetContainerName"), target);
        }
        for field in NOT_EPHEMERAL {
            let set = match container.field(field) {
                Some(Value::Object(map)) => {
                    *field != "resources" || map.values().any(|value| !value.is_null())
                }
                Some(Value::Array(list)) => !list.is_empty(),
                Some(_) => true,
                None => false,
            };
            if set {
                errors.forbidden(&at.child(field), RULE);
            }
        }
        for (mount_index, mount) in container.list("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    errors.forbidden(&at.child("volumeMounts").index(mount_index).child(field), RULE);
                }
            }
        }
    }
}

/// An image's name may have no spaces around it; checked of pods, not of templates.
pub(super) fn image_padding(errors: &mut FieldErrors, at: &Path, container: &Value) {
    let image = container.text("image");
    if image.trim().len() != image.len() {
        errors.invalid(&at.child("image"), image, "must not have leading or trailing whitespace");
    }
}

fn common(errors: &mut FieldErrors, at: &Path, container: &Value, pod: &Pod<'_>) {
    let name = container.text("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.malformed(at, "name", name, names::dns_label(name, false));
    }
    errors.needs(at, container, "image");
    errors.choice(at, container, "terminationMessagePolicy", &["File", "FallbackToLogsOnError"], true);
    ports(errors, at, container.list("ports"));
    if let list @ [_, ..] = container.list("env") {
        env::check(errors, &at.child("env"), list);
    }
    if let list @ [_, ..] = container.list("envFrom") {
        env::check_from(errors, &at.child("envFrom"), list);
    }
    mounts::check(errors, at, container, &pod.volumes);
    errors.choice(at, container, "imagePullPolicy", PULL_POLICIES, true);
    if let Some(own) = container.field("resources") {
        resources::check(errors, &at.child("resources"), own, &pod.claims);
    }
    if let list @ [_, ..] = container.list("resizePolicy") {
        resize_policies(errors, &at.child("resizePolicy"), list, pod.spec.text("restartPolicy"));
    }
    if let Some(context) = container.field("securityContext") {
        security::check_container(errors, &at.child("securityContext"), context, pod.host_users);
    }
}

fn ports(errors: &mut FieldErrors, at: &Path, ports: &[Value]) {
    let mut names = BTreeSet::new();
    for (index, port) in ports.iter().enumerate() {
        let at = at.child("ports").index(index);
        let name = port.text("name");
        if !name.is_empty() {
            let found = names::port_name(name);
            if found.is_empty() && !names.insert(name) {
                errors.duplicate(&at.child("name"), name);
            }
            errors.malformed(&at, "name", name, found);
        }
        let number = port.int("containerPort").unwrap_or(0);
        if number == 0 {
            errors.required(&at.child("containerPort"), "");
        } else {
            port_number(errors, &at, "containerPort", number);
        }
        port_number(errors, &at, "hostPort", port.int("hostPort").filter(|port| *port != 0).unwrap_or(1));
        errors.choice(&at, port, "protocol", PROTOCOLS, true);
    }
}

fn port_number(errors: &mut FieldErrors, at: &Path, field: &str, number: i64) {
    for detail in names::port_number(number) {
        errors.invalid(&at.child(field), number, detail);
    }
}

/// Two containers cannot have the same port of the host.
fn host_ports(errors: &mut FieldErrors, path: &Path, containers: &[Value]) {
    let mut taken = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        for (port_index, port) in container.list("ports").iter().enumerate() {
            let Some(number) = port.int("hostPort").filter(|number| *number != 0) else { continue };
            let text = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if taken.contains(&text) {
                errors
                    .duplicate(&path.index(index).child("ports").index(port_index).child("hostPort"), &text);
            }
            taken.insert(text);
        }
    }
}

fn resize_policies(errors: &mut FieldErrors, path: &Path, policies: &[Value], restart: &str) {
    let mut names = BTreeSet::new();
    for (index, policy) in policies.iter().enumerate() {
        let (name, action) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !names.insert(name) {
            errors.duplicate(&path.index(index), name);
        }
        match name {
            "cpu" | "memory" => {}
            "" => errors.required(path, ""),
            _ => errors.not_supported(path, name, &["cpu", "memory"]),
        }
        match action {
            "NotRequired" | "RestartContainer" => {}
            "" => errors.required(path, ""),
            _ => errors.not_supported(path, action, &["NotRequired", "RestartContainer"]),
        }
        if restart == "Never" && action != "NotRequired" {
            errors.invalid(path, action, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// The container's own restart policy and its rules.
fn restarts(errors: &mut FieldErrors, at: &Path, container: &Value) {
    let rules = container.list("restartPolicyRules");
    match container.maybe("restartPolicy") {
        None if rules.is_empty() => return,
        None => {
            errors.required(&at.child("restartPolicy"), RULES_ALONE);
        }
        Some(_) => errors.choice(at, container, "restartPolicy", &["Always", "Never", "OnFailure"], false),
    }
    if rules.len() > 20 {
        errors.push(FieldError::too_many(&at.child("restartPolicyRules"), rules.len(), 20));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = at.child("restartPolicyRules").index(index);
        let action = rule.text("action");
        let actions = &["Restart", "RestartAllContainers"];
        if !actions.contains(&action) {
            errors.not_supported(&at.child("action"), action, actions);
        }
        let Some(codes) = rule.field("exitCodes") else {
            errors.required(&at.child("exitCodes"), "must be specified");
            continue;
        };
        let operator = codes.text("operator");
        if !matches!(operator, "In" | "NotIn") {
            errors.not_supported(&at.child("exitCodes").child("operator"), operator, &["In", "NotIn"]);
        }
        let values = codes.list("values").len();
        if values > 255 {
            errors.push(FieldError::too_many(&at.child("exitCodes").child("values"), values, 255));
        }
    }
}
