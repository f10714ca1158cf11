//! The behavior, which the first version tells under the names of Go.

use crate::kinds::base::Fields;
use crate::kinds::shown::{self, Shown};
use serde_json::{Map, Value};

const RULES: &[(&str, &str)] = &[("ScaleUp", "scaleUp"), ("ScaleDown", "scaleDown")];
const FIELDS: &[(&str, &str)] = &[
    ("StabilizationWindowSeconds", "stabilizationWindowSeconds"),
    ("SelectPolicy", "selectPolicy"),
    ("Policies", "policies"),
    ("Tolerance", "tolerance"),
];
const POLICY: &[(&str, &str)] = &[("Type", "type"), ("Value", "value"), ("PeriodSeconds", "periodSeconds")];

/// As text of the annotation.
pub(super) fn to_v1(behavior: &Value) -> String {
    let rules = RULES.iter().fold(Shown::new(), |shown, (name, field)| {
        let rules = behavior.map(field).map_or_else(|| "null".to_owned(), rules_to_v1);
        shown.raw(name, &rules)
    });
    rules.end()
}

fn rules_to_v1(rules: &Map<String, Value>) -> String {
    let fields = FIELDS.iter().fold(Shown::new(), |shown, (name, field)| match *field {
        "policies" => {
            let policies: Vec<String> = rules.list(field).iter().map(policy_to_v1).collect();
            shown.raw(name, &shown::list(&policies))
        }
        field => shown.field(name, rules.field(field)),
    });
    fields.end()
}

fn policy_to_v1(policy: &Value) -> String {
    POLICY.iter().fold(Shown::new(), |shown, (name, field)| shown.field(name, policy.field(field))).end()
}

/// From the annotation; `None` where it says nothing. Go finds fields whatever their case.
pub(super) fn to_v2(behavior: &Value) -> Option<Value> {
    let renamed = rename(behavior, RULES, |_, rules| {
        Value::Object(rename(rules, FIELDS, |field, value| match value.as_array() {
            Some(policies) if field == "policies" => policies
                .iter()
                .map(|policy| Value::Object(rename(policy, POLICY, |_, value| value.clone())))
                .collect(),
            _ => value.clone(),
        }))
    });
    (!renamed.is_empty()).then(|| renamed.into())
}

fn rename(from: &Value, names: &[(&str, &str)], value: impl Fn(&str, &Value) -> Value) -> Map<String, Value> {
    let mut to = Map::new();
    for (key, told) in from.as_object().into_iter().flatten().filter(|(_, told)| !told.is_null()) {
        if let Some((_, field)) = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            to.insert((*field).to_owned(), value(field, told));
        }
    }
    to
}
