//! VolumeGroupSnapshotContent.

use super::Version;
use super::rules::{all, cell, deletion_policy, immutable, one_for_ever, required, spec_with};
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, table};
use crate::kinds::inside::Inside;
use crate::kinds::shown;
use crate::resource::{Column, Part};
use serde_json::{Map, Value};

const HANDLES: [&str; 2] = ["volumeHandles", "groupSnapshotHandles"];

pub(super) fn kind(version: &Version) -> Kind {
    let stored_as = "volumegroupsnapshotcontents.groupsnapshot.storage.k8s.io";
    version
        .kind("VolumeGroupSnapshotContent", "volumegroupsnapshotcontents", stored_as, version.content)
        .cluster_scoped()
        .short(&["vgsc", "vgscs"])
        .parts(&[Part::Status])
        .validate(|object| errors(object, None))
        .validate_update(|_, object, old| errors(object, Some(old)))
        .table(columns, row)
}

fn errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut form = spec_with(object, &["deletionPolicy", "driver", "source", "volumeGroupSnapshotRef"]);
    deletion_policy(&mut form, spec, &path);
    let source = path.child("source");
    if let Some(handles) = spec.under("source").under("groupSnapshotHandles") {
        let fields = ["volumeGroupSnapshotHandle", "volumeSnapshotHandles"];
        required(&mut form, Some(handles), &fields, &source.child("groupSnapshotHandles"));
    }
    all(form, |errors| {
        let kept = old.and_then(Object::spec);
        immutable(errors, (spec, kept), "driver", "driver is immutable once set", &path);
        let both = (spec.under("source"), kept.under("source"));
        one_for_ever(errors, both, HANDLES, HANDLES, &source);
        for field in ["groupSnapshotHandles", "volumeHandles"] {
            immutable(errors, both, field, &format!("{field} is immutable"), &source);
        }
        let class = "volumeGroupSnapshotClassName";
        immutable(errors, (spec, kept), class, &format!("{class} is immutable once set"), &path);
        let field = "volumeGroupSnapshotRef";
        reference(errors, spec.under(field), kept.under(field), &path.child(field));
        let handle = "volumeGroupSnapshotHandle";
        let both = (object.status(), old.and_then(Object::status));
        immutable(errors, both, handle, &format!("{handle} is immutable once set"), &Path::new("status"));
    })
}

fn reference(
    errors: &mut FieldErrors,
    new: Option<&Map<String, Value>>,
    old: Option<&Map<String, Value>>,
    path: &Path,
) {
    let mut say = |said: &str| errors.push(shown::omitted(path, said));
    if !new.has("name") || !new.has("namespace") {
        say("both volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace must be set");
        return;
    }
    if old.is_some() && ["name", "namespace"].iter().any(|field| new.text(field) != old.text(field)) {
        say("volumeGroupSnapshotRef.name and volumeGroupSnapshotRef.namespace are immutable");
    }
    if old.has("uid") && new.field("uid") != old.field("uid") {
        say("volumeGroupSnapshotRef.uid is immutable once set");
    }
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("ReadyToUse", "boolean", "Whether volumes can be made of it."),
        column("DeletionPolicy", "string", "What becomes of the snapshots with this object."),
        column("Driver", "string", "Which driver took them."),
        column("VolumeGroupSnapshotClass", "string", "Of which class they are."),
        column("VolumeGroupSnapshotNamespace", "string", "In which namespace the VolumeGroupSnapshot is."),
        column("VolumeGroupSnapshot", "string", "Which VolumeGroupSnapshot has them."),
        Column { kind: "date", ..table::age() },
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let reference = spec.under("volumeGroupSnapshotRef");
    vec![
        object.name().into(),
        cell(status, "readyToUse"),
        cell(spec, "deletionPolicy"),
        cell(spec, "driver"),
        cell(spec, "volumeGroupSnapshotClassName"),
        cell(reference, "namespace"),
        cell(reference, "name"),
        table::age_of(object, now),
    ]
}
