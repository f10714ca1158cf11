//! APIService.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::times;
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService";
    Kind::new("apiregistration.k8s.io", "v1", "APIService", "apiservices", type_name)
        .cluster_scoped()
        .categories(&["api-extensions"])
        .without_generation()
        .named(names::path_segment)
        .parts(&[Part::Status])
        .status_keeps(&["labels", "annotations", "finalizers", "ownerReferences"])
        .default(default)
        .prepare_create(prepare_create)
        .validate(validate)
        .validate_update(validate_update)
        .table(columns, row)
}

fn default(object: &mut Object) {
    if let Some(service) = object.make(&["spec"]).within("service") {
        service.fill("port", 443);
    }
}

/// What the server serves itself is there at once.
fn prepare_create(object: &mut Object) {
    let mut status = json!({});
    if !object.spec().has("service") {
        status = json!({"conditions": [{
            "type": "Available",
            "status": "True",
            "lastTransitionTime": times::now(),
            "reason": "Local",
            "message": "Local APIServices are always available",
        }]});
    }
    object.0.insert("status".to_owned(), status);
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let (group, version) = (spec.text("group"), spec.text("version"));
    let wanted = format!("{version}.{group}");
    if names::path_segment(object.name(), false).is_empty() && object.name() != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(FieldError::invalid(&Path::new("metadata").child("name"), object.name(), detail));
    }
    let at = path.child("group");
    if !group.is_empty() {
        errors.extend(check::invalid(&at, group, names::dns_subdomain(group, false)));
    } else if version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(&at, detail));
    }
    errors.extend(check::invalid(&path.child("version"), version, names::dns1035_label(version, false)));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.int(field).unwrap_or(0);
        if !(1..=most).contains(&priority) {
            let detail = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(&path.child(field), priority, detail));
        }
    }
    match spec.under("service") {
        None => local_errors(&mut errors, spec, &path),
        Some(service) => service_errors(&mut errors, service, spec, &path),
    }
    errors
}

/// How many bytes a base64 text stands for.
fn bytes(text: &str) -> usize {
    let padding = text.bytes().rev().take_while(|byte| *byte == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

fn local_errors(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let bundle = spec.text("caBundle");
    if !bundle.is_empty() {
        let shown = format!("{} bytes", bytes(bundle));
        let detail = "local APIServices may not have a caBundle";
        errors.push(FieldError::invalid(&path.child("caBundle"), shown, detail));
    }
    if spec.is("insecureSkipTLSVerify") {
        let detail = "local APIServices may not have insecureSkipTLSVerify";
        errors.push(FieldError::invalid(&path.child("insecureSkipTLSVerify"), true, detail));
    }
}

fn service_errors(
    errors: &mut FieldErrors,
    service: &Map<String, Value>,
    spec: Option<&Map<String, Value>>,
    path: &Path,
) {
    let at = path.child("service");
    for field in ["namespace", "name"] {
        if service.text(field).is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    let port = service.int("port").unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&at.child("port"), port, detail));
    }
    if spec.is("insecureSkipTLSVerify") && !spec.text("caBundle").is_empty() {
        let at = path.child("insecureSkipTLSVerify");
        errors.push(FieldError::invalid(&at, true, "may not be true if caBundle is present"));
    }
}

fn validate_update(part: Part, object: &Object, _old: &Object) -> FieldErrors {
    if part != Part::Status {
        return validate(object);
    }
    let mut errors = FieldErrors::new();
    let path = Path::new("status").child("conditions");
    let conditions = object.status().items("conditions");
    for (index, condition) in conditions.iter().enumerate() {
        let at = path.index(index).child("status");
        check::one_of(&mut errors, &at, condition.text("status"), &["True", "False", "Unknown"]);
    }
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Service", "string", "Who serves it."),
        column("Available", "string", "Whether it can be asked."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let service = object.spec().under("service");
    let service = service.map(|service| format!("{}/{}", service.text("namespace"), service.text("name")));
    let available = match table::condition(object, "Available") {
        None => "Unknown".to_owned(),
        Some(condition) => match (condition.text("status"), condition.text("reason")) {
            (status @ "True", _) | (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    };
    vec![
        object.name().into(),
        service.unwrap_or_else(|| "Local".to_owned()).into(),
        available.into(),
        table::age_of(object, now),
    ]
}
