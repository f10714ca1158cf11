//! PodDisruptionBudget.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::apps::not_above_all;
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::conditions;
use crate::kinds::inside::Inside;
use crate::kinds::shown::{self, Shown};
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

const COUNTS: &[&str] = &["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.policy.v1.PodDisruptionBudget";
    Kind::new("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", type_name)
        .short(&["pdb"])
        .any_finalizer_at_first()
        .lax_updates()
        .named(names::path_segment)
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(|object| {
            let zero: Map<String, Value> =
                COUNTS.iter().map(|count| ((*count).to_owned(), json!(0))).collect();
            object.0.insert("status".to_owned(), zero.into());
        })
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn default(object: &mut Object) {
    object.make(&["spec"]);
    if let Some(status) = object.0.within("status") {
        COUNTS.iter().for_each(|count| status.fill(count, 0));
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let shown = Shown::new()
            .field("MinAvailable", spec.field("minAvailable"))
            .raw("Selector", &shown::selector(spec.field("selector")))
            .field("MaxUnavailable", spec.field("maxUnavailable"))
            .field("UnhealthyPodEvictionPolicy", spec.field("unhealthyPodEvictionPolicy"))
            .end();
        errors.push(shown::invalid(&path, shown, "minAvailable and maxUnavailable cannot be both set"));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        if let Some(amount) = spec.field(field) {
            check::count_or_percent(&mut errors, &path.child(field), amount);
            not_above_all(&mut errors, &path.child(field), amount);
        }
    }
    if let Some(selector) = spec.under("selector") {
        check::label_selector(&mut errors, &path.child("selector"), selector);
    }
    if let Some(policy) = spec.maybe("unhealthyPodEvictionPolicy") {
        let at = path.child("unhealthyPodEvictionPolicy");
        check::one_of(&mut errors, &at, policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
    errors
}

fn validate_update(part: Part, object: &Object, _old: &Object) -> FieldErrors {
    if part != Part::Status {
        return validate(object);
    }
    let (status, path) = (object.status(), Path::new("status"));
    let list = status.items("conditions");
    let mut errors = conditions::errors(list, &path.child("conditions"));
    for count in COUNTS {
        check::not_negative(&mut errors, &path.child(count), status.int(count));
    }
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Min Available", "string", "How many pods have to stay."),
        column("Max Unavailable", "string", "How many pods may be away."),
        column("Allowed Disruptions", "integer", "How many pods may be evicted now."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let amount = |field| match object.spec().field(field) {
        Some(Value::String(text)) => text.clone(),
        Some(number) => number.to_string(),
        None => "N/A".to_owned(),
    };
    vec![
        object.name().into(),
        amount("minAvailable").into(),
        amount("maxUnavailable").into(),
        object.status().int("disruptionsAllowed").unwrap_or(0).into(),
        table::age_of(object, now),
    ]
}
