//! The status of a Job: its controller is held to what it can mean.

use super::conditions::{is, is_finished, is_not};
use super::{indexes, spec};
use crate::contract::Object;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, check, table};
use crate::kinds::shown;
use serde_json::Value;
use std::collections::HashSet;

/// What is wrong with an update of the status.
pub(super) fn errors(object: &Object, old: &Object) -> FieldErrors {
    let path = Path::new("status");
    let mut errors = FieldErrors::new();
    counts(&mut errors, object, &path);
    let changes = Changes { object, old };
    times(&mut errors, &changes, &path);
    terminal(&mut errors, &changes, &path);
    index_sets(&mut errors, &changes, &path);
    running(&mut errors, &changes, &path);
    criteria(&mut errors, object, &path);
    transitions(&mut errors, &changes, &path);
    errors
}

/// An update of a status; what did not change is not looked at again.
struct Changes<'a> {
    object: &'a Object,
    old: &'a Object,
}

impl Changes<'_> {
    fn of(&self, field: &str) -> bool {
        self.object.status().field(field) != self.old.status().field(field)
    }

    fn of_condition(&self, kind: &str) -> bool {
        is(self.object, kind) != is(self.old, kind)
    }

    fn of_end(&self) -> bool {
        is_finished(self.object) != is_finished(self.old)
    }
}

fn counts(errors: &mut FieldErrors, object: &Object, path: &Path) {
    let status = object.status();
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        check::not_negative(errors, &path.child(field), status.int(field));
    }
    let Some(pods) = status.field("uncountedTerminatedPods") else { return };
    let path = path.child("uncountedTerminatedPods");
    let mut seen = HashSet::new();
    for field in ["succeeded", "failed"] {
        for (index, uid) in pods.texts(field).enumerate() {
            let path = path.child(field).index(index);
            if uid.is_empty() {
                errors.push(FieldError::invalid(&path, "", "must not be empty"));
            } else if !seen.insert(uid.to_owned()) {
                errors.push(FieldError::duplicate(&path, uid));
            }
        }
    }
}

fn times(errors: &mut FieldErrors, changes: &Changes<'_>, path: &Path) {
    let object = changes.object;
    let complete = is(object, "Complete");
    let both = |errors: &mut FieldErrors, other: &str, said: &str| {
        if complete && is(object, other) {
            let detail = format!("cannot set Complete=True and {said}=true conditions");
            errors.push(shown::omitted(&path.child("conditions"), detail));
        }
    };
    if changes.of_condition("Complete") || changes.of_condition("Failed") {
        both(errors, "Failed", "Failed");
    }
    if changes.of_condition("Complete") || changes.of_condition("FailureTarget") {
        both(errors, "FailureTarget", "FailureTarget");
    }
    let end = object.status().field("completionTime");
    let at = path.child("completionTime");
    if changes.of_condition("Complete") || changes.of("completionTime") {
        match (end, complete) {
            (Some(end), false) => {
                let detail = "cannot set completionTime when there is no Complete=True condition";
                errors.push(FieldError::invalid(&at, end.clone(), detail));
            }
            (None, true) => {
                errors.push(FieldError::required(&at, "completionTime is required for Complete jobs"));
            }
            _ => {}
        }
    }
    if changes.of("startTime") || changes.of("completionTime") {
        let seconds = |field| table::seconds(object.status().text(field));
        if let (Some(start), Some(until)) = (seconds("startTime"), seconds("completionTime"))
            && until < start
        {
            let end = end.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(&at, end, "must be equal to or after `startTime`"));
        }
    }
}

fn terminal(errors: &mut FieldErrors, changes: &Changes<'_>, path: &Path) {
    let object = changes.object;
    let status = object.status();
    let conditions = path.child("conditions");
    if (changes.of_condition("Failed") || changes.of("failedIndexes"))
        && is(object, "Failed")
        && !is(object, "FailureTarget")
    {
        let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.push(shown::omitted(&conditions, detail));
    }
    if (changes.of_condition("Complete") || changes.of_condition("SuccessCriteriaMet"))
        && is(object, "Complete")
        && !is(object, "SuccessCriteriaMet")
    {
        let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.push(shown::omitted(&conditions, detail));
    }
    if !is_finished(object) {
        return;
    }
    let active = status.int("active").unwrap_or(0);
    if (changes.of_end() || changes.of("active")) && active > 0 {
        errors.push(FieldError::invalid(
            &path.child("active"),
            active,
            "active>0 is invalid for finished job",
        ));
    }
    let nothing_to_do = object.spec().is("suspend") && object.spec().int("completions") == Some(0);
    if (changes.of_end() || changes.of("startTime")) && !nothing_to_do && !status.has("startTime") {
        let detail = "startTime is required for finished job";
        errors.push(FieldError::required(&path.child("startTime"), detail));
    }
    let uncounted = status.field("uncountedTerminatedPods");
    let some =
        uncounted.is_some_and(|pods| !pods.list("failed").is_empty() || !pods.list("succeeded").is_empty());
    if (changes.of_end() || changes.of("uncountedTerminatedPods")) && some {
        let list = |field| uncounted.and_then(|pods| pods.field(field));
        let shown =
            shown::Shown::new().field("Succeeded", list("succeeded")).field("Failed", list("failed")).end();
        let at = path.child("uncountedTerminatedPods");
        errors.push(shown::invalid(&at, shown, "must be empty for finished job"));
    }
}

