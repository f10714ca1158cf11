//! What an autoscaler looks at.

use super::v2::{Group, api_version, reference};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names as wire_names;
use crate::contract::quantity::Quantity;
use crate::kinds::base::{Fields, check};
use crate::kinds::core::pod;
use crate::kinds::inside::Inside;
use crate::kinds::names;
use serde_json::{Map, Value};

/// The types of metrics and the fields that tell of them, as Kubernetes lists and as it looks at them.
const TYPES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];

/// What is wrong with the metrics of a spec that `old` was before.
pub(super) fn errors(
    errors: &mut FieldErrors,
    spec: Option<&Map<String, Value>>,
    old: Option<&Map<String, Value>>,
    path: &Path,
) {
    let Some(spec) = spec else { return };
    let was_wrong = old.is_some_and(|old| {
        old.list("metrics").iter().filter(|metric| metric.text("type") == "Object").any(|metric| {
            let described = metric.map("object").under("describedObject");
            described.is_some_and(|object| api_version(object.text("apiVersion"), Group::MayBeCore).is_err())
        })
    });
    let group = if was_wrong { Group::Any } else { Group::MayBeCore };
    let metrics = spec.list("metrics");
    for (index, metric) in metrics.iter().enumerate() {
        metric_errors(errors, metric, group, &path.index(index));
    }
    let outside = metrics.iter().any(|metric| matches!(metric.text("type"), "Object" | "External"));
    if spec.int("minReplicas") == Some(0) && !outside {
        let detail =
            "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(FieldError::forbidden(path, detail));
    }
}

fn metric_errors(errors: &mut FieldErrors, metric: &Value, group: Group, path: &Path) {
    let kind = metric.text("type");
    let at = path.child("type");
    if kind.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric source type"));
    }
    check::one_of(errors, &at, kind, TYPES);
    if !TYPES.contains(&kind) {
        // Kubernetes says it again when it looks for the source of that type.
        check::one_of(errors, &at, kind, TYPES);
    }
    let present: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.has(field)).collect();
    if let Some(field) = present.first() {
        source_errors(errors, field, metric.map(field), group, &path.child(field));
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind).map(|(_, field)| *field);
    if let Some(field) = expected.filter(|field| !present.contains(field)) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(field), detail));
    }
    if present.len() > 1 {
        for field in present.iter().filter(|field| Some(**field) != expected) {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

fn source_errors(
    errors: &mut FieldErrors,
    field: &str,
    source: Option<&Map<String, Value>>,
    group: Group,
    path: &Path,
) {
    match field {
        "object" => {
            let described = source.under("describedObject");
            reference(errors, described, group, &path.child("describedObject"));
            identifier(errors, source, path);
        }
        "resource" | "containerResource" => resource(errors, field == "containerResource", source, path),
        _ => identifier(errors, source, path),
    }
    let target = source.under("target");
    let path = path.child("target");
    target_errors(errors, target, &path);
    let has = |field: &str| target.is_some_and(|target| target.has(field));
    let mut needed = |at: &str, detail: &str| errors.push(FieldError::required(&path.child(at), detail));
    match field {
        "pods" if !has("averageValue") => {
            needed("averageValue", "must specify a positive target averageValue");
        }
        "object" if !has("value") && !has("averageValue") => {
            needed("averageValue", "must set either a target value or averageValue");
        }
        "external" if !has("value") && !has("averageValue") => {
            let detail = "must set either a target value for metric or a per-pod target";
            needed("averageValue", detail);
        }
        "resource" | "containerResource" if !has("averageUtilization") && !has("averageValue") => {
            let detail = "must set either a target raw value or a target utilization";
            needed("averageUtilization", detail);
        }
        _ => {}
    }
    let mut both = |at: &str, detail: &str| errors.push(FieldError::forbidden(&path.child(at), detail));
    match field {
        "external" if has("value") && has("averageValue") => {
            both("value", "may not set both a target value for metric and a per-pod target");
        }
        "resource" | "containerResource" if has("averageUtilization") && has("averageValue") => {
            both("averageValue", "may not set both a target raw value and a target utilization");
        }
        _ => {}
    }
}

fn resource(errors: &mut FieldErrors, of_container: bool, source: Option<&Map<String, Value>>, path: &Path) {
    let at = path.child("name");
    match source.text("name") {
        "" => errors.push(FieldError::required(&at, "must specify a resource name")),
        name if of_container => pod::container_resource_name(errors, name, &at),
        _ => {}
    }
    if of_container {
        let at = path.child("container");
        match source.text("container") {
            "" => errors.push(FieldError::required(&at, "must specify a container")),
            name => errors.extend(check::invalid(&at, name, wire_names::dns_label(name, false))),
        }
    }
}

fn identifier(errors: &mut FieldErrors, source: Option<&Map<String, Value>>, path: &Path) {
    let name = source.under("metric").text("name");
    let at = path.child("metric").child("name");
    if name.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric name"));
    } else {
        errors.extend(names::path_segment(&at, name));
    }
}

fn target_errors(errors: &mut FieldErrors, target: Option<&Map<String, Value>>, path: &Path) {
    let (kind, at) = (target.text("type"), path.child("type"));
    if kind.is_empty() {
        errors.push(FieldError::required(&at, "must specify a metric target type"));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&at, kind, detail));
    }
    for field in ["value", "averageValue"] {
        let positive = |value: &Value| {
            Quantity::from_json(value).is_ok_and(|quantity| !quantity.is_zero() && !quantity.is_negative())
        };
        if let Some(value) = target.field(field).filter(|value| !positive(value)) {
            errors.push(FieldError::invalid(&path.child(field), value.clone(), "must be positive"));
        }
    }
    if let Some(utilization) = target.int("averageUtilization").filter(|utilization| *utilization < 1) {
        let at = path.child("averageUtilization");
        errors.push(FieldError::invalid(&at, utilization, "must be greater than 0"));
    }
}
