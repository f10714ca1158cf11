//! Amounts of pods: numbers or percentages.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use serde_json::Value;

/// The number of an amount, or its percentage; 0 where it is neither.
pub(super) fn amount(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::String(text)) => {
            let percent = text.strip_suffix('%').filter(|_| names::percent(text).is_empty());
            percent.unwrap_or(text).parse().unwrap_or(0)
        }
        number => number.and_then(Value::as_i64).unwrap_or(0),
    }
}

/// A percentage may not be above 100.
pub(in crate::kinds) fn not_above_all(errors: &mut FieldErrors, path: &Path, value: &Value) {
    let is_percentage = value.as_str().is_some_and(|text| names::percent(text).is_empty());
    if is_percentage && amount(Some(value)) > 100 {
        errors.push(FieldError::invalid(path, value.clone(), "must not be greater than 100%"));
    }
}
