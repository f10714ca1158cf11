//! How fast an autoscaler may go up and down.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::quantity::Quantity;
use crate::kinds::base::{Defaults, Fields, check};
use crate::kinds::inside::Inside;
use serde_json::{Map, Value, json};

const WINDOW_MAX: i64 = 3600;
const PERIOD_MAX: i64 = 1800;

/// Fills in the rules of a spec that has a behavior.
pub(super) fn default(spec: &mut Map<String, Value>) {
    let Some(behavior) = spec.within("behavior") else { return };
    let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = behavior.inside("scaleUp") {
        up.fill("stabilizationWindowSeconds", 0);
        up.fill("selectPolicy", "Max");
        up.fill("policies", json!([pods, percent]));
    }
    if let Some(down) = behavior.inside("scaleDown") {
        down.fill("selectPolicy", "Max");
        down.fill("policies", json!([percent]));
    }
}

/// What is wrong with the rules.
pub(super) fn errors(errors: &mut FieldErrors, behavior: Option<&Map<String, Value>>, path: &Path) {
    for field in ["scaleUp", "scaleDown"] {
        if let Some(rules) = behavior.under(field) {
            rules_errors(errors, rules, &path.child(field));
        }
    }
}

fn rules_errors(errors: &mut FieldErrors, rules: &Map<String, Value>, path: &Path) {
    let at = path.child("stabilizationWindowSeconds");
    match rules.int("stabilizationWindowSeconds") {
        Some(window @ ..0) => {
            errors.push(FieldError::invalid(&at, window, "must be greater than or equal to zero"));
        }
        Some(window) if window > WINDOW_MAX => {
            let detail = format!("must be less than or equal to {WINDOW_MAX}");
            errors.push(FieldError::invalid(&at, window, detail));
        }
        _ => {}
    }
    if let Some(policy) = rules.maybe("selectPolicy") {
        check::one_of(errors, &path.child("selectPolicy"), policy, &["Disabled", "Max", "Min"]);
    }
    let (policies, at) = (rules.list("policies"), path.child("policies"));
    if policies.is_empty() {
        errors.push(FieldError::required(&at, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        policy_errors(errors, policy, &at.index(index));
    }
    if let Some(tolerance) = rules.field("tolerance")
        && Quantity::from_json(tolerance).is_ok_and(|tolerance| tolerance.is_negative())
    {
        errors.push(FieldError::invalid(&path.child("tolerance"), tolerance.clone(), check::NOT_NEGATIVE));
    }
}

fn policy_errors(errors: &mut FieldErrors, policy: &Value, path: &Path) {
    check::one_of(errors, &path.child("type"), policy.text("type"), &["Percent", "Pods"]);
    let at = path.child("periodSeconds");
    let period = policy.int("periodSeconds").unwrap_or(0);
    for (field, number) in [("value", policy.int("value").unwrap_or(0)), ("periodSeconds", period)] {
        if number <= 0 {
            errors.push(FieldError::invalid(&path.child(field), number, "must be greater than zero"));
        }
    }
    if period > PERIOD_MAX {
        let detail = format!("must be less than or equal to {PERIOD_MAX}");
        errors.push(FieldError::invalid(&at, period, detail));
    }
}
