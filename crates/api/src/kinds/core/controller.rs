//! ReplicationController, and the templates of pods that stand alone.

use super::pod;
use crate::contract::Object;
use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Errors, Fields, Kind, check, table};
use crate::kinds::template;
use crate::resource::{Column, Part};
use serde_json::{Map, Value};

pub(super) fn template() -> Kind {
    Kind::new("", "v1", "PodTemplate", "podtemplates", "io.k8s.api.core.v1.PodTemplate")
        .default(|object| default_template(&mut object.0))
        .prepare_create(|_| {})
        .validate(|object| pod::validate_template(template_of(Some(&object.0)), &Path::new("template")))
        .warnings(|object, _| pod::template_warnings(template_of(Some(&object.0)), &Path::new("template")))
        .table(template_columns, |object, _| {
            let template = object.0.map("template");
            let (names, images) = table::containers(template.and_then(|template| template.map("spec")));
            let labels = template.field("metadata").field("labels").and_then(Value::as_object);
            vec![object.name().into(), names.into(), images.into(), table::labels(labels).into()]
        })
}

fn template_of(owner: Option<&Map<String, Value>>) -> &Value {
    owner.field("template").unwrap_or(&Value::Null)
}

fn default_template(owner: &mut Map<String, Value>) {
    if let Some(template) = owner.inside("template") {
        template.inside("metadata");
        if let Some(spec) = template.inside("spec") {
            pod::default_spec(spec);
        }
    }
}

fn template_columns() -> Vec<Column> {
    vec![
        table::name(),
        table::column("Containers", "string", "Names of each container in the template."),
        table::column("Images", "string", "Images referenced by each container in the template."),
        table::column("Pod Labels", "string", "The labels for the pod template."),
    ]
}

pub(super) fn controller() -> Kind {
    let type_name = "io.k8s.api.core.v1.ReplicationController";
    Kind::new("", "v1", "ReplicationController", "replicationcontrollers", type_name)
        .short(&["rc"])
        .categories(&["all"])
        .parts(&[Part::Status, Part::Scale])
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .named(name_errors)
        .default(default)
        .prepare_create(|object| {
            object.0.insert("status".to_owned(), serde_json::json!({ "replicas": 0 }));
        })
        .validate(validate)
        .validate_update(|part, new, _| if part == Part::Status { status(new) } else { validate(new) })
        .warnings(|object, old| {
            let mut warnings: Vec<String> = template::name_warning(object, old).into_iter().collect();
            warnings.extend(template::warnings(object, old, &["spec", "template"]));
            warnings
        })
        .table(columns, row)
        .selectable(&["status.replicas"])
        .selected(|object, _| object.status().int("replicas").unwrap_or(0).to_string())
}

/// The beginning of a name may be anything that stands in a path here, and the length is told in bytes.
fn name_errors(name: &str, prefix: bool) -> Vec<String> {
    if prefix { names::path_segment(name, prefix) } else { names::dns_subdomain_bytes(name) }
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.fill("replicas", 1);
    if spec.has("template") {
        default_template(spec);
    }
    let labels = spec.field("template").field("metadata").field("labels").cloned();
    if let Some(labels) = labels {
        spec.drop_empty("selector");
        spec.fill("selector", labels.clone());
        object.metadata_mut().drop_empty("labels");
        object.metadata_mut().fill("labels", labels);
    }
    object.make(&["status"]).fill("replicas", 0);
}

fn validate(object: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let path = Path::new("spec");
    let empty = Map::new();
    let spec = object.spec().unwrap_or(&empty);
    check::not_negative(&mut errors, &path.child("minReadySeconds"), spec.int("minReadySeconds"));
    let selector = spec.map("selector").filter(|selector| !selector.is_empty());
    if selector.is_none() {
        errors.required(&path.child("selector"), "");
    }
    check::not_negative(&mut errors, &path.child("replicas"), spec.int("replicas"));
    let at = path.child("template");
    let Some(template) = spec.field("template") else {
        errors.required(&at, "");
        return errors;
    };
    let labels = template.field("metadata").field("labels");
    if selector.into_iter().flatten().any(|(key, value)| labels.field(key) != Some(value)) {
        let shown = labels.cloned().unwrap_or(Value::Null);
        let rule = "`selector` does not match template `labels`";
        errors.invalid(&at.child("metadata").child("labels"), shown, rule);
    }
    errors.extend(pod::validate_template(template, &at));
    let pod = template.field("spec");
    if pod.text("restartPolicy") != "Always" {
        errors.not_supported(
            &at.child("spec").child("restartPolicy"),
            pod.text("restartPolicy"),
            &["Always"],
        );
    }
    if pod.has("activeDeadlineSeconds") {
        let rule = "activeDeadlineSeconds in ReplicationController is not Supported";
        errors.forbidden(&at.child("spec").child("activeDeadlineSeconds"), rule);
    }
    errors
}

fn status(object: &Object) -> FieldErrors {
    const COUNTS: &[&str] = &["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let mut errors = FieldErrors::new();
    let path = Path::new("status");
    let count = |field: &str| object.status().int(field).unwrap_or(0);
    for field in ["replicas"].iter().chain(COUNTS).chain(&["observedGeneration"]) {
        check::not_negative(&mut errors, &path.child(field), object.status().int(field));
    }
    for field in COUNTS.iter().filter(|field| count(field) > count("replicas")) {
        errors.invalid(&path.child(field), count(field), "cannot be greater than status.replicas");
    }
    if count("availableReplicas") > count("readyReplicas") {
        let rule = "cannot be greater than readyReplicas";
        errors.invalid(&path.child("availableReplicas"), count("availableReplicas"), rule);
    }
    errors
}

fn columns() -> Vec<Column> {
    let (column, wide) = (table::column, table::wide);
    vec![
        table::name(),
        column("Desired", "integer", "ReplicationControllerSpec.replicas"),
        column("Current", "integer", "ReplicationControllerStatus.replicas"),
        column("Ready", "integer", "ReplicationControllerStatus.readyReplicas"),
        table::age(),
        wide("Containers", "string", "Names of each container in the template."),
        wide("Images", "string", "Images referenced by each container in the template."),
        wide("Selector", "string", "ReplicationControllerSpec.selector"),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let (names, images) = table::containers(spec.field("template").field("spec").and_then(Value::as_object));
    let count = |owner: Option<&Map<String, Value>>, field: &str| Value::from(owner.int(field).unwrap_or(0));
    vec![
        object.name().into(),
        count(spec, "replicas"),
        count(object.status(), "replicas"),
        count(object.status(), "readyReplicas"),
        table::age_of(object, now),
        names.into(),
        images.into(),
        table::labels(spec.and_then(|spec| spec.map("selector"))).into(),
    ]
}
