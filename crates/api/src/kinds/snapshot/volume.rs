//! VolumeSnapshot.

use super::GROUP;
use super::rules::{all, cell, immutable, not_empty, one_for_ever, since, spec_with};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::quantity::Quantity;
use crate::kinds::base::{Fields, Kind, table};
use crate::kinds::inside::Inside;
use crate::resource::{Column, Part};
use serde_json::Value;

const SOURCES: [&str; 2] = ["persistentVolumeClaimName", "volumeSnapshotContentName"];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.storage.snapshot.v1.VolumeSnapshot";
    Kind::new(GROUP, "v1", "VolumeSnapshot", "volumesnapshots", type_name)
        .short(&["vs"])
        .parts(&[Part::Status])
        .validate(|object| errors(object, None))
        .validate_update(|_, object, old| errors(object, Some(old)))
        .table(columns, row)
}

fn errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut form = spec_with(object, &["source"]);
    if let Some(Value::String(size)) = object.status().field("restoreSize")
        && Quantity::parse(size).is_err()
    {
        let pattern = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
        let detail = format!("restoreSize in body should match '{pattern}'");
        form.push(FieldError::invalid(&Path::new("status").child("restoreSize"), size.as_str(), detail));
    }
    all(form, |errors| {
        let source = |object: Option<&Object>| -> Option<serde_json::Map<String, Value>> {
            object?.spec().under("source").cloned()
        };
        let (new, old) = (source(Some(object)), source(old));
        let (both, at) = ((new.as_ref(), old.as_ref()), path.child("source"));
        one_for_ever(errors, both, SOURCES, [SOURCES[1], SOURCES[0]], &at);
        for field in SOURCES {
            immutable(errors, both, field, &format!("{field} is immutable"), &at);
        }
        not_empty(errors, spec, "volumeSnapshotClassName", &path);
    })
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("ReadyToUse", "boolean", "Whether a volume can be made of it."),
        column("SourcePVC", "string", "Of which claim it is or will be taken."),
        column("SourceSnapshotContent", "string", "Which snapshot it is, where that was there before."),
        column("RestoreSize", "string", "How large a volume of it has to be."),
        column("SnapshotClass", "string", "The class that was asked for."),
        column("SnapshotContent", "string", "The object of the snapshot itself."),
        column("CreationTime", "date", "How long ago it was taken."),
        Column { kind: "date", ..table::age() },
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let source = spec.under("source");
    vec![
        object.name().into(),
        cell(status, "readyToUse"),
        cell(source, SOURCES[0]),
        cell(source, SOURCES[1]),
        cell(status, "restoreSize"),
        cell(spec, "volumeSnapshotClassName"),
        cell(status, "boundVolumeSnapshotContentName"),
        since(status, "creationTime", now),
        table::age_of(object, now),
    ]
}
