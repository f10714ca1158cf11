//! ValidatingAdmissionPolicyBinding.

use super::{CATEGORY, GROUP, policy, selectors};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::resource::Column;
use serde_json::{Map, Value};
use std::collections::HashSet;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding";
    let plural = "validatingadmissionpolicybindings";
    Kind::new(GROUP, "v1", "ValidatingAdmissionPolicyBinding", plural, type_name)
        .cluster_scoped()
        .categories(&[CATEGORY])
        .default(default)
        .validate(validate)
        .table(columns, row)
}

pub(super) fn default(object: &mut Object) {
    if let Some(resources) = object.make(&["spec"]).within("matchResources") {
        policy::default_resources(resources);
    }
}

fn validate(object: &Object) -> FieldErrors {
    let path = Path::new("spec");
    let mut errors = common_errors(object, &path);
    let actions = object.spec().items("validationActions");
    action_errors(&mut errors, actions, &path.child("validationActions"));
    errors
}

/// What is wrong with what both kinds of bindings say.
pub(super) fn common_errors(object: &Object, path: &Path) -> FieldErrors {
    let spec = object.spec();
    let mut errors = FieldErrors::new();
    let (name, at) = (spec.text("policyName"), path.child("policyName"));
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(check::invalid(&at, name, names::dns_subdomain(name, false)));
    }
    if let Some(reference) = spec.under("paramRef") {
        param_errors(&mut errors, reference, &path.child("paramRef"));
    }
    if let Some(resources) = spec.under("matchResources") {
        selectors::errors(&mut errors, resources, &path.child("matchResources"));
    }
    errors
}

fn param_errors(errors: &mut FieldErrors, reference: &Map<String, Value>, path: &Path) {
    const ONE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.text("name"), reference.map("selector"));
    if !name.is_empty() {
        errors.extend(check::invalid(&path.child("name"), name, names::path_segment(name, false)));
        if selector.is_some() {
            errors.push(FieldError::forbidden(&path.child("name"), ONE));
        }
    }
    if let Some(selector) = selector {
        check::label_selector(errors, &path.child("selector"), selector);
        if !name.is_empty() {
            errors.push(FieldError::forbidden(&path.child("selector"), ONE));
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let at = path.child("parameterNotFoundAction");
    match reference.text("parameterNotFoundAction") {
        "" => errors.push(FieldError::required(&at, "")),
        action => check::one_of(errors, &at, action, &["Deny", "Allow"]),
    }
}

fn action_errors(errors: &mut FieldErrors, actions: &[Value], path: &Path) {
    let mut seen = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        let action = action.as_str().unwrap_or_default();
        let path = path.index(index);
        check::one_of(errors, &path, action, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action) {
            errors.push(FieldError::duplicate(&path, action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let detail = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                      response and headers serves no purpose)";
        errors.push(FieldError::invalid(path, actions.to_vec(), detail));
    }
    if seen.is_empty() {
        errors.push(FieldError::required(path, "at least one validation action is required"));
    }
}

pub(super) fn columns() -> Vec<Column> {
    let column = table::column;
    vec![
        table::name(),
        column("PolicyName", "string", "Which policy it binds."),
        column("ParamRef", "string", "With which parameters."),
        table::age(),
    ]
}

pub(super) fn row(object: &Object, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let params = spec.under("paramRef").map(|reference| {
        let namespace = reference.maybe("namespace").filter(|namespace| !namespace.is_empty()).unwrap_or("*");
        match reference.text("name") {
            "" => table::selector(reference.map("selector")),
            name => format!("{namespace}/{name}"),
        }
    });
    vec![
        object.name().into(),
        spec.text("policyName").into(),
        params.unwrap_or_else(|| "<unset>".to_owned()).into(),
        table::age_of(object, now),
    ]
}
