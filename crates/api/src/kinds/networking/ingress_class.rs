//! IngressClass.

use super::GROUP;
use super::ingress::typed_reference;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::{idle, names as kind_names};
use crate::resource::{Column, Part};
use serde_json::{Map, Value};

const CONTROLLER_MAX: usize = 250;
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

pub(super) fn kind() -> Kind {
    Kind::new(GROUP, "v1", "IngressClass", "ingressclasses", "io.k8s.api.networking.v1.IngressClass")
        .cluster_scoped()
        .default(default)
        .validate(validate)
        .validate_update(validate_update)
        .warnings(idle::warnings)
        .table(columns, row)
}

fn default(object: &mut Object) {
    if let Some(parameters) = object.make(&["spec"]).within("parameters") {
        parameters.fill("scope", "Cluster");
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let (controller, at) = (spec.text("controller"), path.child("controller"));
    if controller.len() > CONTROLLER_MAX {
        errors.push(FieldError::too_long(&at, CONTROLLER_MAX));
    }
    errors.extend(kind_names::domain_prefixed_path(&at, controller));
    if let Some(parameters) = spec.under("parameters") {
        parameter_errors(&mut errors, parameters, &path.child("parameters"));
    }
    errors
}

fn parameter_errors(errors: &mut FieldErrors, parameters: &Map<String, Value>, path: &Path) {
    typed_reference(errors, parameters, path);
    let (namespace, at) = (parameters.maybe("namespace"), path.child("namespace"));
    match (parameters.maybe("scope"), namespace) {
        (None, _) => errors.push(FieldError::required(&path.child("scope"), "")),
        (Some("Namespace"), None) => {
            errors.push(FieldError::required(&at, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.extend(check::invalid(&at, namespace, names::dns_label(namespace, false)));
        }
        (Some("Cluster"), Some(_)) => {
            errors.push(FieldError::forbidden(&at, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => {
            let supported = ["Cluster", "Namespace"];
            errors.push(FieldError::not_supported(&path.child("scope"), other, &supported));
        }
    }
}

fn validate_update(_part: Part, object: &Object, old: &Object) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let controller = |object: &Object| object.spec().field("controller").cloned();
    let at = Path::new("spec").child("controller");
    check::immutable(&mut errors, &at, controller(object).as_ref(), controller(old).as_ref());
    errors.extend(validate(object));
    errors
}

fn columns() -> Vec<Column> {
    vec![
        table::name(),
        table::column("Controller", "string", "Who serves ingresses of this class."),
        table::column("Parameters", "string", "What the controller is told beside."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let parameters = spec.under("parameters").map(|parameters| {
        let group = parameters.maybe("apiGroup").map(|group| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", parameters.text("kind"), parameters.text("name"))
    });
    let is_default = object.strings("annotations").and_then(|all| all.maybe(DEFAULT)) == Some("true");
    let name = if is_default { format!("{} (default)", object.name()) } else { object.name().to_owned() };
    vec![
        name.into(),
        spec.text("controller").into(),
        parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
        table::age_of(object, now),
    ]
}
