//! DaemonSet.

use super::amounts::{amount, not_above_all};
use super::replicas;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::shown::{self, Shown};
use crate::kinds::template;
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

/// How often the template has changed; Kubernetes keeps the count although it is deprecated.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

const COUNTS: &[&str] =
    &["currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady"];

pub(super) fn kind() -> Kind {
    Kind::new("apps", "v1", "DaemonSet", "daemonsets", "io.k8s.api.apps.v1.DaemonSet")
        .short(&["ds"])
        .categories(&["all"])
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(prepare_create)
        .prepare_update(prepare_update)
        .validate(validate)
        .validate_update(validate_update)
        .warnings(|object, old| template::warnings(object, old, &["spec", "template"]))
        .table(columns, row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    template::default(spec);
    spec.fill("revisionHistoryLimit", 10);
    if let Some(strategy) = spec.inside("updateStrategy") {
        strategy.fill_text("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate"
            && let Some(rolling) = strategy.inside("rollingUpdate")
        {
            rolling.fill("maxUnavailable", 1);
            rolling.fill("maxSurge", 0);
        }
    }
    if let Some(status) = object.0.within("status") {
        COUNTS.iter().for_each(|count| status.fill(count, 0));
    }
}

fn template_generation(object: &Object) -> i64 {
    let told = object.strings("annotations").and_then(|all| all.get(TEMPLATE_GENERATION));
    told.and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_template_generation(object: &mut Object, generation: i64) {
    let annotations = object.make(&["metadata", "annotations"]);
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string().into());
}

fn prepare_create(object: &mut Object) {
    let zero: Map<String, Value> = COUNTS.iter().map(|count| ((*count).to_owned(), json!(0))).collect();
    object.0.insert("status".to_owned(), zero.into());
    set_template_generation(object, template_generation(object).max(1));
}

fn prepare_update(part: Part, object: &mut Object, old: &Object) {
    if part == Part::Main {
        let changed = object.spec().field("template") != old.spec().field("template");
        set_template_generation(object, template_generation(old) + i64::from(changed));
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let selector = spec.under("selector");
    if let Some(selector) = selector {
        check::label_selector(&mut errors, &path.child("selector"), selector);
    }
    if template::selects(spec) == Ok(false) {
        errors.push(template::unselected(spec, &path));
    }
    if selector.is_some_and(check::selects_all) {
        let shown = shown::selector(spec.field("selector"));
        let detail = "empty selector is invalid for daemonset";
        errors.push(shown::invalid(&path.child("selector"), shown, detail));
    }
    errors.extend(template::errors(spec, &path));
    template::forever(&mut errors, spec, &path, "DaemonSet");
    check::not_negative(&mut errors, &path.child("minReadySeconds"), spec.int("minReadySeconds"));
    let generation = Some(template_generation(object));
    check::not_negative(&mut errors, &path.child("templateGeneration"), generation);
    strategy(&mut errors, spec.under("updateStrategy"), &path.child("updateStrategy"));
    check::not_negative(&mut errors, &path.child("revisionHistoryLimit"), spec.int("revisionHistoryLimit"));
    errors
}

fn strategy(errors: &mut FieldErrors, strategy: Option<&Map<String, Value>>, path: &Path) {
    let rolling = strategy.under("rollingUpdate");
    match (strategy.text("type"), rolling) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(FieldError::required(&path.child("rollingUpdate"), "")),
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, rolling, &path.child("rollingUpdate")),
        (kind, rolling) => {
            let zero = json!(0);
            let rolling = rolling.map(|rolling| {
                let of = |field| Some(rolling.field(field).unwrap_or(&zero));
                Shown::new()
                    .field("MaxUnavailable", of("maxUnavailable"))
                    .field("MaxSurge", of("maxSurge"))
                    .end()
            });
            let rolling = rolling.unwrap_or_else(|| "null".to_owned());
            let value = Shown::new().text("Type", kind).raw("RollingUpdate", &rolling).end();
            errors.push(shown::not_supported(path, value, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn rolling_update(errors: &mut FieldErrors, rolling: &Map<String, Value>, path: &Path) {
    let zero = json!(0);
    let fields = ["maxUnavailable", "maxSurge"];
    let [unavailable, surge] = fields.map(|field| rolling.field(field).unwrap_or(&zero));
    let [at, surge_at] = fields.map(|field| path.child(field));
    check::count_or_percent(errors, &at, unavailable);
    check::count_or_percent(errors, &surge_at, surge);
    not_above_all(errors, &at, unavailable);
    not_above_all(errors, &surge_at, surge);
    match (amount(Some(unavailable)) != 0, amount(Some(surge)) != 0) {
        (true, true) => {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(&surge_at, surge.clone(), detail));
        }
        (false, false) => errors.push(FieldError::required(&at, "cannot be 0 when maxSurge is 0")),
        _ => {}
    }
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if part == Part::Status {
        replicas::not_negative(&mut errors, object, COUNTS);
        let rest = [
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        replicas::not_negative(&mut errors, object, &rest);
        replicas::collisions_go_up(&mut errors, object, old);
    } else {
        super::replica_set::same_selector(&mut errors, object, old);
        errors.extend(validate(object));
    }
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    let own = [
        table::name(),
        column("Desired", "integer", "On how many nodes a pod of it should run."),
        column("Current", "integer", "On how many nodes that should run one a pod of it runs."),
        column("Ready", "integer", "How many of these pods are ready."),
        column("Up-to-date", "integer", "On how many nodes the pod is of the newest template."),
        column("Available", "integer", "On how many nodes the pod has been ready for long enough."),
        column("Node Selector", "string", "Labels that a node has to have."),
        table::age(),
    ];
    own.into_iter().chain(table::template_columns("Which pods belong to it.")).collect()
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let count = |field| Value::from(object.status().int(field).unwrap_or(0));
    let pod = spec.under("template").under("spec");
    let (containers, images) = table::containers(pod);
    vec![
        object.name().into(),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        table::labels(pod.under("nodeSelector")).into(),
        table::age_of(object, now),
        containers.into(),
        images.into(),
        table::selector(spec.under("selector")).into(),
    ]
}
