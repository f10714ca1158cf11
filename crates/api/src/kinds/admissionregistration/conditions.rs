//! Conditions under which a webhook or a policy is asked. Their expressions are compiled where they are evaluated.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Fields, check};
use serde_json::Value;
use std::collections::HashSet;

const CONDITIONS_MAX: usize = 64;

/// What is wrong with conditions.
pub(super) fn errors(errors: &mut FieldErrors, conditions: &[Value], path: &Path) {
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        if condition.text("expression").trim().is_empty() {
            errors.push(FieldError::required(&path.child("expression"), ""));
        }
        let (name, at) = (condition.text("name"), path.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
            continue;
        }
        errors.extend(check::invalid(&at, name, names::qualified_name(name)));
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
    }
}
