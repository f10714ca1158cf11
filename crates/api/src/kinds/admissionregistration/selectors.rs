//! To which objects something applies.

use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::kinds::base::{Defaults, Fields, check};
use serde_json::{Map, Value, json};

/// Fills in how resources are matched, and selectors of everything.
pub(super) fn default(told: &mut Map<String, Value>) {
    told.fill("matchPolicy", "Equivalent");
    told.fill("namespaceSelector", json!({}));
    told.fill("objectSelector", json!({}));
}

/// What is wrong with the resources to which a policy applies.
pub(super) fn errors(errors: &mut FieldErrors, resources: &Map<String, Value>, path: &Path) {
    let at = path.child("matchPolicy");
    match resources.maybe("matchPolicy") {
        None => errors.push(FieldError::required(&at, "")),
        Some(policy) => check::one_of(errors, &at, policy, &["Equivalent", "Exact"]),
    }
    for field in ["namespaceSelector", "objectSelector"] {
        match resources.map(field) {
            None => errors.push(FieldError::required(&path.child(field), "")),
            Some(selector) => check::label_selector(errors, &path.child(field), selector),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, rule) in resources.list(field).iter().enumerate() {
            super::rules::named_errors(errors, rule, &path.child(field).index(index));
        }
    }
}
