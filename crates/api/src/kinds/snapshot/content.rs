//! VolumeSnapshotContent.

use super::GROUP;
use super::rules::{all, cell, deletion_policy, immutable, one_for_ever, spec_with};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, table};
use crate::kinds::inside::Inside;
use crate::kinds::shown;
use crate::resource::{Column, Part};
use serde_json::Value;

const HANDLES: [&str; 2] = ["volumeHandle", "snapshotHandle"];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.storage.snapshot.v1.VolumeSnapshotContent";
    Kind::new(GROUP, "v1", "VolumeSnapshotContent", "volumesnapshotcontents", type_name)
        .cluster_scoped()
        .short(&["vsc", "vscs"])
        .parts(&[Part::Status])
        .validate(|object| errors(object, None))
        .validate_update(|_, object, old| errors(object, Some(old)))
        .table(columns, row)
}

fn errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut form = spec_with(object, &["deletionPolicy", "driver", "source", "volumeSnapshotRef"]);
    deletion_policy(&mut form, spec, &path);
    if let Some(size) = object.status().int("restoreSize").filter(|size| *size < 0) {
        let detail = "restoreSize in body should be greater than or equal to 0";
        form.push(FieldError::invalid(&Path::new("status").child("restoreSize"), size, detail));
    }
    all(form, |errors| {
        let old = old.and_then(Object::spec);
        if old.has("sourceVolumeMode") && !spec.has("sourceVolumeMode") {
            errors.push(shown::omitted(&path, "sourceVolumeMode is required once set"));
        }
        let (both, at) = ((spec.under("source"), old.under("source")), path.child("source"));
        one_for_ever(errors, both, HANDLES, HANDLES, &at);
        for field in ["snapshotHandle", "volumeHandle"] {
            immutable(errors, both, field, &format!("{field} is immutable"), &at);
        }
        immutable(errors, (spec, old), "sourceVolumeMode", "sourceVolumeMode is immutable", &path);
        let reference = spec.under("volumeSnapshotRef");
        if !reference.has("name") || !reference.has("namespace") {
            let said = "both spec.volumeSnapshotRef.name and spec.volumeSnapshotRef.namespace must be set";
            errors.push(shown::omitted(&path.child("volumeSnapshotRef"), said));
        }
    })
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("ReadyToUse", "boolean", "Whether a volume can be made of it."),
        column("RestoreSize", "integer", "How large a volume of it has to be, in bytes."),
        column("DeletionPolicy", "string", "What becomes of the snapshot with this object."),
        column("Driver", "string", "Which driver took it."),
        column("VolumeSnapshotClass", "string", "Of which class it is."),
        column("VolumeSnapshot", "string", "Which VolumeSnapshot has it."),
        column("VolumeSnapshotNamespace", "string", "In which namespace that is."),
        Column { kind: "date", ..table::age() },
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let reference = spec.under("volumeSnapshotRef");
    vec![
        object.name().into(),
        cell(status, "readyToUse"),
        cell(status, "restoreSize"),
        cell(spec, "deletionPolicy"),
        cell(spec, "driver"),
        cell(spec, "volumeSnapshotClassName"),
        cell(reference, "name"),
        cell(reference, "namespace"),
        table::age_of(object, now),
    ]
}
