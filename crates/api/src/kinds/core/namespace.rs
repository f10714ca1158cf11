//! Namespace.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::{Column, Part, Verbs};
use serde_json::{Value, json};

const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn kind() -> Kind {
    Kind::new("", "v1", "Namespace", "namespaces", "io.k8s.api.core.v1.Namespace")
        .cluster_scoped()
        .verbs(Verbs { delete_collection: false, ..Verbs::ALL })
        .short(&["ns"])
        .without_generation()
        .named(names::dns_label)
        .parts(&[Part::Status, Part::Finalize])
        .default(default)
        .prepare_create(prepare_create)
        .prepare_update(prepare_update)
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
        .selectable(&["name", "status.phase"])
        .selected(|object, field| match field {
            "name" => object.name().to_owned(),
            _ => object.text(&["status", "phase"]).to_owned(),
        })
}

fn default(object: &mut Object) {
    if !object.name().is_empty() {
        let name = object.name().to_owned();
        object.make(&["metadata", "labels"]).insert(NAME_LABEL.to_owned(), name.into());
    }
    object.make(&["spec"]);
    object.make(&["status"]).fill_text("phase", "Active");
}

fn prepare_create(object: &mut Object) {
    object.0.insert("status".to_owned(), json!({"phase": "Active"}));
    let spec = object.make(&["spec"]);
    if !spec.texts("finalizers").any(|name| name == FINALIZER) {
        let mut finalizers = spec.list("finalizers").to_vec();
        finalizers.push(FINALIZER.into());
        spec.insert("finalizers".to_owned(), finalizers.into());
    }
    // A name that was generated is known by now.
    default(object);
}

fn prepare_update(part: Part, object: &mut Object, old: &Object) {
    match part {
        // Finalizers change through `/finalize` alone.
        Part::Main => match old.at(&["spec", "finalizers"]) {
            Some(finalizers) => {
                drop(object.make(&["spec"]).insert("finalizers".to_owned(), finalizers.clone()))
            }
            None => drop(object.remove(&["spec", "finalizers"])),
        },
        Part::Finalize => match old.0.get("status") {
            Some(status) => drop(object.0.insert("status".to_owned(), status.clone())),
            None => drop(object.0.remove("status")),
        },
        _ => {}
    }
    default(object);
}

fn validate(object: &Object) -> FieldErrors {
    let path = Path::new("spec").child("finalizers");
    object.spec().texts("finalizers").flat_map(|name| finalizer_errors(&path, name)).collect()
}

/// A finalizer is qualified with a domain, but for those of Kubernetes itself.
fn finalizer_errors(path: &Path, name: &str) -> FieldErrors {
    let mut errors = names::qualified_name_errors(path, name);
    if !name.contains('/') && !matches!(name, FINALIZER | names::ORPHAN | names::FOREGROUND) {
        let detail = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(FieldError::invalid(path, name, detail));
    }
    errors
}

fn validate_update(part: Part, new: &Object, _old: &Object) -> FieldErrors {
    match part {
        Part::Status => phase_errors(new),
        Part::Finalize => {
            let path = Path::new("spec").child("finalizers");
            let finalizers = new.spec().texts("finalizers").enumerate();
            finalizers.flat_map(|(index, name)| finalizer_errors(&path.index(index), name)).collect()
        }
        _ => validate(new),
    }
}

fn phase_errors(object: &Object) -> FieldErrors {
    let phase = object.text(&["status", "phase"]);
    let (wanted, when) =
        if object.is_terminating() { ("Terminating", "is not empty") } else { ("Active", "is empty") };
    let mut errors = FieldErrors::new();
    if phase != wanted {
        let detail = format!("may only be '{wanted}' if `deletionTimestamp` {when}");
        errors.extend(check::invalid(&Path::new("status").child("Phase"), phase, vec![detail]));
    }
    errors
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Status", "string", "The status of the namespace"), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let phase = object.text(&["status", "phase"]);
    vec![object.name().into(), phase.into(), table::age_of(object, now)]
}
