//! The spec of a Job, as Jobs and CronJobs have it.

use super::{failure, success};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::names;
use crate::kinds::base::{Defaults, Fields, check};
use crate::kinds::inside::Inside;
use crate::kinds::{names as kind_names, template};
use serde_json::{Map, Value};

const INDEXED: &str = "Indexed";
const NOT_INDEXED: &str = "NonIndexed";
/// Most pods at once, and most indexes that may fail, of an indexed Job.
const INDEXED_MAX: i64 = 100_000;
/// With more completions than this the limits are lower where indexes are counted one by one.
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_MAX: i64 = 10_000;

/// Whether completions are counted by index.
pub(super) fn is_indexed(spec: Option<&Map<String, Value>>) -> bool {
    spec.text("completionMode") == INDEXED
}

/// Fills in what the spec of a Job's template leaves out; what belongs to Jobs alone is theirs.
pub(super) fn default(spec: &mut Map<String, Value>) {
    template::default(spec);
    let policy = spec.within("podFailurePolicy");
    for rule in policy.into_iter().flat_map(|policy| policy.each("rules")) {
        rule.each("onPodConditions").for_each(|pattern| pattern.fill_text("status", "True"));
    }
}

/// What is wrong with a spec but for its selector.
pub(super) fn errors(spec: Option<&Map<String, Value>>, path: &Path) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        check::not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path.child("backoffLimitPerIndex"), detail));
    }
    if let Some(manager) = spec.maybe("managedBy") {
        let at = path.child("managedBy");
        errors.extend(kind_names::domain_prefixed_path(&at, manager));
        if manager.len() > 63 {
            errors.push(FieldError::too_long(&at, 63));
        }
    }
    completion(&mut errors, spec, path);
    failure::errors(&mut errors, spec, path);
    if let Some(policy) = spec.field("successPolicy") {
        success::errors(&mut errors, policy, spec, &path.child("successPolicy"));
    }
    replacement(&mut errors, spec, &path.child("podReplacementPolicy"));
    errors.extend(template::errors(spec, path));
    restart(&mut errors, spec, &path.child("template").child("spec").child("restartPolicy"));
    errors
}

fn completion(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let mode = spec.text("completionMode");
    if spec.has("completionMode") {
        check::one_of(errors, &path.child("completionMode"), mode, &[NOT_INDEXED, INDEXED]);
    }
    if mode == INDEXED {
        indexed(errors, spec, path);
    } else if mode == NOT_INDEXED || !spec.has("completionMode") {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec.int(field) {
                let detail = "requires indexed completion mode";
                errors.push(FieldError::invalid(&path.child(field), number, detail));
            }
        }
    }
}

fn indexed(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let (completions, parallelism) = (spec.int("completions"), spec.int("parallelism"));
    let failed = spec.int("maxFailedIndexes");
    if completions.is_none() {
        let detail = format!("when completion mode is {INDEXED}");
        errors.push(FieldError::required(&path.child("completions"), detail));
    }
    let mut above = |field: &str, number: Option<i64>, most: i64, detail: String| {
        if let Some(number) = number.filter(|number| *number > most) {
            errors.push(FieldError::invalid(&path.child(field), number, detail));
        }
    };
    let most = format!("must be less than or equal to {INDEXED_MAX}");
    above("parallelism", parallelism, INDEXED_MAX, format!("{most} when completion mode is {INDEXED}"));
    if let Some(completions) = completions {
        above(
            "maxFailedIndexes",
            failed,
            completions,
            "must be less than or equal to completions".to_owned(),
        );
    }
    above("maxFailedIndexes", failed, INDEXED_MAX, most);
    if completions.is_some_and(|number| number > MANY_COMPLETIONS) && spec.has("backoffLimitPerIndex") {
        let detail = format!(
            "must be less than or equal to {MANY_MAX} when completions are above {MANY_COMPLETIONS} and used with backoff \
             limit per index"
        );
        if failed.is_none() {
            let detail = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            errors.push(FieldError::required(&path.child("maxFailedIndexes"), detail));
        }
        for (field, number) in [("parallelism", parallelism), ("maxFailedIndexes", failed)] {
            if let Some(number) = number.filter(|number| *number > MANY_MAX) {
                errors.push(FieldError::invalid(&path.child(field), number, detail.clone()));
            }
        }
    }
}

fn replacement(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    if let Some(policy) = spec.maybe("podReplacementPolicy") {
        let supported: &[&str] =
            if spec.has("podFailurePolicy") { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
        check::one_of(errors, path, policy, supported);
    }
}

fn restart(errors: &mut FieldErrors, spec: Option<&Map<String, Value>>, path: &Path) {
    let pod = spec.under("template").under("spec");
    match pod.text("restartPolicy") {
        "" | "Always" => {
            errors.push(FieldError::required(path, "valid values: \"OnFailure\", \"Never\""));
        }
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(path, "OnFailure", detail));
        }
        "OnFailure" | "Never" => {}
        other => errors.push(FieldError::not_supported(path, other, &["OnFailure", "Never"])),
    }
}

/// The warnings of a spec; those of the template are told apart.
pub(super) fn warnings(spec: Option<&Map<String, Value>>, path: &Path) -> Option<String> {
    let above = |field, most| spec.int(field).is_some_and(|number| number > most);
    let risky = is_indexed(spec) && above("completions", MANY_COMPLETIONS) && above("parallelism", MANY_MAX);
    risky.then(|| {
        format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    })
}

/// Names of containers of the template, those that come first included.
pub(super) fn containers(spec: Option<&Map<String, Value>>) -> Vec<&str> {
    let pod = spec.under("template").under("spec");
    let of = |field| {
        let list = pod.items(field);
        list.iter().map(|container| container.text("name"))
    };
    of("containers").chain(of("initContainers")).collect()
}

/// A condition's type is a qualified name.
pub(super) fn qualified(errors: &mut FieldErrors, path: &Path, name: &str) {
    errors.extend(check::invalid(path, name, names::qualified_name(name)));
}
