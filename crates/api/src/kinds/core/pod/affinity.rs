//! Near which nodes and pods a pod wants to be, and how pods are spread.

use crate::contract::field::{FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Errors, Fields, check};
use crate::kinds::core::scheduling::{node_selector, node_term};
use serde_json::Value;
use std::collections::BTreeSet;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// What is wrong with `affinity`.
pub(super) fn check(errors: &mut FieldErrors, path: &Path, affinity: &Value) {
    if let Some(nodes) = affinity.field("nodeAffinity") {
        let at = path.child("nodeAffinity");
        if let Some(selector) = nodes.field(REQUIRED) {
            node_selector(errors, &at.child(REQUIRED), selector);
        }
        for (index, term) in nodes.list(PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(index);
            weight(errors, &at, term);
            if let Some(preference) = term.field("preference") {
                node_term(errors, &at.child("preference"), preference, false);
            }
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(pods) = affinity.field(kind) else { continue };
        let at = path.child(kind);
        for (index, term) in pods.list(REQUIRED).iter().enumerate() {
            pod_term(errors, &at.child(REQUIRED).index(index), term);
        }
        for (index, term) in pods.list(PREFERRED).iter().enumerate() {
            let at = at.child(PREFERRED).index(index);
            weight(errors, &at, term);
            if let Some(term) = term.field("podAffinityTerm") {
                pod_term(errors, &at.child("podAffinityTerm"), term);
            }
        }
    }
}

fn weight(errors: &mut FieldErrors, at: &Path, term: &Value) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

fn pod_term(errors: &mut FieldErrors, at: &Path, term: &Value) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some(selector) = term.map(field) {
            check::label_selector(errors, &at.child(field), selector);
        }
    }
    for namespace in term.texts("namespaces") {
        errors.malformed(at, "namespace", namespace, names::dns_label(namespace, false));
    }
    label_keys(errors, at, term, term.field("labelSelector"));
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    }
    errors.malformed(at, "topologyKey", key, names::qualified_name(key));
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside the selector that they are merged into.
fn label_keys(errors: &mut FieldErrors, at: &Path, owner: &Value, selector: Option<&Value>) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = owner.list(field);
        if !keys.is_empty() && selector.is_none() {
            errors.forbidden(&at.child(field), "must not be specified when labelSelector is not set");
            continue;
        }
        for (index, key) in owner.texts(field).enumerate() {
            errors.extend(names::qualified_name_errors(&at.child(field).index(index), key));
        }
    }
    let mut seen: BTreeSet<&str> = selector.entries("matchLabels").map(|(key, _)| key).collect();
    for requirement in selector.list("matchExpressions") {
        let key = requirement.text("key");
        let named = owner.texts("matchLabelKeys").collect::<Vec<_>>().iter().rposition(|named| *named == key);
        if let Some(index) = named.filter(|_| seen.contains(key)) {
            errors.invalid(&at.index(index), key, "exists in both matchLabelKeys and labelSelector");
        }
        seen.insert(key);
    }
    for (index, key) in owner.texts("matchLabelKeys").enumerate() {
        if owner.texts("mismatchLabelKeys").any(|other| other == key) {
            let rule = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.invalid(&at.child("matchLabelKeys").index(index), key, rule);
        }
    }
}

/// What is wrong with `topologySpreadConstraints`.
pub(super) fn check_spread(errors: &mut FieldErrors, path: &Path, constraints: &[Value]) {
    for (index, constraint) in constraints.iter().enumerate() {
        let at = path.index(index);
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.invalid(&at.child("maxSkew"), skew, "must be greater than zero");
        }
        let (key, action) = (constraint.text("topologyKey"), constraint.text("whenUnsatisfiable"));
        if key.is_empty() {
            errors.required(&at.child("topologyKey"), "can not be empty");
        }
        check::one_of(errors, &at.child("whenUnsatisfiable"), action, &["DoNotSchedule", "ScheduleAnyway"]);
        let same =
            |other: &Value| other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action;
        if constraints[index + 1..].iter().any(same) {
            errors.duplicate(&at.child("{topologyKey, whenUnsatisfiable}"), &format!("{{{key}, {action}}}"));
        }
        if let Some(domains) = constraint.int("minDomains") {
            min_domains(errors, &at.child("minDomains"), domains, action);
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = constraint.maybe(field) {
                check::one_of(errors, &at.child(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(errors, &at, constraint, constraint.field("labelSelector"));
        if let Some(selector) = constraint.map("labelSelector") {
            check::label_selector(errors, &at.child("labelSelector"), selector);
        }
    }
}

fn min_domains(errors: &mut FieldErrors, at: &Path, domains: i64, action: &str) {
    if domains <= 0 {
        errors.invalid(at, domains, "must be greater than zero");
    }
    if action != "DoNotSchedule" {
        let rule = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
        errors.invalid(at, domains, rule);
    }
}
