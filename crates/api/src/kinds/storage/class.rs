//! StorageClass.

use super::{GROUP, parameter_errors, provisioner_errors};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::node_labels;
use crate::resource::{Column, Part};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The annotations that make a class the default one.
const DEFAULT: &[&str] =
    &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "StorageClass", "storageclasses", "io.k8s.api.storage.v1.StorageClass")
        .cluster_scoped()
        .short(&["sc"])
        .without_generation()
        .default(|object| {
            object.0.fill("reclaimPolicy", "Delete");
            object.0.fill("volumeBindingMode", "Immediate");
        })
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    provisioner_errors(&mut errors, object.0.text("provisioner"), &Path::new("provisioner"));
    parameter_errors(&mut errors, object.0.map("parameters"), false, &Path::new("parameters"));
    if let Some(policy) = object.0.maybe("reclaimPolicy").filter(|policy| !policy.is_empty()) {
        check::one_of(&mut errors, &Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
    }
    let at = Path::new("volumeBindingMode");
    match object.0.maybe("volumeBindingMode") {
        None => errors.push(FieldError::required(&at, "")),
        Some(mode) => check::one_of(&mut errors, &at, mode, &["Immediate", "WaitForFirstConsumer"]),
    }
    topology_errors(&mut errors, object.0.list("allowedTopologies"), &Path::new("allowedTopologies"));
    errors
}

fn topology_errors(errors: &mut FieldErrors, topologies: &[Value], path: &Path) {
    let mut seen: BTreeSet<BTreeMap<&str, BTreeSet<&str>>> = BTreeSet::new();
    for (index, topology) in topologies.iter().enumerate() {
        let path = path.index(index).child("matchLabelExpressions");
        let mut term = BTreeMap::new();
        for (index, expression) in topology.list("matchLabelExpressions").iter().enumerate() {
            let path = path.index(index);
            let (key, values) =
                (expression.text("key"), value_set(errors, expression, &path.child("values")));
            errors.extend(names::qualified_name_errors(&path.child("key"), key));
            if term.insert(key, values).is_some() {
                errors.push(FieldError::duplicate(&path.child("key"), key));
            }
        }
        // Kubernetes takes a term without expressions for one that it has not come to yet.
        if term.is_empty() || seen.contains(&term) {
            errors.push(FieldError::duplicate(&path, ""));
        }
        seen.insert(term);
    }
}

fn value_set<'a>(errors: &mut FieldErrors, expression: &'a Value, path: &Path) -> BTreeSet<&'a str> {
    if expression.list("values").is_empty() {
        errors.push(FieldError::required(path, ""));
    }
    let mut values = BTreeSet::new();
    for (index, value) in expression.texts("values").enumerate() {
        if !values.insert(value) {
            errors.push(FieldError::duplicate(&path.index(index), value));
        }
    }
    values
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object);
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        check::immutable(&mut errors, &Path::new(field), object.0.get(field), old.0.get(field));
    }
    errors
}

fn warnings(object: &Object, _old: Option<&Object>) -> Vec<String> {
    let mut warnings = Vec::new();
    for (index, topology) in object.0.list("allowedTopologies").iter().enumerate() {
        let path = Path::new("allowedTopologies").index(index).child("matchLabelExpressions");
        for (index, expression) in topology.list("matchLabelExpressions").iter().enumerate() {
            if let Some(said) = node_labels::deprecated(expression.text("key")) {
                warnings.push(format!("{}: {said}", path.index(index).child("key")));
            }
        }
    }
    warnings
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Provisioner", "string", "Who makes its volumes."),
        column("ReclaimPolicy", "string", "What becomes of a volume that is given back."),
        column("VolumeBindingMode", "string", "When a volume is made or bound."),
        column("AllowVolumeExpansion", "string", "Whether volumes may grow."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let annotations = object.strings("annotations");
    let is_default = DEFAULT.iter().any(|key| annotations.maybe(key) == Some("true"));
    let name = if is_default { format!("{} (default)", object.name()) } else { object.name().to_owned() };
    vec![
        name.into(),
        object.0.text("provisioner").into(),
        object.0.maybe("reclaimPolicy").unwrap_or("Delete").into(),
        object.0.maybe("volumeBindingMode").unwrap_or("Immediate").into(),
        object.0.is("allowVolumeExpansion").into(),
        table::age_of(object, now),
    ]
}
