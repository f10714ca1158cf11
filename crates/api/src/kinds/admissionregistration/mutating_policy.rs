//! MutatingAdmissionPolicy and its binding. They are kept and served; nothing asks them, and their mutations are not compiled.

use super::{CATEGORY, GROUP, conditions, policy, policy_binding, selectors};
use crate::cel::admission::Scope;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::idle;
use crate::kinds::inside::Inside;
use crate::resource::Column;
use serde_json::{Map, Value};

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy";
    Kind::new(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", type_name)
        .cluster_scoped()
        .categories(&[CATEGORY])
        .default(default)
        .validate(validate)
        .warnings(idle::warnings)
        .table(columns, row)
}

pub(super) fn binding_kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding";
    let plural = "mutatingadmissionpolicybindings";
    Kind::new(GROUP, "v1", "MutatingAdmissionPolicyBinding", plural, type_name)
        .cluster_scoped()
        .categories(&[CATEGORY])
        .default(policy_binding::default)
        .validate(validate_binding)
        .warnings(idle::warnings)
        .table(policy_binding::columns, policy_binding::row)
}

fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.fill("failurePolicy", "Fail");
    if let Some(resources) = spec.within("matchConstraints") {
        policy::default_resources(resources);
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let at = path.child("failurePolicy");
    match spec.maybe("failurePolicy") {
        None => errors.push(FieldError::required(&at, "")),
        Some(policy) => check::one_of(&mut errors, &at, policy, &["Fail", "Ignore"]),
    }
    if let Some(kind) = spec.under("paramKind") {
        policy::param_kind_errors(&mut errors, kind, &path.child("paramKind"));
    }
    let at = path.child("matchConstraints");
    match spec.under("matchConstraints") {
        None => errors.push(FieldError::required(&at, "")),
        Some(resources) => {
            selectors::errors(&mut errors, resources, &at);
            if resources.list("resourceRules").is_empty() {
                errors.push(FieldError::required(&at.child("resourceRules"), ""));
            }
            operation_errors(&mut errors, resources, &at);
        }
    }
    let mut scope = Scope::new(spec.under("paramKind").is_some(), true);
    let list = |field| spec.items(field);
    conditions::errors(&mut errors, list("matchConditions"), &scope, &path.child("matchConditions"));
    for (index, variable) in list("variables").iter().enumerate() {
        policy::variable_errors(&mut errors, variable, &mut scope, &path.child("variables").index(index));
    }
    let (mutations, at) = (list("mutations"), path.child("mutations"));
    if mutations.is_empty() {
        errors.push(FieldError::required(&at, "mutations must contain at least one item"));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        mutation_errors(&mut errors, mutation, &at.index(index));
    }
    let at = path.child("reinvocationPolicy");
    match spec.text("reinvocationPolicy") {
        "" => errors.push(FieldError::required(&at, "")),
        policy => check::one_of(&mut errors, &at, policy, &["IfNeeded", "Never"]),
    }
    errors
}

/// What is deleted cannot be changed.
fn operation_errors(errors: &mut FieldErrors, resources: &Map<String, Value>, path: &Path) {
    let at = path.child("resourceRules").child("operations");
    for rule in resources.list("resourceRules") {
        for operation in rule.texts("operations") {
            check::one_of(errors, &at, operation, &["*", "CONNECT", "CREATE", "UPDATE"]);
        }
    }
}

fn mutation_errors(errors: &mut FieldErrors, mutation: &Value, path: &Path) {
    let kinds = [("JSONPatch", "jsonPatch"), ("ApplyConfiguration", "applyConfiguration")];
    let kind = mutation.text("patchType");
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("patchType"), ""));
        return;
    }
    check::one_of(errors, &path.child("patchType"), kind, &["ApplyConfiguration", "JSONPatch"]);
    if !kinds.iter().any(|(known, _)| *known == kind) {
        return;
    }
    // What is wanted first, then what is not.
    let (own, others): (Vec<_>, Vec<_>) = kinds.into_iter().partition(|(of, _)| *of == kind);
    for (of, field) in own.into_iter().chain(others) {
        let at = path.child(field);
        match (mutation.map(field), of == kind) {
            (None, true) => {
                let detail = format!("must be specified when patchType is {kind}");
                errors.push(FieldError::required(&at, detail));
            }
            (Some(_), false) => {
                let detail = format!("must not be specified when patchType is {kind}");
                errors.push(FieldError::invalid(&at, format!("{{{field}}}"), detail));
            }
            (Some(told), true) if told.text("expression").trim().is_empty() => {
                errors.push(FieldError::required(&at.child("expression"), "expression is not specified"));
            }
            _ => {}
        }
    }
}

fn validate_binding(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = FieldErrors::new();
    let (name, at) = (spec.text("policyName"), path.child("policyName"));
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(check::invalid(&at, name, names::dns_subdomain(name, false)));
    }
    if let Some(reference) = spec.under("paramRef") {
        policy_binding::param_errors(&mut errors, reference, &path.child("paramRef"));
    }
    if let Some(resources) = spec.under("matchResources") {
        selectors::errors(&mut errors, resources, &path.child("matchResources"));
        operation_errors(&mut errors, resources, &path.child("matchResources"));
    }
    errors
}

fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("Mutations", "integer", "How many mutations it has."),
        column("ParamKind", "string", "Of which kind its parameters are."),
        table::age(),
    ]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let kind =
        spec.under("paramKind").map(|kind| format!("{}/{}", kind.text("apiVersion"), kind.text("kind")));
    vec![
        object.name().into(),
        spec.items("mutations").len().into(),
        kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
        table::age_of(object, now),
    ]
}
