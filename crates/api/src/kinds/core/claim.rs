//! PersistentVolumeClaim.

mod update;

use super::pod::defaults::round_up;
use super::pod::resources::quantity;
use super::resource_names;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Errors, Fields, Kind, check, table};
use crate::resource::{Column, Part};
use serde_json::{Map, Value};

pub(super) const ACCESS_MODES: &[&str] =
    &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
pub(super) const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

pub(super) fn kind() -> Kind {
    Kind::new(
        "",
        "v1",
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        "io.k8s.api.core.v1.PersistentVolumeClaim",
    )
    .short(&["pvc"])
    .without_generation()
    .parts(&[Part::Status])
    .default(|object| {
        let status = object.make(&["status"]);
        status.fill_text("phase", "Pending");
        for field in ["capacity", "allocatedResources"] {
            if let Some(amounts) = status.within(field) {
                round_up(amounts);
            }
        }
        default_spec(object.make(&["spec"]));
    })
    .prepare_create(|object| {
        object.0.insert("status".to_owned(), serde_json::json!({ "phase": "Pending" }));
        let spec = object.make(&["spec"]);
        drop_sources(spec, None);
        both_sources(spec);
    })
    .prepare_update(|part, object, old| {
        if part != Part::Status {
            let spec = object.make(&["spec"]);
            drop_sources(spec, old.spec());
            both_sources(spec);
        }
    })
    .validate(validate)
    .validate_update(update::check)
    .warnings(warnings)
    .table(columns, row)
    .selectable(&["name"])
    .selected(|object, _| object.name().to_owned())
}

/// The old field of the source and the new one say the same where one of them can say it all.
fn both_sources(spec: &mut Map<String, Value>) {
    let (old, new) = (spec.field("dataSource").cloned(), spec.field("dataSourceRef").cloned());
    match (old, new) {
        (Some(old), None) => drop(spec.insert("dataSourceRef".to_owned(), old)),
        (None, Some(mut new)) if new.text("namespace").is_empty() => {
            if let Some(fields) = new.as_object_mut() {
                fields.remove("namespace");
            }
            spec.insert("dataSource".to_owned(), new);
        }
        _ => {}
    }
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = Map::new();
    spec(&mut errors, &Path::new("spec"), object.spec().unwrap_or(&empty));
    errors
}

fn warnings(object: &Object, _old: Option<&Object>) -> Vec<String> {
    let mut warnings = Vec::new();
    if object.strings("annotations").has(super::volume::OLD_CLASS) {
        warnings.push(format!(
            "metadata.annotations[{}]: deprecated since v1.8; use \"storageClassName\" attribute instead",
            super::volume::OLD_CLASS
        ));
    }
    warnings.extend(spec_warnings(object.0.field("spec"), &Path::new("spec")));
    warnings
}

/// Sizes that are no whole number of bytes.
pub fn spec_warnings(spec: Option<&Value>, path: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    for field in ["requests", "limits"] {
        let amount = spec.field("resources").field(field).field("storage").and_then(quantity);
        if let Some(amount) = amount.filter(|amount| amount.milli_value() % 1000 != 0) {
            let at = path.child("resources").child(field).key("storage");
            warnings.push(format!("{at}: fractional byte value \"{amount}\" is invalid, must be an integer"));
        }
    }
    warnings
}

/// Of sources in the old field Kubernetes takes claims and snapshots alone, and one in another namespace is a feature that
/// is off. What is dropped so is told by nobody.
fn drop_sources(spec: &mut Map<String, Value>, old: Option<&Map<String, Value>>) {
    let abroad = !spec.field("dataSourceRef").text("namespace").is_empty();
    if abroad && !old.has("dataSourceRef") {
        spec.remove("dataSourceRef");
    }
    if old.has("dataSource") || old.has("dataSourceRef") || spec.has("dataSourceRef") {
        return;
    }
    let source = spec.field("dataSource");
    let known = matches!(
        (source.text("kind"), source.text("apiGroup")),
        ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
    );
    if !known {
        spec.remove("dataSource");
    }
}

