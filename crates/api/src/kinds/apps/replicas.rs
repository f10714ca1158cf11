//! Counts of pods in the status of workloads.

use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, check};

/// The path of a field of the status.
pub(super) fn at(field: &str) -> Path {
    Path::new("status").child(field)
}

/// Counts that may not be negative.
pub(super) fn not_negative(errors: &mut FieldErrors, object: &Object, fields: &[&str]) {
    for field in fields {
        check::not_negative(errors, &at(field), object.status().int(field));
    }
}

/// Counts that may not be above that of `most`; the message names it as told.
pub(super) fn not_above(errors: &mut FieldErrors, object: &Object, fields: &[&str], most: &str, named: &str) {
    let status = object.status();
    for field in fields {
        let count = status.int(field).unwrap_or(0);
        if count > status.int(most).unwrap_or(0) {
            errors.push(FieldError::invalid(&at(field), count, format!("cannot be greater than {named}")));
        }
    }
}

/// How often names of revisions collided never goes down.
pub(super) fn collisions_go_up(errors: &mut FieldErrors, object: &Object, old: &Object) {
    let (new, old) = (object.status().int("collisionCount"), old.status().int("collisionCount"));
    if old.is_some_and(|old| new.is_none_or(|new| new < old)) {
        let detail = "cannot be decremented";
        errors.push(FieldError::invalid(&at("collisionCount"), new.unwrap_or(0), detail));
    }
}
