//! Lease.

use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, check, table};
use crate::resource::Column;
use serde_json::Value;

pub(super) fn kind() -> Kind {
    Kind::new("coordination.k8s.io", "v1", "Lease", "leases", "io.k8s.api.coordination.v1.Lease")
        .without_generation()
        .any_finalizer_at_first()
        .lax_updates()
        .default(|object| {
            object.make(&["spec"]);
        })
        .prepare_create(drop_disabled)
        .prepare_update(|_, object, _| drop_disabled(object))
        .validate(validate)
        .table(columns, row)
}

/// Leases that are given by an election of the server are a feature that Kubernetes has switched off.
fn drop_disabled(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.remove("strategy");
    spec.remove("preferredHolder");
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    if let Some(seconds) = spec.int("leaseDurationSeconds").filter(|seconds| *seconds <= 0) {
        let at = path.child("leaseDurationSeconds");
        errors.push(FieldError::invalid(&at, seconds, "must be greater than 0"));
    }
    check::not_negative(&mut errors, &path.child("leaseTransitions"), spec.int("leaseTransitions"));
    errors
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Holder", "string", "Who has it."), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let holder = object.text(&["spec", "holderIdentity"]);
    vec![object.name().into(), holder.into(), table::age_of(object, now)]
}
