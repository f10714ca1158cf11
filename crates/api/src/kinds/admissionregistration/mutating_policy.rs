//! MutatingAdmissionPolicy and its binding. They are kept and served; nothing asks them, and their mutations are not compiled.

use super::{CATEGORY, GROUP, conditions, policy, policy_binding};
use crate::cel::admission::Scope;
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, Kind, check, table};
use crate::kinds::idle;
use crate::kinds::inside::Inside;
use crate::resource::Column;
use serde_json::{Map, Value};

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy";
    Kind::new(GROUP, "v1", "MutatingAdmissionPolicy", "mutatingadmissionpolicies", type_name)
        .cluster_scoped()
        .categories(&[CATEGORY])
        .default(policy::default)
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

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = policy::common_errors(object, &path);
    if let Some(resources) = spec.under("matchConstraints") {
        operation_errors(&mut errors, resources, &path.child("matchConstraints"));
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
    let path = Path::new("spec");
    let mut errors = policy_binding::common_errors(object, &path);
    if let Some(resources) = object.spec().under("matchResources") {
        operation_errors(&mut errors, resources, &path.child("matchResources"));
    }
    errors
}

fn columns() -> Vec<Column> {
    policy::columns_of(table::column("Mutations", "integer", "How many mutations it has."))
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    policy::row_of(object, "mutations", now)
}
