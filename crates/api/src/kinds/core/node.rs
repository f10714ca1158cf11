//! Node.

use super::pod::defaults::round_up;
use super::pod::resources::quantity;
use super::{resource_names, scheduling};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Errors, Fields, Kind, internal, table};
use crate::resource::{Column, Part};
use serde_json::Value;
use std::collections::BTreeSet;

const FEATURE_FORM: &str = "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., \
    MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes";

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Node", "nodes", "io.k8s.api.core.v1.Node")
        .cluster_scoped()
        .short(&["no"])
        .without_generation()
        .parts(&[Part::Status])
        .default(default)
        // A kubelet tells its status when it registers.
        .prepare_create(without_config)
        .prepare_update(|part, object, _| {
            if part == Part::Main {
                without_config(object);
            }
            object.remove(&["status", "config"]);
        })
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
        .selectable(&["spec.unschedulable"])
        .selected(|object, _| object.spec().is("unschedulable").to_string())
}

/// Configuration by the API is no more.
fn without_config(object: &mut Object) {
    object.remove(&["spec", "configSource"]);
    object.remove(&["status", "config"]);
}

fn default(object: &mut Object) {
    super::both_forms(object.make(&["spec"]), "podCIDR", "podCIDRs", None);
    let status = object.make(&["status"]);
    if let (false, Some(capacity)) = (status.has("allocatable"), status.field("capacity").cloned()) {
        status.insert("allocatable".to_owned(), capacity);
    }
    for field in ["capacity", "allocatable"] {
        if let Some(amounts) = status.within(field) {
            round_up(amounts);
        }
    }
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    taints(&mut errors, object);
    amounts(&mut errors, object);
    features(&mut errors, object);
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

/// Features that a kubelet declares: in their order, none twice.
fn features(errors: &mut FieldErrors, object: &Object) {
    let path = Path::new("status").child("declaredFeatures");
    let list: Vec<&str> = object.status().texts("declaredFeatures").collect();
    for (index, feature) in list.iter().enumerate() {
        let mut parts = feature.split('/');
        let word = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let first = parts.next().unwrap_or_default();
        let is_good = first.starts_with(|first: char| first.is_ascii_uppercase())
            && word(first)
            && parts.all(|part| part.starts_with(|first: char| first.is_ascii_alphabetic()) && word(part));
        let rule = if feature.len() > names::SUBDOMAIN_MAX {
            Some(names::at_most_characters(names::SUBDOMAIN_MAX))
        } else {
            (!is_good).then(|| FEATURE_FORM.to_owned())
        };
        if let Some(rule) = rule {
            errors.invalid(&path.index(index), *feature, format!("invalid feature name {feature:?}: {rule}"));
        }
        match list.get(index + 1) {
            Some(next) if next == feature => errors.duplicate(&path.index(index + 1), next),
            Some(next) if feature > next => {
                errors.invalid(&path.index(index + 1), *next, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
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
    features(&mut errors, new);
    let path = Path::new("spec");
    let addresses = new.status().list("addresses");
    let mut seen = BTreeSet::new();
    for (index, address) in addresses.iter().enumerate() {
        if !seen.insert((address.text("type"), address.text("address"))) {
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
    let (is, was) = (new.spec().text("externalID"), old.spec().text("externalID"));
    if is != was {
        errors.forbidden(&path.child("externalID"), "may not be updated");
    }
    let (is, was) = (new.spec().text("providerID"), old.spec().text("providerID"));
    if !was.is_empty() && is != was {
        let rule = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&path.child("providerID"), rule);
    }
    taints(&mut errors, new);
    errors
}

fn warnings(object: &Object, _old: Option<&Object>) -> Vec<String> {
    let mut warnings = Vec::new();
    if !object.spec().text("externalID").is_empty() {
        warnings.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    for (index, range) in object.spec().texts("podCIDRs").enumerate() {
        warnings.extend(names::cidr_warnings(&Path::new("spec").child("podCIDRs").index(index), range));
    }
    warnings
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(spec: Value) -> Object {
        let mut object = Object::from_value(json!({"metadata": {"name": "n"}, "spec": spec})).unwrap();
        kind().resource().strategy.default(&mut object);
        object
    }

    #[test]
    fn the_range_and_the_ranges_say_the_same() {
        let both = json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]});
        for told in [json!({"podCIDR": "10.1.0.0/24"}), json!({"podCIDRs": ["10.1.0.0/24"]})] {
            assert_eq!(node(told.clone()).at(&["spec"]), Some(&both), "{told}");
        }
        let said =
            |errors: FieldErrors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let bad = said(validate(&node(json!({"podCIDR": "bad"}))));
        assert!(bad.starts_with("spec.podCIDRs[0]: Invalid value: \"bad\""), "{bad}");
        let other = node(json!({"podCIDR": "10.2.0.0/24"}));
        let changed = said(validate_update(Part::Main, &other, &node(both)));
        assert!(
            changed.contains("node updates may not change podCIDR except from \"\" to valid"),
            "{changed}"
        );
    }
}
