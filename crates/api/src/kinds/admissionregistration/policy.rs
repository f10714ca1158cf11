//! ValidatingAdmissionPolicy.

use super::{CATEGORY, GROUP, conditions, selectors};
use crate::cel::Wanted;
use crate::cel::admission::Scope;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::resource::{Column, Part};
use serde_json::{Map, Value, json};
use std::collections::HashSet;

const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_MAX: usize = 5 * 1024;

pub(super) fn kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy";
    Kind::new(GROUP, "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", type_name)
        .cluster_scoped()
        .categories(&[CATEGORY])
        .parts(&[Part::Status])
        .default(default)
        .prepare_create(|object| drop(object.0.insert("status".to_owned(), json!({}))))
        .validate(validate)
        .validate_update(
            |part, object, _| {
                if part == Part::Status { FieldErrors::new() } else { validate(object) }
            },
        )
        .table(columns, row)
}

/// Fills in what both kinds of policies may leave out.
pub(super) fn default(object: &mut Object) {
    let spec = object.make(&["spec"]);
    spec.fill("failurePolicy", "Fail");
    if let Some(resources) = spec.within("matchConstraints") {
        default_resources(resources);
    }
}

/// Fills in to what a policy or its binding applies.
pub(super) fn default_resources(resources: &mut Map<String, Value>) {
    selectors::default(resources);
    for field in ["resourceRules", "excludeResourceRules"] {
        resources.each(field).for_each(|rule| rule.fill("scope", "*"));
    }
}

fn validate(object: &Object) -> FieldErrors {
    let (spec, path) = (object.spec(), Path::new("spec"));
    let mut errors = common_errors(object, &path);
    let list = |field| spec.items(field);
    let has_params = spec.under("paramKind").is_some();
    // What decides may ask who may do what; messages and notes may not.
    let (mut deciding, mut telling) = (Scope::new(has_params, true), Scope::new(has_params, false));
    conditions::errors(&mut errors, list("matchConditions"), &deciding, &path.child("matchConditions"));
    for (index, variable) in list("variables").iter().enumerate() {
        variable_errors(&mut errors, variable, &mut deciding, &path.child("variables").index(index));
        let _ = telling.define(variable.text("name"), variable.text("expression").trim());
    }
    let (validations, annotations) = (list("validations"), list("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let detail = "validations or auditAnnotations must contain at least one item";
        for field in ["validations", "auditAnnotations"] {
            errors.push(FieldError::required(&path.child(field), detail));
        }
        return errors;
    }
    for (index, validation) in validations.iter().enumerate() {
        let path = path.child("validations").index(index);
        validation_errors(&mut errors, validation, (&deciding, &telling), &path);
    }
    annotation_errors(&mut errors, object.name(), annotations, &telling, &path.child("auditAnnotations"));
    errors
}

/// What is wrong with what both kinds of policies say of when they are asked, and with what.
pub(super) fn common_errors(object: &Object, path: &Path) -> FieldErrors {
    let spec = object.spec();
    let mut errors = FieldErrors::new();
    let at = path.child("failurePolicy");
    match spec.maybe("failurePolicy") {
        None => errors.push(FieldError::required(&at, "")),
        Some(policy) => check::one_of(&mut errors, &at, policy, &["Fail", "Ignore"]),
    }
    if let Some(kind) = spec.under("paramKind") {
        param_kind_errors(&mut errors, kind, &path.child("paramKind"));
    }
    let at = path.child("matchConstraints");
    match spec.under("matchConstraints") {
        None => errors.push(FieldError::required(&at, "")),
        Some(resources) => {
            selectors::errors(&mut errors, resources, &at);
            if resources.list("resourceRules").is_empty() {
                errors.push(FieldError::required(&at.child("resourceRules"), ""));
            }
        }
    }
    errors
}

fn param_kind_errors(errors: &mut FieldErrors, kind: &Map<String, Value>, path: &Path) {
    let (text, at) = (kind.text("apiVersion"), path.child("apiVersion"));
    let (group, version) = text.split_once('/').unwrap_or(("", text));
    if text.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if version.contains('/') {
        errors.push(FieldError::invalid(&at, text, format!("unexpected GroupVersion string: {text}")));
    } else {
        let wrong = if group.is_empty() { Vec::new() } else { names::dns_subdomain(group, false) };
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at, group, wrong.join(",")));
        }
        let wrong = names::dns1035_label(version, false);
        if version.is_empty() {
            errors.push(FieldError::invalid(&at, text, "version must be specified"));
        } else if !wrong.is_empty() {
            errors.push(FieldError::invalid(&at, version, wrong.join(",")));
        }
    }
    let (text, at) = (kind.text("kind"), path.child("kind"));
    let wrong = names::dns1035_label(&text.to_lowercase(), false);
    if text.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else if !wrong.is_empty() {
        let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(FieldError::invalid(&at, text, detail));
    }
}

