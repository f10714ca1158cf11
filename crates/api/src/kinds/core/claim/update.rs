//! What may change of a claim that is kept.

use super::validate;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Errors, Fields, check as base, diff, internal};
use crate::kinds::core::pod::resources::quantity;
use crate::kinds::core::resource_names;
use crate::kinds::core::volume::OLD_CLASS;
use crate::resource::Part;
use serde_json::{Map, Value};

const FORM: &str = "PersistentVolumeClaimSpec";
const ATTRIBUTES: &str = "volumeAttributesClassName";

/// What is wrong with an update.
pub(super) fn check(part: Part, new: &Object, old: &Object) -> FieldErrors {
    if part == Part::Status {
        return status(new);
    }
    let mut errors = validate(new);
    let empty = Map::new();
    let (is, was) = (new.spec().unwrap_or(&empty), old.spec().unwrap_or(&empty));
    let (mut wished, mut kept) = (is.clone(), was.clone());
    if was.text("volumeName").is_empty() {
        copy(&mut kept, is, "volumeName");
    }
    class(&mut errors, new, old, &mut wished);
    let bound = new.text(&["status", "phase"]) == "Bound";
    if bound {
        copy(&mut wished, was, ATTRIBUTES);
        if let Some(requests) = wished.within("resources").and_then(|own| own.within("requests")) {
            let size = was.field("resources").field("requests").field("storage").cloned();
            requests.insert("storage".to_owned(), size.unwrap_or_else(|| "0".into()));
        }
    }
    let (wished, kept) = (Value::from(wished), Value::from(kept));
    if !internal::same(FORM, &wished, &kept) {
        let changes = diff::unified(&internal::pretty(FORM, &kept), &internal::pretty(FORM, &wished));
        let rule = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                    claims";
        errors.forbidden(&Path::new("spec"), format!("{rule}\n{changes}"));
    }
    size(&mut errors, is, was, old);
    base::immutable(&mut errors, &Path::new("volumeMode"), is.field("volumeMode"), was.field("volumeMode"));
    attributes(&mut errors, is, was, old);
    errors
}

fn copy(to: &mut Map<String, Value>, from: &Map<String, Value>, field: &str) {
    match from.get(field) {
        Some(value) => drop(to.insert(field.to_owned(), value.clone())),
        None => drop(to.remove(field)),
    }
}

/// A class may be named where there was none, or in the field where there was the annotation.
fn class(errors: &mut FieldErrors, new: &Object, old: &Object, wished: &mut Map<String, Value>) {
    let annotation = |object: &Object| object.strings("annotations").maybe(OLD_CLASS).map(str::to_owned);
    let (is, was) = (annotation(new), annotation(old));
    let (named, before) = (new.spec().maybe("storageClassName"), old.spec().maybe("storageClassName"));
    let upgraded =
        was.is_some() && before.is_none() && named == was.as_deref() && (is.is_none() || is == was);
    if upgraded {
        wished.remove("storageClassName");
        return;
    }
    if is.as_deref().unwrap_or_default() != was.as_deref().unwrap_or_default() {
        let at = Path::new("metadata").child("annotations").child(OLD_CLASS);
        errors.invalid(&at, is.unwrap_or_default(), base::IMMUTABLE);
    }
    if before.is_none() && named.is_some() && (was.is_none() || named == was.as_deref()) {
        wished.remove("storageClassName");
    }
}

/// A claim may shrink back to more than it has: an expansion that failed.
fn size(errors: &mut FieldErrors, is: &Map<String, Value>, was: &Map<String, Value>, old: &Object) {
    let of = |spec: &Map<String, Value>| {
        spec.field("resources").field("requests").field("storage").and_then(quantity).unwrap_or_default()
    };
    let has = old.status().field("capacity").field("storage").and_then(quantity).unwrap_or_default();
    if of(is) < of(was) && of(is) <= has {
        let at = Path::new("spec").child("resources").child("requests").child("storage");
        errors.forbidden(&at, "field can not be less than status.capacity");
    }
}

fn attributes(errors: &mut FieldErrors, is: &Map<String, Value>, was: &Map<String, Value>, old: &Object) {
    if is.maybe(ATTRIBUTES) == was.maybe(ATTRIBUTES) || !old.status().has("currentVolumeAttributesClassName")
    {
        return;
    }
    let at = Path::new("spec").child(ATTRIBUTES);
    let rule = "is forbidden when status.currentVolumeAttributesClassName is not nil";
    match is.maybe(ATTRIBUTES) {
        None => errors.forbidden(&at, format!("update to nil {rule}")),
        Some("") => errors.forbidden(&at, format!("update to empty string {rule}")),
        Some(_) => {}
    }
}

fn status(new: &Object) -> FieldErrors {
    const STATUSES: &[&str] = &[
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    let mut errors = FieldErrors::new();
    let path = Path::new("status");
    if new.spec().list("accessModes").is_empty() {
        errors.required(&Path::new("Spec").child("accessModes"), "");
    }
    for (name, value) in new.status().entries("capacity") {
        basic(&mut errors, &path.child("capacity").key(name), value);
    }
    let at = path.child("allocatedResourceStatuses");
    for (name, value) in new.status().entries("allocatedResourceStatuses") {
        key(&mut errors, &at, name);
        if !value.as_str().is_some_and(|status| STATUSES.contains(&status)) {
            errors.not_supported(&at, name, STATUSES);
        }
    }
    let at = path.child("allocatedResources");
    for (name, value) in new.status().entries("allocatedResources") {
        if key(&mut errors, &at, name)
            && basic(&mut errors, &at.key(name), value)
            && let Some(amount) = quantity(value)
        {
            resource_names::amount(&mut errors, &at.key(name), "storage", &amount);
        }
    }
    errors
}

/// Whether the name of a resource is one that a claim can have.
fn key(errors: &mut FieldErrors, path: &Path, name: &str) -> bool {
    let found = names::qualified_name_errors(path, name);
    let well_formed = found.is_empty();
    errors.extend(found);
    if well_formed && resource_names::is_native(name) && name != "storage" {
        errors.not_supported(path, name, &["storage"]);
        return false;
    }
    well_formed
}

fn basic(errors: &mut FieldErrors, path: &Path, value: &Value) -> bool {
    let amount = quantity(value).unwrap_or_default();
    if amount.is_negative() {
        errors.invalid(path, amount.value(), "must be a valid resource quantity");
    }
    !amount.is_negative()
}
