//! Conditions under which a webhook or a policy is asked.

use crate::cel::Wanted;
use crate::cel::admission::Scope;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Fields, check};
use serde_json::Value;
use std::collections::HashSet;

const CONDITIONS_MAX: usize = 64;

/// What is wrong with conditions.
pub(super) fn errors(errors: &mut FieldErrors, conditions: &[Value], scope: &Scope, path: &Path) {
    if conditions.len() > CONDITIONS_MAX {
        errors.push(FieldError::too_many(path, conditions.len(), CONDITIONS_MAX));
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        expression_errors(
            errors,
            condition.text("expression"),
            "",
            scope,
            &[Wanted::Bool],
            &path.child("expression"),
        );
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

/// What is wrong with an expression; `blank` is told of one that is not there.
pub(super) fn expression_errors(
    errors: &mut FieldErrors,
    source: &str,
    blank: &str,
    scope: &Scope,
    wanted: &[Wanted],
    path: &Path,
) {
    if source.trim().is_empty() {
        errors.push(FieldError::required(path, blank));
    } else if let Err(cause) = scope.compile(source.trim(), wanted) {
        errors.push(FieldError::invalid(path, source, cause));
    }
}
