//! CSINode.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::names::csi_driver;
use crate::kinds::shown::{self, Shown};
use crate::resource::{Column, Part};
use serde_json::Value;
use std::collections::HashSet;

const NODE_ID_MAX: usize = 256;

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "CSINode", "csinodes", "io.k8s.api.storage.v1.CSINode")
        .lax_updates()
        .cluster_scoped()
        .without_generation()
        .default(default)
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    if spec.list("drivers").is_empty() {
        spec.insert("drivers".to_owned(), Value::Null);
    }
    spec.each("drivers").for_each(|driver| {
        driver.entry("topologyKeys").or_insert(Value::Null);
    });
}

fn drivers(object: &Object) -> &[Value] {
    object.spec().items("drivers")
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = HashSet::new();
    for (index, driver) in drivers(object).iter().enumerate() {
        let path = Path::new("spec").child("drivers").index(index);
        let (name, at) = (driver.text("name"), path.child("name"));
        errors.extend(csi_driver(&at, name));
        let id = driver.text("nodeID");
        if id.is_empty() {
            errors.push(FieldError::required(&path.child("nodeID"), ""));
        } else if id.len() > NODE_ID_MAX {
            let detail = format!("must be {NODE_ID_MAX} characters or less");
            errors.push(FieldError::invalid(&path.child("nodeID"), id, detail));
        }
        let count = driver.map("allocatable").int("count");
        check::not_negative(&mut errors, &path.child("allocatable").child("count"), count);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        topology_errors(&mut errors, driver, &path);
    }
    errors
}

fn topology_errors(errors: &mut FieldErrors, driver: &Value, path: &Path) {
    let mut seen = HashSet::new();
    for key in driver.texts("topologyKeys") {
        if key.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(path, key));
        }
        errors.extend(names::qualified_name_errors(path, key));
    }
}

/// A driver stays as it is, but for how many volumes it takes.
fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object);
    for old in drivers(old) {
        for driver in drivers(object).iter().filter(|driver| driver.text("name") == old.text("name")) {
            let same = ["nodeID", "topologyKeys"].iter().all(|field| driver.field(field) == old.field(field));
            if !same {
                let shown = Shown::new()
                    .text("Name", driver.text("name"))
                    .text("NodeID", driver.text("nodeID"))
                    .field("TopologyKeys", driver.field("topologyKeys"))
                    .field("Allocatable", None)
                    .end();
                let at = Path::new("spec").child("drivers");
                errors.push(shown::invalid(&at, shown, check::IMMUTABLE));
            }
        }
    }
    errors
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Drivers", "integer", "How many drivers the node has."), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), drivers(object).len().into(), table::age_of(object, now)]
}