fn columns() -> Vec<Column> {
    let (column, wide) = (table::column, table::wide);
    vec![
        table::name(),
        column("Status", "string", "PersistentVolumeClaimStatus.phase"),
        column("Volume", "string", "PersistentVolumeClaimSpec.volumeName"),
        column("Capacity", "string", "PersistentVolumeClaimStatus.capacity"),
        column("Access Modes", "string", "PersistentVolumeClaimStatus.accessModes"),
        column("StorageClass", "string", "StorageClass of the pvc"),
        column("VolumeAttributesClass", "string", "VolumeAttributesClass of the pvc"),
        table::age(),
        wide("VolumeMode", "string", "PersistentVolumeClaimSpec.volumeMode"),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let phase = if object.is_terminating() { "Terminating" } else { status.text("phase") };
    let bound = !spec.text("volumeName").is_empty();
    let size = status.field("capacity").field("storage").and_then(quantity).unwrap_or_default();
    vec![
        object.name().into(),
        phase.into(),
        spec.text("volumeName").into(),
        if bound { size.to_string() } else { String::new() }.into(),
        if bound { super::volume::short_modes(status.list("accessModes")) } else { String::new() }.into(),
        super::volume::class(object).into(),
        spec.maybe("volumeAttributesClassName").unwrap_or("<unset>").into(),
        table::age_of(object, now),
        spec.maybe("volumeMode").unwrap_or("<unset>").into(),
    ]
}

/// Defaults of the spec of a claim, in claims and in templates.
pub fn default_spec(spec: &mut Map<String, Value>) {
    spec.fill("volumeMode", "Filesystem");
    if let Some(resources) = spec.inside("resources") {
        for field in ["limits", "requests"] {
            if let Some(list) = resources.within(field) {
                round_up(list);
            }
        }
    }
}

/// What is wrong with the claim of a template: in pods (`ephemeral`) metadata is labels and annotations alone.
pub(super) fn template(errors: &mut FieldErrors, at: &Path, template: &Map<String, Value>) {
    let metadata = template.field("metadata");
    let path = at.child("metadata");
    if let Some(annotations) = metadata.and_then(|all| all.map("annotations")) {
        errors.extend(names::annotations_errors(&path.child("annotations"), annotations));
    }
    if let Some(labels) = metadata.and_then(|all| all.map("labels")) {
        errors.extend(names::labels_errors(&path.child("labels"), labels));
    }
    for field in [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    ] {
        let told = if field == "uid" { "uID" } else { field };
        let set = match metadata.field(field) {
            None => false,
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(list)) => !list.is_empty(),
            Some(Value::Number(number)) => {
                number.as_i64() != Some(0) || field == "deletionGracePeriodSeconds"
            }
            Some(_) => true,
        };
        if set {
            errors.forbidden(&path.child(told), "cannot be set");
        }
    }
    let empty = Map::new();
    spec(errors, &at.child("spec"), template.map("spec").unwrap_or(&empty));
}

/// Modes of access, of claims and volumes.
pub(super) fn access_modes(errors: &mut FieldErrors, path: &Path, owner: &Map<String, Value>) {
    let (mut alone, mut others) = (false, false);
    for mode in owner.texts("accessModes") {
        if !ACCESS_MODES.contains(&mode) {
            errors.not_supported(&path.child("accessModes"), mode, ACCESS_MODES);
        }
        alone |= mode == "ReadWriteOncePod";
        others |= mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&mode);
    }
    if alone && others {
        errors.forbidden(&path.child("accessModes"), "may not use ReadWriteOncePod with other access modes");
    }
}

/// What is wrong with the spec of a new claim.
#[must_use]
pub fn validate_spec(value: &Value, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let empty = Map::new();
    spec(&mut errors, path, value.as_object().unwrap_or(&empty));
    errors
}

/// What is wrong with the spec of a claim.
pub(in crate::kinds) fn spec(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    if spec.list("accessModes").is_empty() {
        errors.required(&path.child("accessModes"), "at least 1 access mode is required");
    }
    if let Some(selector) = spec.map("selector") {
        check::label_selector(errors, &path.child("selector"), selector);
    }
    access_modes(errors, path, spec);
    size(errors, &path.child("resources").key("storage"), spec);
    class(errors, path, spec, "storageClassName");
    errors.choice(path, spec, "volumeMode", VOLUME_MODES, false);
    sources(errors, path, spec);
    class(errors, path, spec, "volumeAttributesClassName");
}

fn size(errors: &mut FieldErrors, at: &Path, spec: &Map<String, Value>) {
    match spec.field("resources").field("requests").field("storage").and_then(quantity) {
        None => errors.required(at, ""),
        Some(size) if size.is_zero() || size.is_negative() => {
            errors.invalid(at, size.to_string(), "must be greater than zero");
        }
        Some(size) => resource_names::amount(errors, at, "storage", &size),
    }
}

fn class(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>, field: &str) {
    let name = spec.text(field);
    if !name.is_empty() {
        errors.malformed(path, field, name, names::dns_subdomain(name, false));
    }
}

fn sources(errors: &mut FieldErrors, path: &Path, spec: &Map<String, Value>) {
    let (source, reference) = (spec.field("dataSource"), spec.field("dataSourceRef"));
    for (field, value) in [("dataSource", source), ("dataSourceRef", reference)] {
        if let Some(value) = value {
            source_errors(errors, &path.child(field), value);
        }
    }
    let namespace = reference.text("namespace");
    if !namespace.is_empty() {
        let at = path.child("dataSourceRef");
        errors.malformed(&at, "namespace", namespace, names::dns_label(namespace, false));
        if source.is_some() {
            // The value that Kubernetes shows is a path, which has nothing to show.
            errors.invalid(
                path,
                Map::new(),
                "may not be specified when dataSourceRef.namespace is specified",
            );
        }
    } else if let (Some(source), Some(reference)) = (source, reference) {
        let same =
            ["apiGroup", "kind", "name"].iter().all(|field| source.field(field) == reference.field(field));
        if !same {
            errors.invalid(path, Map::new(), "must match dataSourceRef");
        }
    }
}

fn source_errors(errors: &mut FieldErrors, at: &Path, source: &Value) {
    errors.needs(at, source, "name");
    errors.needs(at, source, "kind");
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() {
        if kind != "PersistentVolumeClaim" {
            let rule = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(at, kind, rule);
        }
    } else {
        errors.malformed(at, "apiGroup", group, names::dns_subdomain(group, false));
    }
}