fn index_sets(errors: &mut FieldErrors, changes: &Changes<'_>, path: &Path) {
    let (status, job) = (changes.object.status(), changes.object.spec());
    let (completed, failed) = (status.text("completedIndexes"), status.maybe("failedIndexes"));
    let (done_changed, failed_changed) = (changes.of("completedIndexes"), changes.of("failedIndexes"));
    let [done_at, failed_at] = ["completedIndexes", "failedIndexes"].map(|field| path.child(field));
    let per_index = job.has("backoffLimitPerIndex");
    let mut parsed = |at: &Path, text: &str, name: &str, completions: i64| {
        if let Err(cause) = indexes::count(text, completions) {
            errors.push(FieldError::invalid(at, text, format!("error parsing {name}: {cause}")));
        }
    };
    if let Some(completions) = job.int("completions") {
        if done_changed {
            parsed(&done_at, completed, "completedIndexes", completions);
        }
        if let Some(failed) = failed.filter(|_| failed_changed && per_index) {
            parsed(&failed_at, failed, "failedIndexes", completions);
        }
    }
    if done_changed && !completed.is_empty() && !spec::is_indexed(job) {
        let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(FieldError::invalid(&done_at, completed, detail));
    }
    let Some(failed) = failed else { return };
    if failed_changed && !per_index {
        let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(FieldError::invalid(&failed_at, failed, detail));
    }
    if let Some(completions) = job.int("completions").filter(|_| failed_changed || done_changed)
        && let Err(cause) = indexes::apart(completed, failed, completions)
    {
        errors.push(FieldError::invalid(&failed_at, failed, cause));
    }
}

fn running(errors: &mut FieldErrors, changes: &Changes<'_>, path: &Path) {
    let status = changes.object.status();
    let terminating = status.int("terminating").unwrap_or(0);
    if (changes.of_end() || changes.of("terminating")) && terminating > 0 && is_finished(changes.object) {
        let detail = "terminating>0 is invalid for finished job";
        errors.push(FieldError::invalid(&path.child("terminating"), terminating, detail));
    }
    let active = status.int("active").unwrap_or(0);
    if let Some(ready) = status.int("ready").filter(|ready| *ready > active)
        && (changes.of("ready") || changes.of("active"))
    {
        errors.push(FieldError::invalid(
            &path.child("ready"),
            ready,
            "cannot set more ready pods than active",
        ));
    }
}

fn criteria(errors: &mut FieldErrors, object: &Object, path: &Path) {
    let met = is(object, "SuccessCriteriaMet");
    let mut refuse = |detail: &str| errors.push(shown::omitted(&path.child("conditions"), detail));
    if met && is(object, "Failed") {
        refuse("cannot set SuccessCriteriaMet=True and Failed=true conditions");
    }
    if met && is(object, "FailureTarget") {
        refuse("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    }
    if object.spec().has("successPolicy") && !met && is(object, "Complete") {
        refuse("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True");
    }
}

fn transitions(errors: &mut FieldErrors, changes: &Changes<'_>, path: &Path) {
    let (object, old) = (changes.object, changes.old);
    let conditions = path.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !is(object, kind) {
            let detail = format!("cannot disable the terminal {kind}=True condition");
            errors.push(shown::omitted(&conditions, detail));
        }
    }
    let counter = |errors: &mut FieldErrors, field: &str| {
        let of = |object: &Object| object.status().int(field).unwrap_or(0);
        if of(object) < of(old) {
            let detail = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(&path.child(field), of(object), detail));
        }
    };
    counter(errors, "failed");
    let job = object.spec();
    if !spec::is_indexed(job) || job.int("completions") != job.int("parallelism") {
        counter(errors, "succeeded");
    }
    let at = |object: &Object, field: &str| object.status().field(field).cloned();
    if let (Some(new), Some(kept)) = (at(object, "completionTime"), at(old, "completionTime"))
        && new != kept
    {
        errors.push(FieldError::invalid(&path.child("completionTime"), new, check::IMMUTABLE));
    }
    let resumes = is(old, "Suspended") && is_not(object, "Suspended");
    if changes.of("startTime") && !resumes && at(old, "startTime").is_some() && !job.is("suspend") {
        let new = at(object, "startTime").unwrap_or(Value::Null);
        let detail = "field is immutable for unsuspended job once set";
        errors.push(FieldError::invalid(&path.child("startTime"), new, detail));
    }
    let (met, was_met) = (is(object, "SuccessCriteriaMet"), is(old, "SuccessCriteriaMet"));
    if was_met && !met {
        errors.push(shown::omitted(&conditions, "cannot disable the SuccessCriteriaMet=True condition"));
    }
    if is(old, "Complete") && !was_met && met {
        let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.push(shown::omitted(&conditions, detail));
    }
}
