//! Conditions in the form that all kinds of today share.

use super::base::{Fields, check};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use serde_json::Value;
use std::collections::HashSet;

const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;

/// What is wrong with conditions.
pub(super) fn errors(conditions: &[Value], path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let kind = condition.text("type");
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        condition_errors(&mut errors, condition, &path);
    }
    errors
}

fn condition_errors(errors: &mut FieldErrors, condition: &Value, path: &Path) {
    let kind = condition.text("type");
    errors.extend(check::invalid(&path.child("type"), kind, names::qualified_name(kind)));
    let status = condition.text("status");
    check::one_of(errors, &path.child("status"), status, &["False", "True", "Unknown"]);
    if let Some(generation) = condition.int("observedGeneration").filter(|generation| *generation < 0) {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&path.child("observedGeneration"), generation, detail));
    }
    if condition.text("lastTransitionTime").is_empty() {
        errors.push(FieldError::required(&path.child("lastTransitionTime"), ""));
    }
    let (reason, at) = (condition.text("reason"), path.child("reason"));
    if reason.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        if !is_reason(reason) {
            errors.push(FieldError::invalid(&at, reason, reason_form()));
        }
        if reason.len() > REASON_MAX {
            errors.push(FieldError::too_long(&at, REASON_MAX));
        }
    }
    if condition.text("message").len() > MESSAGE_MAX {
        errors.push(FieldError::too_long(&path.child("message"), MESSAGE_MAX));
    }
}

fn is_reason(reason: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b',' | b':');
    let ends = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = reason.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(|byte| inner(*byte))
        && bytes.last().is_some_and(|byte| ends(*byte))
}

fn reason_form() -> String {
    let message = "a condition reason must start with alphabetic character, optionally followed by a string of \
                   alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    names::form(message, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples)
}
