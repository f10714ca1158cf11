//! Of which requests a webhook or a policy is told.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Fields, check};
use serde_json::Value;
use std::collections::HashSet;

/// What is wrong with a rule.
pub(super) fn errors(errors: &mut FieldErrors, rule: &Value, path: &Path) {
    let operations = path.child("operations");
    needed(errors, rule, "operations", path);
    alone(errors, rule, "operations", "if '*' is present, must not specify other operations", path);
    for (index, operation) in rule.texts("operations").enumerate() {
        let supported = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
        check::one_of(errors, &operations.index(index), operation, &supported);
    }
    needed(errors, rule, "apiGroups", path);
    alone(errors, rule, "apiGroups", "if '*' is present, must not specify other API groups", path);
    needed(errors, rule, "apiVersions", path);
    alone(errors, rule, "apiVersions", "if '*' is present, must not specify other API versions", path);
    for (index, _) in rule.texts("apiVersions").enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(FieldError::required(&path.child("apiVersions").index(index), ""));
    }
    resources(errors, rule, path);
    if let Some(scope) = rule.maybe("scope") {
        check::one_of(errors, &path.child("scope"), scope, &["*", "Cluster", "Namespaced"]);
    }
}

/// The same of a rule that also names objects.
pub(super) fn named_errors(all: &mut FieldErrors, rule: &Value, path: &Path) {
    let mut seen = HashSet::new();
    for (index, name) in rule.texts("resourceNames").enumerate() {
        let path = path.child("resourceNames").index(index);
        all.extend(check::invalid(&path, name, names::path_segment(name, false)));
        if !seen.insert(name) {
            all.push(FieldError::duplicate(&path, name));
        }
    }
    errors(all, rule, path);
}

fn needed(errors: &mut FieldErrors, rule: &Value, field: &str, path: &Path) {
    if rule.list(field).is_empty() {
        errors.push(FieldError::required(&path.child(field), ""));
    }
}

/// `*` stands for all, and therefore alone.
fn alone(errors: &mut FieldErrors, rule: &Value, field: &str, detail: &str, path: &Path) {
    let list = rule.list(field);
    if list.len() > 1 && rule.texts(field).any(|item| item == "*") {
        errors.push(FieldError::invalid(&path.child(field), list.to_vec(), detail));
    }
}

fn resources(errors: &mut FieldErrors, rule: &Value, path: &Path) {
    needed(errors, rule, "resources", path);
    let (list, path) = (rule.list("resources"), path.child("resources"));
    let (mut of_all, mut all_of) = (HashSet::new(), HashSet::new());
    let (mut everything, mut every, mut plain) = (false, false, false);
    for (index, resource) in rule.texts("resources").enumerate() {
        let path = path.index(index);
        if resource.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        everything |= resource == "*/*";
        every |= resource == "*";
        let Some((name, part)) = resource.split_once('/') else {
            plain = resource != "*";
            continue;
        };
        let mut covered = |by: String| {
            let detail = format!("if '{by}' is present, must not specify {resource}");
            errors.push(FieldError::invalid(&path, resource, detail));
        };
        if all_of.contains(name) {
            covered(format!("{name}/*"));
        }
        if of_all.contains(part) {
            covered(format!("*/{part}"));
        }
        if part == "*" {
            all_of.insert(name);
        }
        if name == "*" {
            of_all.insert(part);
        }
    }
    if list.len() > 1 && everything {
        let detail = "if '*/*' is present, must not specify other resources";
        errors.push(FieldError::invalid(&path, list.to_vec(), detail));
    }
    if every && plain {
        let detail = "if '*' is present, must not specify other resources without subresources";
        errors.push(FieldError::invalid(&path, list.to_vec(), detail));
    }
}
