//! VolumeAttributesClass.

use super::{GROUP, parameter_errors, provisioner_errors};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, table};
use crate::resource::{Column, Part};
use serde_json::Value;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.storage.v1.VolumeAttributesClass";
    Kind::new(GROUP, "v1", "VolumeAttributesClass", "volumeattributesclasses", type_name)
        .cluster_scoped()
        .short(&["vac"])
        .without_generation()
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    provisioner_errors(&mut errors, object.0.text("driverName"), &Path::new("driverName"));
    parameter_errors(&mut errors, object.0.map("parameters"), true, &Path::new("parameters"));
    errors
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let changed =
        ["driverName", "parameters"].into_iter().filter(|field| object.0.field(field) != old.0.field(field));
    let mut errors: FieldErrors = changed
        .map(|field| FieldError::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")))
        .collect();
    errors.extend(validate(object));
    errors
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("DriverName", "string", "Whose volumes it is for."), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), object.0.text("driverName").into(), table::age_of(object, now)]
}
