//! VolumeSnapshotClass and VolumeGroupSnapshotClass.

use super::rules::{all, deletion_policy, immutable, required};
use super::{GROUP, Version};
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, table};
use crate::resource::Column;
use serde_json::Value;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.storage.snapshot.v1.VolumeSnapshotClass";
    Kind::new(GROUP, "v1", "VolumeSnapshotClass", "volumesnapshotclasses", type_name)
        .cluster_scoped()
        .short(&["vsclass", "vsclasses"])
        .prepare_create(|_| {})
        .validate(form)
        .table(columns, row)
}

pub(super) fn group_kind(version: &Version) -> Kind {
    let stored_as = "volumegroupsnapshotclasses.groupsnapshot.storage.k8s.io";
    version
        .kind("VolumeGroupSnapshotClass", "volumegroupsnapshotclasses", stored_as, version.class)
        .cluster_scoped()
        .short(&["vgsclass", "vgsclasses"])
        .prepare_create(|_| {})
        .validate(|object| all(form(object), |_| {}))
        .validate_update(|_, object, old| {
            all(form(object), |errors| {
                let both = (Some(&object.0), Some(&old.0));
                for (field, are) in [("deletionPolicy", "is"), ("driver", "is"), ("parameters", "are")] {
                    immutable(
                        errors,
                        both,
                        field,
                        &format!("{field} {are} immutable once set"),
                        &Path::root(),
                    );
                }
            })
        })
        .table(columns, row)
}

fn form(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, Some(&object.0), &["deletionPolicy", "driver"], &Path::root());
    deletion_policy(&mut errors, Some(&object.0), &Path::root());
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Driver", "string", "Which driver takes the snapshots."),
        column("DeletionPolicy", "string", "What becomes of a snapshot with its object."),
        Column { kind: "date", ..table::age() },
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![
        object.name().into(),
        object.0.text("driver").into(),
        object.0.text("deletionPolicy").into(),
        table::age_of(object, now),
    ]
}
