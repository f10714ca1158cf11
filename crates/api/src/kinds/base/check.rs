//! Checks that many kinds have.

use super::Fields;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use serde_json::{Map, Value};

/// The text of a number that is negative.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// The text of a field that may not change.
pub const IMMUTABLE: &str = "field is immutable";

/// Telling errors in a few words.
pub trait Errors {
    /// The field has to be there.
    fn required(&mut self, path: &Path, detail: &str);
    /// The value is not well formed.
    fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>);
    /// The value is not well formed; it is shown as Kubernetes has its type inside.
    fn invalid_inside(&mut self, path: &Path, form: &str, value: &Value, detail: impl Into<String>);
    /// The field may not be set, or not be changed.
    fn forbidden(&mut self, path: &Path, detail: impl Into<String>);
    /// The value is none of those there are.
    fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]);
    /// The value is there twice.
    fn duplicate(&mut self, path: &Path, value: &str);
    /// What the value names is not there.
    fn not_found(&mut self, path: &Path, value: &str);
    /// The value of `field` is not well formed for each of `details`.
    fn malformed(&mut self, path: &Path, field: &str, value: &str, details: Vec<String>);
    /// The string `field` of `owner` has to be there and not empty.
    fn needs<'a>(&mut self, path: &Path, owner: impl Fields<'a>, field: &str);
    /// `field` of `owner` is one of `supported` where it is there; where it is not and has to be, it is required.
    fn choice<'a>(
        &mut self,
        path: &Path,
        owner: impl Fields<'a>,
        field: &str,
        supported: &[&str],
        needed: bool,
    );
}

impl Errors for FieldErrors {
    fn required(&mut self, path: &Path, detail: &str) {
        self.push(FieldError::required(path, detail));
    }

    fn invalid(&mut self, path: &Path, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    fn invalid_inside(&mut self, path: &Path, form: &str, value: &Value, detail: impl Into<String>) {
        let shown = Some(super::internal::shown(form, value));
        self.push(FieldError { shown, ..FieldError::invalid(path, Value::Null, detail) });
    }

    fn forbidden(&mut self, path: &Path, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    fn not_supported(&mut self, path: &Path, value: &str, supported: &[&str]) {
        self.push(FieldError::not_supported(path, value, supported));
    }

    fn duplicate(&mut self, path: &Path, value: &str) {
        self.push(FieldError::duplicate(path, value));
    }

    fn not_found(&mut self, path: &Path, value: &str) {
        self.push(FieldError::not_found(path, value));
    }

    fn malformed(&mut self, path: &Path, field: &str, value: &str, details: Vec<String>) {
        if !details.is_empty() {
            self.extend(invalid(&path.child(field), value, details));
        }
    }

    fn needs<'a>(&mut self, path: &Path, owner: impl Fields<'a>, field: &str) {
        if owner.text(field).is_empty() {
            self.required(&path.child(field), "");
        }
    }

    fn choice<'a>(
        &mut self,
        path: &Path,
        owner: impl Fields<'a>,
        field: &str,
        supported: &[&str],
        needed: bool,
    ) {
        match owner.maybe(field) {
            None | Some("") if needed => self.required(&path.child(field), ""),
            None => {}
            Some(value) if supported.contains(&value) => {}
            Some(value) => self.not_supported(&path.child(field), value, supported),
        }
    }
}

/// The path of an object as a whole, as Kubernetes writes it where it means no field in particular.
#[must_use]
pub fn whole() -> Path {
    Path::new("[]")
}

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
