//! Checks that many kinds have.

use super::Fields;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use serde_json::{Map, Value};

/// The text of a number that is negative.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The text of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// The errors of details about one value.
pub fn invalid(path: &Path, value: &str, details: Vec<String>) -> impl Iterator<Item = FieldError> {
    details.into_iter().map(move |detail| FieldError::invalid(path, value, detail))
}

/// A number that may not be negative.
pub fn not_negative(errors: &mut FieldErrors, path: &Path, value: Option<i64>) {
    if let Some(value) = value.filter(|value| *value < 0) {
        errors.push(FieldError::invalid(path, value, NOT_NEGATIVE));
    }
}

/// A field of `new` that has to be as it is in `old`; the message shows the new value, null where it is absent.
pub fn immutable(errors: &mut FieldErrors, path: &Path, new: Option<&Value>, old: Option<&Value>) {
    let (new, old) = (super::defined(new), super::defined(old));
    if new != old {
        errors.push(FieldError::invalid(path, new.cloned().unwrap_or(Value::Null), IMMUTABLE));
    }
}

/// One of the values there are: an empty one is required, another is not supported.
pub fn one_of(errors: &mut FieldErrors, path: &Path, value: &str, supported: &[&str]) {
    if !supported.contains(&value) {
        errors.push(FieldError::not_supported(path, value, supported));
    }
}

/// What is wrong with a label selector (`matchLabels`, `matchExpressions`).
pub fn label_selector(errors: &mut FieldErrors, path: &Path, selector: &Map<String, Value>) {
    if let Some(labels) = selector.map("matchLabels") {
        errors.extend(names::labels_errors(&path.child("matchLabels"), labels));
    }
    for (index, requirement) in selector.list("matchExpressions").iter().enumerate() {
        label_requirement(errors, &path.child("matchExpressions").index(index), requirement);
    }
}

fn label_requirement(errors: &mut FieldErrors, path: &Path, requirement: &Value) {
    let values = requirement.list("values");
    let operator = requirement.text("operator");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            let detail = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&path.child("values"), detail));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let detail = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&path.child("values"), detail));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ => {
            let detail = "not a valid selector operator";
            errors.push(FieldError::invalid(&path.child("operator"), operator, detail));
        }
    }
    errors.extend(names::qualified_name_errors(&path.child("key"), requirement.text("key")));
    for (index, value) in requirement.texts("values").enumerate() {
        let found = names::label_value(value);
        if !found.is_empty() {
            errors.extend(invalid(&path.child("values").index(index), value, found));
        }
    }
}

/// Whether a label selector selects nothing in particular: neither labels nor expressions.
#[must_use]
pub fn selects_all(selector: &Map<String, Value>) -> bool {
    selector.map("matchLabels").is_none_or(Map::is_empty) && selector.list("matchExpressions").is_empty()
}

/// A positive number or a percentage.
pub fn count_or_percent(errors: &mut FieldErrors, path: &Path, value: &Value) {
    match value {
        Value::String(text) => errors.extend(invalid(path, text, names::percent(text))),
        number => not_negative(errors, path, number.as_i64()),
    }
}

/// A number of a port or the name of one.
pub fn port(errors: &mut FieldErrors, path: &Path, value: Option<&Value>) {
    match value {
        Some(Value::String(name)) => errors.extend(invalid(path, name, names::port_name(name))),
        number => {
            let number = number.and_then(Value::as_i64).unwrap_or(0);
            let found = names::port_number(number).into_iter();
            errors.extend(found.map(|detail| FieldError::invalid(path, number, detail)));
        }
    }
}
