//! `autoscaling/v2`.

use super::{STORED_AS, STORED_VERSION, behavior, metrics, rows};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check};
use crate::kinds::inside::Inside;
use crate::kinds::{idle, names};
use crate::resource::Part;
use serde_json::{Map, Value, json};

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler";
    Kind::new("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", type_name)
        .short(&["hpa"])
        .categories(&["all"])
        .without_generation()
        .stored(STORED_AS, STORED_VERSION)
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(prepare_create)
        .validate(|object| spec_errors(object, None))
        .validate_update(validate_update)
        .warnings(idle::warnings)
        .table(rows::columns, rows::row)
}

/// Fills in what is left out; the same for what was made of the first version.
pub(super) fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.fill("minReplicas", 1);
    spec.inside("scaleTargetRef");
    if spec.list("metrics").is_empty() {
        let target = json!({"type": "Utilization", "averageUtilization": 80});
        let metric = json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics".to_owned(), json!([metric]));
    }
    behavior::default(spec);
    if let Some(status) = object.0.within("status") {
        default_status(status);
    }
}

fn default_status(status: &mut Map<String, Value>) {
    status.fill("desiredReplicas", 0);
    if status.list("currentMetrics").is_empty() {
        status.insert("currentMetrics".to_owned(), Value::Null);
    }
}

/// A new autoscaler has done nothing yet.
pub(super) fn prepare_create(object: &mut Object) {
    object.0.insert("status".to_owned(), json!({"desiredReplicas": 0, "currentMetrics": null}));
}

/// Everything that is wrong with the spec, of an update of `old`.
pub(super) fn spec_errors(object: &Object, old: Option<&Object>) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let old = old.map(|old| old.spec());
    let mut errors = FieldErrors::new();
    let least_min = i64::from(old.is_none_or(|old| old.int("minReplicas") != Some(0)));
    let (min, max) = (spec.int("minReplicas"), spec.int("maxReplicas").unwrap_or(0));
    if let Some(min) = min.filter(|min| *min < least_min) {
        let detail = format!("must be greater than or equal to {least_min}");
        errors.push(FieldError::invalid(&path.child("minReplicas"), min, detail));
    }
    let at = path.child("maxReplicas");
    match max {
        0 => errors.push(FieldError::required(&at, "must be set and greater than 0")),
        ..0 => errors.push(FieldError::invalid(&at, max, "must be greater than or equal to 1")),
        _ => {}
    }
    if min.is_some_and(|min| max < min) {
        errors.push(FieldError::invalid(&at, max, "must be greater than or equal to `minReplicas`"));
    }
    let target = spec.under("scaleTargetRef");
    let same = |field| old.is_some_and(|old| old.under("scaleTargetRef").text(field) == target.text(field));
    let group = match target.text("kind") {
        _ if same("apiVersion") && same("kind") => Group::Any,
        "ReplicationController" => Group::MayBeCore,
        _ => Group::Needed,
    };
    reference(&mut errors, target, group, &path.child("scaleTargetRef"));
    metrics::errors(&mut errors, spec, old.flatten(), &path.child("metrics"));
    behavior::errors(&mut errors, spec.under("behavior"), &path.child("behavior"));
    errors
}

/// What is asked of the `apiVersion` of a reference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Nothing: it was there before.
    Any,
    /// That it is well formed.
    MayBeCore,
    /// That it names a group.
    Needed,
}

/// What is wrong with a reference to an object of any kind.
pub(super) fn reference(
    errors: &mut FieldErrors,
    reference: Option<&Map<String, Value>>,
    group: Group,
    path: &Path,
) {
    for field in ["kind", "name"] {
        errors.extend(names::path_segment(&path.child(field), reference.text(field)));
    }
    if let Err(cause) = api_version(reference.text("apiVersion"), group) {
        errors.push(FieldError::invalid(&path.child("apiVersion"), reference.text("apiVersion"), cause));
    }
}

/// What is wrong with an `apiVersion`.
pub(super) fn api_version(text: &str, group: Group) -> Result<(), String> {
    if group == Group::Any {
        return Ok(());
    }
    match text.split('/').count() {
        3.. => Err(format!("unexpected GroupVersion string: {text}")),
        count if group == Group::Needed && (count == 1 || text.starts_with('/')) => {
            Err("apiVersion must specify API group".to_owned())
        }
        _ => Ok(()),
    }
}

/// Everything that is wrong with an update.
pub(super) fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part != Part::Status {
        return spec_errors(object, Some(old));
    }
    let mut errors = FieldErrors::new();
    for field in ["currentReplicas", "desiredReplicas"] {
        check::not_negative(&mut errors, &Path::new("status").child(field), object.status().int(field));
    }
    errors
}
