//! What somebody wants to do.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Fields, check};
use crate::kinds::shown::Shown;
use serde_json::{Map, Value};

/// What is wrong with what is asked of a resource: with its selectors.
pub(super) fn errors(errors: &mut FieldErrors, resource: &Map<String, Value>, path: &Path) {
    for field in ["fieldSelector", "labelSelector"] {
        let Some(selector) = resource.map(field) else { continue };
        let path = path.child(field);
        let (raw, requirements) = (selector.text("rawSelector"), selector.list("requirements"));
        if !raw.is_empty() && !requirements.is_empty() {
            let detail = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(&path.child("rawSelector"), raw, detail));
        }
        if raw.is_empty() && requirements.is_empty() {
            let detail = format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), detail));
        }
        for (index, requirement) in requirements.iter().enumerate() {
            let path = path.child("requirements").index(index);
            requirement_errors(errors, requirement, field == "labelSelector", &path);
        }
    }
}

/// Operators that are not known yet are taken.
fn requirement_errors(errors: &mut FieldErrors, requirement: &Value, of_labels: bool, path: &Path) {
    let key = requirement.text("key");
    if !of_labels && key.is_empty() {
        errors.push(FieldError::required(&path.child("key"), "must be specified"));
    }
    let (none, at) = (requirement.list("values").is_empty(), path.child("values"));
    match requirement.text("operator") {
        "In" | "NotIn" if none => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&at, detail));
        }
        "Exists" | "DoesNotExist" if !none => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at, detail));
        }
        _ => {}
    }
    if of_labels {
        errors.extend(names::qualified_name_errors(&path.child("key"), key));
        for (index, value) in requirement.texts("values").enumerate() {
            errors.extend(check::invalid(&at.index(index), value, names::label_value(value)));
        }
    }
}

/// What is asked of a path, as messages show it.
pub(super) fn shown_path(path: Option<&Value>) -> String {
    let Some(path) = path else { return "null".to_owned() };
    Shown::new().text("Path", path.text("path")).text("Verb", path.text("verb")).end()
}
