//! VolumeAttachment.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::core::volume;
use crate::kinds::inside::Inside;
use crate::kinds::names::csi_driver;
use crate::kinds::shown::{self, Shown};
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

const METADATA_MAX: usize = 256 * 1024;
const MESSAGE_MAX: usize = 1024;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.storage.v1.VolumeAttachment";
    Kind::new(GROUP, "v1", "VolumeAttachment", "volumeattachments", type_name)
        .lax_updates()
        .cluster_scoped()
        .without_generation()
        .parts(&[Part::Status])
        .status_keeps(&["labels", "annotations", "finalizers", "ownerReferences"])
        .default(default)
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({"attached": false}))))
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn default(object: &mut Object) {
    object.make(&["spec"]).inside("source");
    if let Some(status) = object.0.within("status") {
        status.fill("attached", false);
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = csi_driver(&path.child("attacher"), spec.text("attacher"));
    let source = spec.under("source");
    source_errors(&mut errors, source, &path.child("source"));
    let node = spec.text("nodeName");
    errors.extend(check::invalid(&path.child("nodeName"), node, names::dns_subdomain(node, false)));
    status_errors(&mut errors, object.status(), &Path::new("status"));
    if let Some(name) = source.maybe("persistentVolumeName") {
        let at = path.child("source").child("persistentVolumeName");
        errors.extend(check::invalid(&at, name, names::dns_subdomain(name, false)));
    }
    errors
}

fn source_errors(errors: &mut FieldErrors, source: Option<&Map<String, Value>>, path: &Path) {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.field("inlineVolumeSpec"), source.maybe("persistentVolumeName")) {
        (None, None) => errors.push(FieldError::required(path, ONE)),
        (Some(_), Some(_)) => errors.push(FieldError::forbidden(path, ONE)),
        (None, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&path.child("persistentVolumeName"), detail));
        }
        (None, Some(_)) => {}
        (Some(inline), None) => {
            errors.extend(volume::validate_inline_spec(inline, &path.child("inlineVolumeSpec")));
        }
    }
}

fn status_errors(errors: &mut FieldErrors, status: Option<&Map<String, Value>>, path: &Path) {
    let size: usize = status
        .entries("attachmentMetadata")
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > METADATA_MAX {
        errors.push(FieldError::too_long(&path.child("attachmentMetadata"), METADATA_MAX));
    }
    for field in ["attachError", "detachError"] {
        let (Some(error), path) = (status.under(field), path.child(field)) else { continue };
        if error.text("message").len() > MESSAGE_MAX {
            // Kubernetes names the other limit here.
            errors.push(FieldError::too_long(&path.child("message"), METADATA_MAX));
        }
        if let Some(code) = error.int("errorCode").filter(|code| *code < 0) {
            let detail = names::between(0, i64::from(i32::MAX));
            errors.push(FieldError::invalid(&path.child("errorCode"), code, detail));
        }
    }
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = validate(object);
    let spec = object.spec();
    if part != Part::Status && spec != old.spec() {
        let source = spec.under("source");
        let shown_source = Shown::new()
            .field("PersistentVolumeName", source.field("persistentVolumeName"))
            .field("InlineVolumeSpec", source.field("inlineVolumeSpec"))
            .end();
        let shown = Shown::new()
            .text("Attacher", spec.text("attacher"))
            .raw("Source", &shown_source)
            .text("NodeName", spec.text("nodeName"))
            .end();
        errors.push(shown::invalid(&Path::new("spec"), shown, check::IMMUTABLE));
    }
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        Column { format: "name", ..column("Attacher", "string", "Which driver attaches it.") },
        column("PV", "string", "Which volume."),
        column("Node", "string", "To which node."),
        column("Attached", "boolean", "Whether it is attached."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    vec![
        object.name().into(),
        spec.text("attacher").into(),
        spec.under("source").text("persistentVolumeName").into(),
        spec.text("nodeName").into(),
        object.status().is("attached").into(),
        table::age_of(object, now),
    ]
}
