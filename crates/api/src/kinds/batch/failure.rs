//! `podFailurePolicy` of a Job: what a failed pod means.

use super::spec::{containers, qualified};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, check};
use crate::kinds::shown::{self, Shown};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];
const RULES_MAX: usize = 20;
const CODES_MAX: usize = 255;
const PATTERNS_MAX: usize = 20;

/// What is wrong with the policy in `spec`.
pub(super) fn errors(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let Some(policy) = spec.field("podFailurePolicy") else { return };
    let rules = policy.list("rules");
    let path = path.child("podFailurePolicy").child("rules");
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), RULES_MAX));
    }
    let names = containers(spec);
    for (index, rule) in rules.iter().enumerate() {
        let path = path.index(index);
        action(errors, rule.text("action"), spec.has("backoffLimitPerIndex"), &path.child("action"));
        let (codes, patterns) = (rule.map("onExitCodes"), rule.list("onPodConditions"));
        if let Some(codes) = codes {
            exit_codes(errors, codes, &names, &path.child("onExitCodes"));
        }
        conditions(errors, patterns, &path.child("onPodConditions"));
        match (codes.is_some(), patterns.is_empty()) {
            (true, false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(shown::omitted(&path, detail));
            }
            (false, true) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(shown::omitted(&path, detail));
            }
            _ => {}
        }
    }
}

fn valid_values(values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("valid values: [{}]", quoted.join(" "))
}

/// One of the values there are, which has to be said.
fn said(errors: &mut FieldErrors, value: &str, values: &[&str], path: &Path) {
    if value.is_empty() {
        errors.push(FieldError::required(path, valid_values(values)));
    } else {
        check::one_of(errors, path, value, values);
    }
}

fn action(errors: &mut FieldErrors, action: &str, per_index: bool, path: &Path) {
    if action == "FailIndex" && !per_index {
        errors.push(FieldError::invalid(path, action, "requires the backoffLimitPerIndex to be set"));
    } else {
        said(errors, action, ACTIONS, path);
    }
}

fn exit_codes(errors: &mut FieldErrors, rule: &Map<String, Value>, names: &[&str], path: &Path) {
    let operator = rule.text("operator");
    said(errors, operator, &["In", "NotIn"], &path.child("operator"));
    if let Some(name) = rule.maybe("containerName").filter(|name| !names.contains(name)) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(&path.child("containerName"), name, detail));
    }
    let path = path.child("values");
    let values: Vec<i64> = rule.list("values").iter().map(|value| value.as_i64().unwrap_or(0)).collect();
    if values.is_empty() {
        errors.push(FieldError::invalid(&path, json!([]), "at least one value is required"));
    } else if values.len() > CODES_MAX {
        errors.push(FieldError::too_many(&path, values.len(), CODES_MAX));
    }
    let mut seen = HashSet::new();
    for (index, value) in values.iter().enumerate() {
        let path = path.index(index);
        if operator == "In" && *value == 0 {
            errors.push(FieldError::invalid(&path, 0, "must not be 0 for the In operator"));
        }
        if !seen.insert(value) {
            errors.push(FieldError::duplicate(&path, *value));
        }
    }
    if !values.is_sorted() {
        errors.push(FieldError::invalid(&path, values, "must be ordered"));
    }
}

fn conditions(errors: &mut FieldErrors, patterns: &[Value], path: &Path) {
    if patterns.len() > PATTERNS_MAX {
        errors.push(FieldError::too_many(path, patterns.len(), PATTERNS_MAX));
    }
    for (index, pattern) in patterns.iter().enumerate() {
        let path = path.index(index);
        qualified(errors, &path.child("type"), pattern.text("type"));
        said(errors, pattern.text("status"), &["False", "True", "Unknown"], &path.child("status"));
    }
}

/// The policy as messages show it.
pub(super) fn shown(policy: Option<&Value>) -> String {
    let Some(policy) = policy else { return "null".to_owned() };
    let rules: Vec<String> = policy.list("rules").iter().map(shown_rule).collect();
    Shown::new().raw("Rules", &shown::list(&rules)).end()
}

fn shown_rule(rule: &Value) -> String {
    let codes = rule.map("onExitCodes").map_or_else(
        || "null".to_owned(),
        |codes| {
            Shown::new()
                .field("ContainerName", codes.field("containerName"))
                .text("Operator", codes.text("operator"))
                .field("Values", codes.field("values"))
                .end()
        },
    );
    let patterns: Vec<String> = rule
        .list("onPodConditions")
        .iter()
        .map(|pattern| {
            Shown::new().text("Type", pattern.text("type")).text("Status", pattern.text("status")).end()
        })
        .collect();
    Shown::new()
        .text("Action", rule.text("action"))
        .raw("OnExitCodes", &codes)
        .raw("OnPodConditions", &shown::list(&patterns))
        .end()
}
