//! The conditions of a request for a certificate: how it was answered.

use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, check};
use crate::kinds::inside::Inside;
use crate::kinds::times;
use serde_json::Value;
use std::collections::HashSet;

/// Answers, which are given or not, and never taken back.
const ANSWERS: &[&str] = &["Approved", "Denied", "Failed"];

/// The conditions of a request.
pub(super) fn of(object: &Object) -> &[Value] {
    object.status().items("conditions")
}

fn of_kind<'a>(object: &'a Object, kind: &str) -> Vec<&'a Value> {
    of(object).iter().filter(|condition| condition.text("type") == kind).collect()
}

/// Whether a request was answered so.
pub(super) fn has(object: &Object, kind: &str) -> bool {
    !of_kind(object, kind).is_empty()
}

/// Writes when conditions were written and changed, where nobody said so.
pub(super) fn date(object: &mut Object, old: &Object) {
    let now = times::now();
    let list = object.make(&["status"]).get_mut("conditions").and_then(Value::as_array_mut);
    for condition in list.into_iter().flatten().filter_map(Value::as_object_mut) {
        if condition.text("lastUpdateTime").is_empty() {
            condition.insert("lastUpdateTime".to_owned(), now.as_str().into());
        }
        if condition.text("lastTransitionTime").is_empty() {
            let same = |kept: &&Value| {
                ["type", "status"].iter().all(|field| kept.text(field) == condition.text(field))
                    && kept.has("lastTransitionTime")
            };
            let since = of(old).iter().find(same).map(|kept| kept.text("lastTransitionTime"));
            let since = Value::from(since.unwrap_or(&now));
            condition.insert("lastTransitionTime".to_owned(), since);
        }
    }
}

/// Whoever signs may not answer for who approves: these conditions stay as they were.
pub(super) fn keep_approval(object: &mut Object, old: &Object) {
    for kind in ["Approved", "Denied"] {
        let kept = of_kind(old, kind);
        if kept.len() != of_kind(object, kind).len() {
            continue;
        }
        let mut kept = kept.into_iter();
        let list = object.make(&["status"]).get_mut("conditions").and_then(Value::as_array_mut);
        for condition in list.into_iter().flatten().filter(|condition| condition.text("type") == kind) {
            if let Some(kept) = kept.next() {
                *condition = kept.clone();
            }
        }
    }
}

/// What is wrong with the conditions; what was wrong before may stay.
pub(super) fn errors(errors: &mut FieldErrors, object: &Object, old: Option<&Object>, path: &Path) {
    let was = |test: fn(&Object) -> bool| old.is_some_and(test);
    let both_kept = was(|old| has(old, "Approved") && has(old, "Denied"));
    let twice_kept = was(|old| {
        let mut seen = HashSet::new();
        of(old).iter().any(|condition| !seen.insert(condition.text("type")))
    });
    let empty_kept = was(|old| of(old).iter().any(|condition| condition.text("type").is_empty()));
    let mut seen = HashSet::new();
    for (index, condition) in of(object).iter().enumerate() {
        let at = path.index(index);
        let kind = condition.text("type");
        if kind.is_empty() && !empty_kept {
            errors.push(FieldError::required(&at.child("type"), ""));
        }
        let allowed: &[&str] =
            if ANSWERS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match condition.text("status") {
            "" => errors.push(FieldError::required(&at.child("status"), "")),
            status => check::one_of(errors, &at.child("status"), status, allowed),
        }
        let other = match kind {
            "Approved" => Some("Denied"),
            "Denied" => Some("Approved"),
            _ => None,
        };
        if !both_kept && other.is_some_and(|other| seen.contains(other)) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(path, kind, detail));
        }
        if !seen.insert(kind) && !twice_kept {
            errors.push(FieldError::duplicate(&at.child("type"), kind));
        }
    }
}

/// What is wrong with how the conditions changed. `approval`: whether it may be approved or denied here.
pub(super) fn change_errors(
    errors: &mut FieldErrors,
    object: &Object,
    old: &Object,
    approval: bool,
    path: &Path,
) {
    let mut refuse = |detail: String| errors.push(FieldError::forbidden(path, detail));
    for kind in ANSWERS {
        if of_kind(object, kind).len() < of_kind(old, kind).len() {
            refuse(format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| !approval) {
        let (new, kept) = (of_kind(object, kind), of_kind(old, kind));
        if new.len() > kept.len() {
            refuse(format!("updates may not add a condition of type {kind:?}"));
        } else if new.len() == kept.len() && new != kept {
            refuse(format!("updates may not modify a condition of type {kind:?}"));
        }
    }
}
