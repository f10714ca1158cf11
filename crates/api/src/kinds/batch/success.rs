//! `successPolicy` of a Job: when it is done before all is.

use super::{indexes, spec};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Fields, check};
use crate::kinds::shown::{self, Shown};
use serde_json::{Map, Value};

const RULES_MAX: usize = 20;
const INDEXES_MAX: usize = 64 * 1024;

/// What is wrong with a policy of the Job `job`.
pub(super) fn errors(
    errors: &mut FieldErrors,
    policy: &Value,
    job: Option<&Map<String, Value>>,
    path: &Path,
) {
    if !spec::is_indexed(job) {
        errors.push(shown::invalid(path, shown(Some(policy)), "requires indexed completion mode"));
        return;
    }
    let (rules, path) = (policy.list("rules"), path.child("rules"));
    if rules.is_empty() {
        let detail = "at least one rules must be specified when the successPolicy is specified";
        errors.push(FieldError::required(&path, detail));
    }
    if rules.len() > RULES_MAX {
        errors.push(FieldError::too_many(&path, rules.len(), RULES_MAX));
    }
    let completions = job.int("completions").unwrap_or(0);
    for (index, rule) in rules.iter().enumerate() {
        rule_errors(errors, rule, completions, &path.index(index));
    }
}

fn rule_errors(errors: &mut FieldErrors, rule: &Value, completions: i64, path: &Path) {
    let (count, set) = (rule.int("succeededCount"), rule.maybe("succeededIndexes"));
    if count.is_none() && set.is_none() {
        let detail = "at least one of succeededCount or succeededIndexes must be specified";
        errors.push(FieldError::required(path, detail));
    }
    let mut total = 0;
    if let Some(set) = set {
        let at = path.child("succeededIndexes");
        if set.len() > INDEXES_MAX {
            errors.push(FieldError::too_long(&at, INDEXES_MAX));
        }
        match indexes::count(set, completions) {
            Ok(count) => total = count,
            Err(cause) => {
                errors.push(FieldError::invalid(
                    &at,
                    set,
                    format!("error parsing succeededIndexes: {cause}"),
                ));
            }
        }
    }
    let Some(count) = count else { return };
    let at = path.child("succeededCount");
    check::not_negative(errors, &at, Some(count));
    let mut above = |most: i64, of: &str| {
        if count > most {
            errors.push(FieldError::invalid(
                &at,
                count,
                format!("must be less than or equal to {most} ({of})"),
            ));
        }
    };
    above(completions, "the number of specified completions");
    if set.is_some() {
        above(total, "the number of indexes in the specified succeededIndexes field");
    }
}

/// The policy as messages show it.
pub(super) fn shown(policy: Option<&Value>) -> String {
    let Some(policy) = policy else { return "null".to_owned() };
    let rules: Vec<String> = policy
        .list("rules")
        .iter()
        .map(|rule| {
            Shown::new()
                .field("SucceededIndexes", rule.field("succeededIndexes"))
                .field("SucceededCount", rule.field("succeededCount"))
                .end()
        })
        .collect();
    Shown::new().raw("Rules", &shown::list(&rules)).end()
}
