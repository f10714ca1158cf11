//! Deployment.

use super::amounts::{amount, not_above_all};
use super::{replica_set, replicas};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::shown::{self, Shown};
use crate::kinds::template;
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

pub(super) fn kind() -> Kind {
    Kind::new("apps", "v1", "Deployment", "deployments", "io.k8s.api.apps.v1.Deployment")
        .short(&["deploy"])
        .categories(&["all"])
        .parts(&[Part::Status, Part::Scale])
        .status_keeps(&["labels"])
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .default(default)
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({}))))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(replica_set::warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    template::default(spec);
    spec.fill("replicas", 1);
    spec.fill("revisionHistoryLimit", 10);
    spec.fill("progressDeadlineSeconds", 600);
    if let Some(strategy) = spec.inside("strategy") {
        strategy.fill_text("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate"
            && let Some(rolling) = strategy.inside("rollingUpdate")
        {
            rolling.fill("maxUnavailable", "25%");
            rolling.fill("maxSurge", "25%");
        }
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let not_negative = |errors: &mut FieldErrors, field: &str| {
        check::not_negative(errors, &path.child(field), spec.int(field));
    };
    not_negative(&mut errors, "replicas");
    replica_set::pods(&mut errors, spec, &path);
    strategy(&mut errors, spec.under("strategy"), &path.child("strategy"));
    not_negative(&mut errors, "minReadySeconds");
    not_negative(&mut errors, "revisionHistoryLimit");
    if let Some(deadline) = spec.int("progressDeadlineSeconds") {
        not_negative(&mut errors, "progressDeadlineSeconds");
        if deadline <= spec.int("minReadySeconds").unwrap_or(0) {
            let at = path.child("progressDeadlineSeconds");
            errors.push(FieldError::invalid(&at, deadline, "must be greater than minReadySeconds"));
        }
    }
    errors
}

fn strategy(errors: &mut FieldErrors, strategy: Option<&Map<String, Value>>, path: &Path) {
    let rolling = strategy.under("rollingUpdate");
    let at = path.child("rollingUpdate");
    match strategy.text("type") {
        "Recreate" if rolling.is_some() => {
            errors
                .push(FieldError::forbidden(&at, "may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => match rolling {
            None => errors.push(FieldError::required(&at, "this should be defaulted and never be nil")),
            Some(rolling) => rolling_update(errors, rolling, &at),
        },
        kind => {
            let rolling = rolling.map_or_else(|| "null".to_owned(), |rolling| shown_rolling(rolling, 0));
            let value = Shown::new().text("Type", kind).raw("RollingUpdate", &rolling).end();
            errors.push(shown::not_supported(path, value, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn shown_rolling(rolling: &Map<String, Value>, absent: i64) -> String {
    let of = |field| rolling.field(field).cloned().unwrap_or_else(|| absent.into());
    let (unavailable, surge) = (of("maxUnavailable"), of("maxSurge"));
    Shown::new().field("MaxUnavailable", Some(&unavailable)).field("MaxSurge", Some(&surge)).end()
}

fn rolling_update(errors: &mut FieldErrors, rolling: &Map<String, Value>, path: &Path) {
    let zero = Value::from(0);
    let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    let at = path.child("maxUnavailable");
    check::count_or_percent(errors, &at, unavailable.unwrap_or(&zero));
    check::count_or_percent(errors, &path.child("maxSurge"), surge.unwrap_or(&zero));
    if amount(unavailable) == 0 && amount(surge) == 0 {
        let shown = unavailable.unwrap_or(&zero).clone();
        errors.push(FieldError::invalid(&at, shown, "may not be 0 when `maxSurge` is 0"));
    }
    not_above_all(errors, &at, unavailable.unwrap_or(&zero));
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part != Part::Status {
        let mut errors = validate(object);
        replica_set::same_selector(&mut errors, object, old);
        return errors;
    }
    let mut errors = FieldErrors::new();
    replicas::not_negative(
        &mut errors,
        object,
        &[
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ],
    );
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    replicas::not_above(&mut errors, object, &parts, "replicas", "status.replicas");
    replicas::not_above(&mut errors, object, &["availableReplicas"], "readyReplicas", "readyReplicas");
    replicas::collisions_go_up(&mut errors, object, old);
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    let own = [
        table::name(),
        column("Ready", "string", "How many pods are ready, of how many wished for."),
        column("Up-to-date", "string", "How many pods are of the newest template."),
        column("Available", "string", "How many pods have been ready for long enough."),
        table::age(),
    ];
    own.into_iter().chain(table::template_columns("Which pods belong to it.")).collect()
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let count = |field| status.int(field).unwrap_or(0);
    let (containers, images) = table::containers(spec.under("template").under("spec"));
    vec![
        object.name().into(),
        format!("{}/{}", count("readyReplicas"), spec.int("replicas").unwrap_or(0)).into(),
        count("updatedReplicas").into(),
        count("availableReplicas").into(),
        table::age_of(object, now),
        containers.into(),
        images.into(),
        table::selector(spec.under("selector")).into(),
    ]
}
