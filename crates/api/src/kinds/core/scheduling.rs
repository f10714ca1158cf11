//! Where pods and volumes may be: node selectors, taints and tolerations.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields};
use serde_json::Value;

pub(super) const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// What is wrong with a node selector: terms of which one has to match.
pub(in crate::kinds) fn node_selector(errors: &mut FieldErrors, path: &Path, selector: &Value) {
    let terms = selector.list("nodeSelectorTerms");
    let at = path.child("nodeSelectorTerms");
    if terms.is_empty() {
        errors.required(&at, "must have at least one node selector term");
    }
    for (index, term) in terms.iter().enumerate() {
        node_term(errors, &at.index(index), term, true);
    }
}

/// One term; `strict`: values have to be values of labels.
pub(super) fn node_term(errors: &mut FieldErrors, path: &Path, term: &Value, strict: bool) {
    for (index, requirement) in term.list("matchExpressions").iter().enumerate() {
        node_requirement(errors, &path.child("matchExpressions").index(index), requirement, strict);
    }
    for (index, requirement) in term.list("matchFields").iter().enumerate() {
        field_requirement(errors, &path.child("matchFields").index(index), requirement);
    }
}

fn node_requirement(errors: &mut FieldErrors, at: &Path, requirement: &Value, strict: bool) {
    let (operator, values) = (requirement.text("operator"), requirement.list("values"));
    let path = at.child("values");
    match operator {
        "In" | "NotIn" if values.is_empty() => {
            errors.required(&path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            errors.forbidden(&path, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "Gt" | "Lt" if values.len() != 1 => {
            errors.required(&path, "must be specified single value when `operator` is 'Lt' or 'Gt'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.invalid(&at.child("operator"), operator, "not a valid selector operator"),
    }
    let key = requirement.text("key");
    errors.malformed(at, "key", key, names::qualified_name(key));
    if strict {
        for (index, value) in requirement.texts("values").enumerate() {
            for detail in names::label_value(value) {
                errors.invalid(&path.index(index), value, detail);
            }
        }
    }
}

fn field_requirement(errors: &mut FieldErrors, at: &Path, requirement: &Value) {
    let (operator, key) = (requirement.text("operator"), requirement.text("key"));
    if !matches!(operator, "In" | "NotIn") {
        errors.invalid(&at.child("operator"), operator, "not a valid selector operator");
    } else if requirement.list("values").len() != 1 {
        let rule = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
        errors.required(&at.child("values"), rule);
    }
    if key != "metadata.name" {
        errors.invalid(&at.child("key"), key, "not a valid field selector key");
        return;
    }
    for (index, value) in requirement.texts("values").enumerate() {
        for detail in names::dns_subdomain(value, false) {
            errors.invalid(&at.child("values").index(index), value, detail);
        }
    }
}

/// What is wrong with tolerations.
pub(in crate::kinds) fn tolerations(errors: &mut FieldErrors, path: &Path, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let at = path.index(index);
        let (key, operator) = (toleration.text("key"), toleration.text("operator"));
        let (value, effect) = (toleration.text("value"), toleration.text("effect"));
        let operator_path = || at.child("operator");
        if !key.is_empty() {
            errors.malformed(&at, "key", key, names::qualified_name(key));
        } else if operator != "Exists" {
            let rule =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.invalid(&operator_path(), operator, rule);
        }
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let rule = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.invalid(&at.child("effect"), effect, rule);
        }
        match operator {
            "Equal" | "" => {
                let details = names::label_value(value);
                if !details.is_empty() {
                    errors.invalid(&operator_path(), value, details.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.invalid(&operator_path(), value, "value must be empty when `operator` is 'Exists'");
            }
            "Exists" => {}
            "Lt" | "Gt" => errors.not_supported(&operator_path(), operator, &["Equal", "Exists", "Lt", "Gt"]),
            _ => errors.not_supported(&operator_path(), operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.not_supported(&at.child("effect"), effect, EFFECTS);
        }
    }
}
