//! Role and ClusterRole.

use super::GROUP;
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::selector::LabelSelector;
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::resource::Column;
use serde_json::{Value, json};

pub(super) fn kind() -> Kind {
    let kind = Kind::new(GROUP, "v1", "Role", "roles", "io.k8s.api.rbac.v1.Role");
    both(kind).validate(|object| rule_errors(object, true))
}

pub(super) fn cluster_kind() -> Kind {
    let kind = Kind::new(GROUP, "v1", "ClusterRole", "clusterroles", "io.k8s.api.rbac.v1.ClusterRole");
    both(kind).cluster_scoped().validate(|object| {
        let mut errors = rule_errors(object, false);
        aggregation_errors(&mut errors, object);
        errors
    })
}

fn both(kind: Kind) -> Kind {
    kind.without_generation().named(names::path_segment).default(default).table(columns, row)
}

fn default(object: &mut Object) {
    if object.0.list("rules").is_empty() {
        object.0.insert("rules".to_owned(), Value::Null);
    }
    object.0.each("rules").for_each(|rule| rule.fill("verbs", json!([])));
}

fn rule_errors(object: &Object, namespaced: bool) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, rule) in object.0.list("rules").iter().enumerate() {
        let path = Path::new("rules").index(index);
        let mut needed = |field: &str, what: &str| {
            if rule.list(field).is_empty() {
                errors.push(FieldError::required(&path.child(field), what));
            }
        };
        needed("verbs", "verbs must contain at least one value");
        let urls = rule.list("nonResourceURLs");
        if urls.is_empty() {
            needed("apiGroups", "resource rules must supply at least one api group");
            needed("resources", "resource rules must supply at least one resource");
            continue;
        }
        let mut refuse = |detail: &str| {
            errors.push(FieldError::invalid(&path.child("nonResourceURLs"), urls.to_vec(), detail));
        };
        if namespaced {
            refuse("namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !rule.list(field).is_empty()) {
            refuse("rules cannot apply to both regular resources and non-resource URLs");
        }
    }
    errors
}

fn aggregation_errors(errors: &mut FieldErrors, object: &Object) {
    let Some(rule) = object.0.field("aggregationRule") else { return };
    let path = Path::new("aggregationRule").child("clusterRoleSelectors");
    let selectors = rule.list("clusterRoleSelectors");
    if selectors.is_empty() {
        let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.push(FieldError::required(&path, detail));
    }
    for (index, selector) in selectors.iter().enumerate() {
        let path = path.index(index);
        if let Some(selector) = selector.as_object() {
            check::label_selector(errors, &path, selector);
        }
        if LabelSelector::from_object(selector).is_err() {
            // Kubernetes shows what it could not make of it.
            errors.push(FieldError::invalid(&path, Value::Null, "invalid label selector."));
        }
    }
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Created At", "date", "When it was made.")]
}

fn row(object: &Object, _now: i64) -> Vec<Value> {
    vec![object.name().into(), object.text(&["metadata", "creationTimestamp"]).into()]
}
