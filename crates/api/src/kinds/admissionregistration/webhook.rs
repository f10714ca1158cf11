//! ValidatingWebhookConfiguration and MutatingWebhookConfiguration.

use super::{CATEGORY, GROUP, conditions, rules, selectors, service, url};
use crate::contract::field::{FieldError, FieldErrors, Path};
use crate::contract::{Object, names};
use crate::kinds::base::{Defaults, Fields, Kind, check, table};
use crate::kinds::inside::Inside;
use crate::kinds::names::fully_qualified;
use crate::resource::Column;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// Versions of AdmissionReview that the server speaks.
const REVIEWS: &[&str] = &["v1", "v1beta1"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];

pub(super) fn validating_kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration";
    let plural = "validatingwebhookconfigurations";
    both(Kind::new(GROUP, "v1", "ValidatingWebhookConfiguration", plural, type_name))
        .default(|object| object.0.each("webhooks").for_each(default))
}

pub(super) fn mutating_kind() -> Kind {
    let type_name = "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration";
    let plural = "mutatingwebhookconfigurations";
    both(Kind::new(GROUP, "v1", "MutatingWebhookConfiguration", plural, type_name)).default(|object| {
        for webhook in object.0.each("webhooks") {
            default(webhook);
            webhook.fill("reinvocationPolicy", "Never");
        }
    })
}

fn both(kind: Kind) -> Kind {
    kind.cluster_scoped()
        .categories(&[CATEGORY])
        .validate(|object| errors(object, Kept::default()))
        .validate_update(|_, object, old| errors(object, Kept::of(object, old)))
        .table(columns, row)
}

fn default(webhook: &mut Map<String, Value>) {
    webhook.fill("failurePolicy", "Fail");
    selectors::default(webhook);
    webhook.fill("timeoutSeconds", 10);
    webhook.each("rules").for_each(|rule| rule.fill("scope", "*"));
    if let Some(service) = webhook.within("clientConfig").and_then(|client| client.within("service")) {
        service.fill("port", 443);
    }
}

/// What old configurations may keep although new ones may not have it.
#[derive(Clone, Copy, Default)]
struct Kept {
    side_effects: bool,
    unknown_reviews: bool,
    same_names: bool,
    conditions: bool,
}

impl Kept {
    fn of(object: &Object, old: &Object) -> Kept {
        let (new, old) = (object.0.list("webhooks"), old.0.list("webhooks"));
        let unknown = |webhook: &Value| {
            let mut reviews = webhook.texts("admissionReviewVersions").peekable();
            reviews.peek().is_some() && !reviews.any(|review| REVIEWS.contains(&review))
        };
        let names: HashSet<&str> = old.iter().map(|webhook| webhook.text("name")).collect();
        let conditions = |list: &[Value]| -> Vec<Value> {
            list.iter().map(|webhook| webhook.list("matchConditions").to_vec().into()).collect()
        };
        Kept {
            side_effects: old.iter().any(|webhook| !NO_SIDE_EFFECTS.contains(&webhook.text("sideEffects"))),
            unknown_reviews: old.iter().any(unknown),
            same_names: names.len() < old.len(),
            conditions: conditions(new) == conditions(old),
        }
    }
}

fn errors(object: &Object, kept: Kept) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let mut seen = HashSet::new();
    for (index, webhook) in object.0.list("webhooks").iter().enumerate() {
        let path = Path::new("webhooks").index(index);
        webhook_errors(&mut errors, webhook, kept, &path);
        review_errors(&mut errors, webhook, kept, &path.child("admissionReviewVersions"));
        let name = webhook.text("name");
        if !kept.same_names && !name.is_empty() && !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
    }
    errors
}

fn webhook_errors(errors: &mut FieldErrors, webhook: &Value, kept: Kept, path: &Path) {
    errors.extend(fully_qualified(&path.child("name"), webhook.text("name"), 3));
    for (index, rule) in webhook.list("rules").iter().enumerate() {
        rules::errors(errors, rule, &path.child("rules").index(index));
    }
    let policies: [(&str, &[&str]); 2] =
        [("failurePolicy", &["Fail", "Ignore"]), ("matchPolicy", &["Equivalent", "Exact"])];
    for (field, supported) in policies {
        if let Some(policy) = webhook.maybe(field) {
            check::one_of(errors, &path.child(field), policy, supported);
        }
    }
    let (allowed, at) =
        (if kept.side_effects { SIDE_EFFECTS } else { NO_SIDE_EFFECTS }, path.child("sideEffects"));
    match webhook.maybe("sideEffects") {
        None => {
            let detail = format!("must specify one of {}", allowed.join(", "));
            errors.push(FieldError::required(&at, detail));
        }
        Some(effects) => check::one_of(errors, &at, effects, allowed),
    }
    if let Some(seconds) = webhook.int("timeoutSeconds").filter(|seconds| !(1..=30).contains(seconds)) {
        let detail = "the timeout value must be between 1 and 30 seconds";
        errors.push(FieldError::invalid(&path.child("timeoutSeconds"), seconds, detail));
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if let Some(selector) = webhook.map(field) {
            check::label_selector(errors, &path.child(field), selector);
        }
    }
    if let Some(policy) = webhook.maybe("reinvocationPolicy") {
        check::one_of(errors, &path.child("reinvocationPolicy"), policy, &["IfNeeded", "Never"]);
    }
    client_errors(errors, webhook.map("clientConfig"), &path.child("clientConfig"));
    if !kept.conditions {
        let scope = crate::cel::admission::Scope::new(false, true);
        conditions::errors(errors, webhook.list("matchConditions"), &scope, &path.child("matchConditions"));
    }
}

fn client_errors(errors: &mut FieldErrors, client: Option<&Map<String, Value>>, path: &Path) {
    match (client.maybe("url"), client.under("service")) {
        (Some(text), None) => url::errors(errors, text, &path.child("url")),
        (None, Some(told)) => service::errors(errors, told, &path.child("service")),
        _ => errors.push(FieldError::required(path, "exactly one of url or service is required")),
    }
}

fn review_errors(errors: &mut FieldErrors, webhook: &Value, kept: Kept, path: &Path) {
    let versions = webhook.list("admissionReviewVersions");
    if versions.is_empty() {
        let detail = format!("must specify one of {}", REVIEWS.join(", "));
        errors.push(FieldError::required(path, detail));
        return;
    }
    let mut seen = HashSet::new();
    for (index, version) in webhook.texts("admissionReviewVersions").enumerate() {
        let at = path.index(index);
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&at, version, "duplicate version"));
            continue;
        }
        errors.extend(check::invalid(&at, version, names::dns1035_label(version, false)));
    }
    if !kept.unknown_reviews && !REVIEWS.iter().any(|review| seen.contains(review)) {
        let detail = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(FieldError::invalid(path, versions.to_vec(), detail));
    }
}

fn columns() -> Vec<Column> {
    vec![table::name(), table::column("Webhooks", "integer", "How many webhooks there are."), table::age()]
}

fn row(object: &Object, now: i64) -> Vec<Value> {
    vec![object.name().into(), object.0.list("webhooks").len().into(), table::age_of(object, now)]
}
