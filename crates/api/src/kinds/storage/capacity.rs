//! CSIStorageCapacity.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::quantity::Quantity;
use crate::contract::{Object, names};
use crate::kinds::base::{Fields, Kind, check, table};
use crate::kinds::{node_labels, shown};
use crate::resource::{Column, Part};
use serde_json::Value;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.storage.v1.CSIStorageCapacity";
    Kind::new(GROUP, "v1", "CSIStorageCapacity", "csistoragecapacities", type_name)
        .lax_updates()
        .without_generation()
        .validate(validate)
        .validate_update(validate_update)
        .warnings(|object, _| {
            node_labels::of_selector(object.0.field("nodeTopology"), &Path::new("nodeTopology"))
        })
        .table(columns, row)
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(topology) = object.0.map("nodeTopology") {
        check::label_selector(&mut errors, &Path::new("nodeTopology"), topology);
    }
    let class = object.0.text("storageClassName");
    errors.extend(check::invalid(&Path::new("storageClassName"), class, names::dns_subdomain(class, false)));
    if let Some(capacity) = object.0.field("capacity")
        && Quantity::from_json(capacity).is_ok_and(|capacity| capacity.is_negative())
    {
        errors.push(FieldError::invalid(&Path::new("capacity"), capacity.clone(), check::NOT_NEGATIVE));
    }
    errors
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object);
    let topology = object.0.field("nodeTopology");
    if topology != old.0.field("nodeTopology") {
        let shown = shown::selector(topology);
        errors.push(shown::invalid(&Path::new("nodeTopology"), shown, check::IMMUTABLE));
    }
    let class = |object: &Object| object.0.get("storageClassName").cloned();
    let at = Path::new("storageClassName");
    check::immutable(&mut errors, &at, class(object).as_ref(), class(old).as_ref());
    errors
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Created At", "date", "When it was made.")]
}

fn row(object: &Object, _now: i64) -> Vec<Value> {
    vec![object.name().into(), object.text(&["metadata", "creationTimestamp"]).into()]
}
