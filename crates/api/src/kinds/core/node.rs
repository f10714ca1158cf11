//! Node.

use super::pod::resources::quantity;
use super::{resource_names, scheduling};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, Kind, internal, table};
use crate::resource::{Column, Part};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Node", "nodes", "io.k8s.api.core.v1.Node")
        .cluster_scoped()
        .short(&["no"])
        .without_generation()
        .parts(&[Part::Status])
        .default(default)
        // A kubelet tells its status when it registers.
        .prepare_create(|object| {
            object.remove(&["spec", "configSource"]);
            object.remove(&["status", "config"]);
        })
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
        .selectable(&["spec.unschedulable"])
        .selected(|object, _| object.spec().is("unschedulable").to_string())
}

fn default(object: &mut Object) {
    object.make(&["spec"]);
    let status = object.make(&["status"]);
    if let (false, Some(capacity)) = (status.has("allocatable"), status.field("capacity").cloned()) {
        status.insert("allocatable".to_owned(), capacity);
    }
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    taints(&mut errors, object);
    amounts(&mut errors, object);
    let path = Path::new("spec").child("podCIDRs");
    let ranges = object.spec().list("podCIDRs");
    for (index, range) in object.spec().texts("podCIDRs").enumerate() {
        errors.extend(names::cidr(&path.index(index), range, true, &[]));
    }
    let families: BTreeSet<bool> = object.spec().texts("podCIDRs").map(|range| range.contains(':')).collect();
    let foreign =
        object.spec().texts("podCIDRs").enumerate().find(|(_, range)| names::parse_cidr(range).is_none());
    if let Some((index, range)) = foreign.filter(|_| ranges.len() > 1) {
        let cause = "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR";
        let cause = format!("{cause}[{index}]: <nil> (invalid CIDR address: {range})");
        errors.push(FieldError::internal(&path, cause));
    }
    if ranges.len() > 1 && (foreign.is_some() || families.len() != 2 || ranges.len() > 2) {
        errors.invalid(&path, ranges.to_vec(), "may specify no more than one CIDR for each IP family");
    }
    errors
}

fn taints(errors: &mut FieldErrors, object: &Object) {
    let mut seen = BTreeSet::new();
    for (index, taint) in object.spec().list("taints").iter().enumerate() {
        // Kubernetes tells taints below the metadata.
        let at = Path::new("metadata").child("taints").index(index);
        let (key, value, effect) = (taint.text("key"), taint.text("value"), taint.text("effect"));
        errors.malformed(&at, "key", key, names::qualified_name(key));
        let details = names::label_value(value);
        if !details.is_empty() {
            errors.invalid(&at.child("value"), value, details.join(";"));
        }
        errors.choice(&at, taint, "effect", scheduling::EFFECTS, true);
        if !seen.insert((effect, key)) {
            let mut error = FieldError::duplicate(&at, Value::Null);
            error.shown = Some(internal::shown("Taint", taint));
            "taints must be unique by key and effect pair".clone_into(&mut error.detail);
            errors.push(error);
        }
    }
}

fn amounts(errors: &mut FieldErrors, object: &Object) {
    for field in ["capacity", "allocatable"] {
        for (name, value) in object.status().entries(field) {
            let at = Path::new("status").child(field).child(name);
            if let Some(amount) = quantity(value) {
                resource_names::amount(errors, &at, name, &amount);
            }
        }
    }
}

fn validate_update(part: Part, new: &Object, old: &Object) -> FieldErrors {
    let mut errors = if part == Part::Status { FieldErrors::new() } else { validate(new) };
    amounts(&mut errors, new);
    let path = Path::new("spec");
    let addresses = new.status().list("addresses");
    for (index, address) in addresses.iter().enumerate() {
        if addresses[..index].contains(address) {
            let mut error = FieldError::duplicate(&Path::new("status").child("addresses").index(index), "");
            error.shown = Some(internal::shown("NodeAddress", address));
            errors.push(error);
        }
    }
    let (is, was) = (new.spec().list("podCIDRs"), old.spec().list("podCIDRs"));
    let differ =
        if is.len() == was.len() { is.iter().zip(was).filter(|(is, was)| is != was).count() } else { 1 };
    for _ in 0..if was.is_empty() { 0 } else { differ } {
        let rule = "node updates may not change podCIDR except from \"\" to valid";
        errors.forbidden(&path.child("podCIDRs"), rule);
    }
    let (is, was) = (new.spec().text("providerID"), old.spec().text("providerID"));
    if !was.is_empty() && is != was {
        let rule = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&path.child("providerID"), rule);
    }
    taints(&mut errors, new);
    errors
}

fn columns() -> Vec<Column> {
    let (column, wide) = (table::column, table::wide);
    vec![
        table::name(),
        column("Status", "string", "The status of the node"),
        column("Roles", "string", "The roles of the node"),
        table::age(),
        column("Version", "string", "NodeSystemInfo.kubeletVersion"),
        wide("Internal-IP", "string", "NodeStatus.addresses"),
        wide("External-IP", "string", "NodeStatus.addresses"),
        wide("OS-Image", "string", "NodeSystemInfo.osImage"),
        wide("Kernel-Version", "string", "NodeSystemInfo.kernelVersion"),
        wide("Container-Runtime", "string", "NodeSystemInfo.containerRuntimeVersion"),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let info = object.status().field("nodeInfo");
    let known = |field: &str| match info.text(field) {
        "" => "<unknown>".to_owned(),
        text => text.to_owned(),
    };
    let mut kernel = known("kernelVersion");
    if !info.text("architecture").is_empty() {
        kernel = format!("{kernel} ({})", info.text("architecture"));
    }
    let address = |kind: &str| {
        let found = object.status().list("addresses").iter().find(|address| address.text("type") == kind);
        found.map_or("<none>", |address| address.text("address")).to_owned()
    };
    let mut status = match table::condition(object, "Ready").map(|ready| ready.text("status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if object.spec().is("unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    vec![
        object.name().into(),
        status.into(),
        roles(object).into(),
        table::age_of(object, now),
        info.text("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        known("osImage").into(),
        kernel.into(),
        known("containerRuntimeVersion").into(),
    ]
}

/// What its labels say that it does.
fn roles(object: &Object) -> String {
    let role = |(key, value): (&String, &Value)| match key.strip_prefix("node-role.kubernetes.io/") {
        Some(role) => Some(role.to_owned()),
        None if key == "kubernetes.io/role" => value.as_str().map(str::to_owned),
        None => None,
    };
    let labels = object.strings("labels").into_iter().flatten();
    let roles: BTreeSet<String> = labels.filter_map(role).filter(|role| !role.is_empty()).collect();
    if roles.is_empty() { "<none>".to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}