pub(super) fn variable_errors(errors: &mut FieldErrors, variable: &Value, scope: &mut Scope, path: &Path) {
    let (name, at) = (variable.text("name"), path.child("name"));
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let is_identifier =
        name.bytes().enumerate().all(|(at, byte)| letter(byte) || at > 0 && byte.is_ascii_digit());
    if name.trim().is_empty() {
        errors.push(FieldError::required(&at, "name is not specified"));
    } else if !is_identifier {
        errors.push(FieldError::invalid(&at, name, "must be a valid CEL identifier"));
    }
    let (source, at) = (variable.text("expression"), path.child("expression"));
    if source.trim().is_empty() {
        errors.push(FieldError::required(&at, "expression is not specified"));
    } else if let Err(cause) = scope.define(name, source.trim()) {
        errors.push(FieldError::invalid(&at, source, cause));
    }
}

fn validation_errors(
    errors: &mut FieldErrors,
    validation: &Value,
    (deciding, telling): (&Scope, &Scope),
    path: &Path,
) {
    const BLANK: &str = "expression is not specified";
    let (source, at) = (validation.text("expression"), path.child("expression"));
    conditions::expression_errors(errors, source, BLANK, deciding, &[Wanted::Bool], &at);
    let mut blank = |field: &str| {
        let text = validation.text(field);
        let blank = !text.is_empty() && text.trim().is_empty();
        if blank {
            errors.push(FieldError::invalid(&path.child(field), text, "must be non-empty if specified"));
        }
        blank
    };
    let has_expression = !blank("messageExpression");
    let is_blank = blank("message");
    let message = validation.text("message");
    if !is_blank && message.trim().contains('\n') {
        errors.push(FieldError::invalid(&path.child("message"), message, "must not contain line breaks"));
    }
    let source = validation.text("messageExpression");
    if has_expression && !source.is_empty() {
        let at = path.child("messageExpression");
        conditions::expression_errors(errors, source, "", telling, &[Wanted::String], &at);
    }
    if let Some(reason) = validation.maybe("reason") {
        let supported = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        check::one_of(errors, &path.child("reason"), reason, &supported);
    }
}

fn annotation_errors(
    errors: &mut FieldErrors,
    policy: &str,
    annotations: &[Value],
    scope: &Scope,
    path: &Path,
) {
    if annotations.len() > ANNOTATIONS_MAX {
        let detail = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(FieldError::invalid(path, annotations.to_vec(), detail));
    }
    let mut seen = HashSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = path.index(index);
        let key = annotation.text("key");
        let whole = format!("{policy}/{key}");
        errors.extend(check::invalid(&path.child("key"), &whole, names::qualified_name(&whole)));
        let (expression, at) = (annotation.text("valueExpression").trim(), path.child("valueExpression"));
        if expression.is_empty() {
            errors.push(FieldError::required(&at, "valueExpression is not specified"));
        } else if expression.len() > ANNOTATION_MAX {
            let detail = format!("must not exceed {ANNOTATION_MAX} bytes in length");
            errors.push(FieldError::required(&at, detail));
        } else if let Err(cause) = scope.compile(expression, &[Wanted::String, Wanted::Null]) {
            errors.push(FieldError::invalid(&at, annotation.text("valueExpression"), cause));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(&path.child("key"), key));
        }
    }
}

fn columns() -> Vec<Column> {
    columns_of(table::column("Validations", "integer", "How many expressions it has."))
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    row_of(object, "validations", now)
}

/// The columns of both kinds of policies: one is of their own.
pub(super) fn columns_of(own: Column) -> Vec<Column> {
    let column = table::column;
    vec![table::name(), own, column("ParamKind", "string", "Of which kind its parameters are."), table::age()]
}

/// A row of either; their own column counts a list.
pub(super) fn row_of(object: &Object, counted: &str, now: i64) -> Vec<Value> {
    let spec = object.spec();
    let kind =
        spec.under("paramKind").map(|kind| format!("{}/{}", kind.text("apiVersion"), kind.text("kind")));
    vec![
        object.name().into(),
        spec.items(counted).len().into(),
        kind.unwrap_or_else(|| "<unset>".to_owned()).into(),
        table::age_of(object, now),
    ]
}
