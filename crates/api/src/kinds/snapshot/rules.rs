//! What rules of custom resources say, in the order in which Kubernetes asks them.

use crate::contract::Object;
use crate::contract::field::{ErrorKind, FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, table};
use crate::kinds::shown;
use serde_json::{Map, Value};

type Part<'a> = Option<&'a Map<String, Value>>;

/// What the schema says, then the rules: those are not asked where the object is not of the form they need.
pub(super) fn all(mut errors: FieldErrors, rules: impl FnOnce(&mut FieldErrors)) -> FieldErrors {
    let blocks = |error: &FieldError| matches!(error.kind, ErrorKind::Required | ErrorKind::NotSupported);
    if errors.iter().any(blocks) {
        let detail = "some validation rules were not checked because the object was invalid; correct the existing errors \
                      to complete validation";
        errors.push(shown::invalid(&Path::new("<nil>"), "null".to_owned(), detail));
    } else {
        rules(&mut errors);
    }
    errors
}

/// Fields that have to be there.
pub(super) fn required(errors: &mut FieldErrors, part: Part<'_>, fields: &[&str], path: &Path) {
    let absent = fields.iter().filter(|field| !part.has(field));
    errors.extend(absent.map(|field| FieldError::required(&path.child(field), "")));
}

/// The errors of an object that has to have a spec with these fields.
pub(super) fn spec_with(object: &Object, fields: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    required(&mut errors, Some(&object.0), &["spec"], &Path::root());
    if let Some(spec) = object.spec() {
        required(&mut errors, Some(spec), fields, &Path::new("spec"));
    }
    errors
}

/// What becomes of a snapshot with its object.
pub(super) fn deletion_policy(errors: &mut FieldErrors, part: Part<'_>, path: &Path) {
    if let Some(policy) = part.maybe("deletionPolicy") {
        crate::kinds::base::check::one_of(
            errors,
            &path.child("deletionPolicy"),
            policy,
            &["Delete", "Retain"],
        );
    }
}

/// A broken rule about `value`, which is shown where it is no object or list.
pub(super) fn broken(path: &Path, value: &Value, said: &str) -> FieldError {
    match value {
        Value::Object(_) | Value::Array(_) => shown::omitted(path, said),
        value => FieldError::invalid(path, value.clone(), said),
    }
}

/// A field that stays as it is while it is there.
pub(super) fn immutable(
    errors: &mut FieldErrors,
    (new, old): (Part<'_>, Part<'_>),
    field: &str,
    said: &str,
    path: &Path,
) {
    if let (Some(new), Some(old)) = (new.field(field), old.field(field))
        && new != old
    {
        errors.push(broken(&path.child(field), new, said));
    }
}

/// Fields that do not go away, of which exactly one is there.
pub(super) fn one_for_ever(
    errors: &mut FieldErrors,
    (new, old): (Part<'_>, Part<'_>),
    fields: [&str; 2],
    told: [&str; 2],
    path: &Path,
) {
    for field in fields.into_iter().filter(|field| old.has(field) && !new.has(field)) {
        errors.push(shown::omitted(path, format!("{field} is required once set")));
    }
    let [one, other] = fields;
    if new.has(one) == new.has(other) {
        errors.push(shown::omitted(path, format!("exactly one of {} and {} must be set", told[0], told[1])));
    }
}

/// A name that says something where it is there.
pub(super) fn not_empty(errors: &mut FieldErrors, part: Part<'_>, field: &str, path: &Path) {
    if part.maybe(field) == Some("") {
        let said = format!("{field} must not be the empty string when set");
        errors.push(FieldError::invalid(&path.child(field), "", said));
    }
}

/// A cell: what is there, or nothing.
pub(super) fn cell(part: Part<'_>, field: &str) -> Value {
    part.field(field).cloned().unwrap_or(Value::Null)
}

/// The cell of a time: how long ago it was.
pub(super) fn since(part: Part<'_>, field: &str, now: i64) -> Value {
    part.maybe(field).map_or(Value::Null, |time| table::since(time, now).into())
}
