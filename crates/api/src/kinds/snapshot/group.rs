//! VolumeGroupSnapshot.

use super::Version;
use super::rules::{all, cell, immutable, not_empty, one_for_ever, required, since, spec_with};
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Kind, table};
use crate::kinds::inside::Inside;
use crate::resource::{Column, Part};
use serde_json::Value;

const SOURCES: [&str; 2] = ["selector", "volumeGroupSnapshotContentName"];

pub(super) fn kind(version: &Version) -> Kind {
    let stored_as = "volumegroupsnapshots.groupsnapshot.storage.k8s.io";
    version
        .kind("VolumeGroupSnapshot", "volumegroupsnapshots", stored_as, version.snapshot)
        .short(&["vgs"])
        .parts(&[Part::Status])
        .validate(|object| errors(object, None))
        .validate_update(|_, object, old| errors(object, Some(old)))
        .table(columns, row)
}

fn errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut form = spec_with(object, &["source"]);
    let source = path.child("source");
    let selector = spec.under("source").under("selector");
    for (index, expression) in selector.items("matchExpressions").iter().enumerate() {
        let at = source.child("selector").child("matchExpressions").index(index);
        required(&mut form, expression.as_object(), &["key", "operator"], &at);
    }
    all(form, |errors| {
        let kept = old.and_then(Object::spec);
        let both = (spec.under("source"), kept.under("source"));
        one_for_ever(errors, both, SOURCES, SOURCES, &source);
        for field in SOURCES {
            immutable(errors, both, field, &format!("{field} is immutable"), &source);
        }
        not_empty(errors, spec, "volumeGroupSnapshotClassName", &path);
        let bound = "boundVolumeGroupSnapshotContentName";
        let both = (object.status(), old.and_then(Object::status));
        immutable(errors, both, bound, &format!("{bound} is immutable once set"), &Path::new("status"));
    })
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("ReadyToUse", "boolean", "Whether volumes can be made of it."),
        column("VolumeGroupSnapshotClass", "string", "The class that was asked for."),
        column("VolumeGroupSnapshotContent", "string", "The object of the snapshots themselves."),
        column("CreationTime", "date", "How long ago it was taken."),
        Column { kind: "date", ..table::age() },
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    vec![
        object.name().into(),
        cell(status, "readyToUse"),
        cell(spec, "volumeGroupSnapshotClassName"),
        cell(status, "boundVolumeGroupSnapshotContentName"),
        since(status, "creationTime", now),
        table::age_of(object, now),
    ]
}
