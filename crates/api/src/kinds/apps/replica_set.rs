//! ReplicaSet.

use super::replicas;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::{shown, template};
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

pub(super) fn kind() -> Kind {
    Kind::new("apps", "v1", "ReplicaSet", "replicasets", "io.k8s.api.apps.v1.ReplicaSet")
        .short(&["rs"])
        .categories(&["all"])
        .parts(&[Part::Status, Part::Scale])
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .default(default)
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({"replicas": 0}))))
        .validate(validate)
        .validate_update(validate_update)
        .warnings(warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    template::default(spec);
    spec.fill("replicas", 1);
    if let Some(status) = object.0.within("status") {
        status.fill("replicas", 0);
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    for field in ["replicas", "minReadySeconds"] {
        check::not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    pods(&mut errors, spec, &path);
    errors
}

/// What is wrong with the selector and the template; of a Deployment the same.
pub(super) fn pods(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let at = path.child("selector");
    errors.extend(template::selector_errors(spec, &at, "deployment"));
    match template::selects(spec) {
        Err(()) => {
            let selector = shown::selector(spec.field("selector"));
            errors.push(shown::invalid(&at, selector, "invalid label selector"));
        }
        Ok(selects) => {
            if !selects {
                errors.push(template::unselected(spec, path));
            }
            errors.extend(template::errors(spec, path));
            template::forever(errors, spec, path, "ReplicaSet");
        }
    }
}

/// Which pods belong to it never changes.
pub(super) fn same_selector(errors: &mut FieldErrors, object: &Object, old: &Object) {
    let (new, old) = (object.spec().field("selector"), old.spec().field("selector"));
    if new != old {
        let at = Path::new("spec").child("selector");
        errors.push(shown::invalid(&at, shown::selector(new), check::IMMUTABLE));
    }
}

fn validate_update(part: Part, object: &Object, old: &Object) -> FieldErrors {
    if part != Part::Status {
        let mut errors = validate(object);
        same_selector(&mut errors, object, old);
        return errors;
    }
    let mut errors = FieldErrors::new();
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    replicas::not_negative(&mut errors, object, &["replicas"]);
    replicas::not_negative(&mut errors, object, &parts);
    replicas::not_negative(&mut errors, object, &["observedGeneration", "terminatingReplicas"]);
    replicas::not_above(&mut errors, object, &parts, "replicas", "status.replicas");
    replicas::not_above(&mut errors, object, &["availableReplicas"], "readyReplicas", "readyReplicas");
    errors
}

/// Those of its name and of its pods.
pub(super) fn warnings(object: &Object, old: Option<&Object>) -> Vec<String> {
    let name = template::name_warning(object, old).into_iter();
    name.chain(template::warnings(object, old, &["spec", "template"])).collect()
}

fn columns() -> Vec<Column> {
    let column = table::column;
    let own = [
        table::name(),
        column("Desired", "integer", "How many pods are wished for."),
        column("Current", "integer", "How many pods there are."),
        column("Ready", "integer", "How many pods are ready."),
        table::age(),
    ];
    own.into_iter().chain(table::template_columns("Which pods belong to it.")).collect()
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (object.spec(), object.status());
    let (containers, images) = table::containers(spec.under("template").under("spec"));
    vec![
        object.name().into(),
        spec.int("replicas").unwrap_or(0).into(),
        status.int("replicas").unwrap_or(0).into(),
        status.int("readyReplicas").unwrap_or(0).into(),
        table::age_of(object, now),
        containers.into(),
        images.into(),
        table::selector(spec.under("selector")).into(),
    ]
}
