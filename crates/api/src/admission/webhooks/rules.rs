//! One webhook of a configuration, and what it wants to be asked about.

use super::super::{Operation, Request};
use crate::contract::Object;
use serde_json::Value;
use std::time::Duration;

/// One webhook of a configuration.
pub(super) struct Webhook {
    pub(super) name: String,
    /// `clientConfig`: where it is.
    pub(super) client: Value,
    rules: Vec<Value>,
    pub(super) namespaces: Option<Value>,
    pub(super) objects: Option<Value>,
    pub(super) timeout: Duration,
    /// `failurePolicy: Ignore`.
    pub(super) ignored: bool,
    /// Whether it may be asked in a dry run: its side effects leave those out.
    pub(super) dry_runs: bool,
    /// `reinvocationPolicy: IfNeeded`.
    pub(super) reinvoked: bool,
    /// Why it cannot be asked at all.
    pub(super) unable: Option<String>,
}

impl Webhook {
    /// Those of a configuration, in their order.
    pub(super) fn all(configuration: &Object) -> Vec<Webhook> {
        let list = configuration.0.get("webhooks").and_then(Value::as_array);
        list.into_iter().flatten().map(Webhook::read).collect()
    }

    fn read(webhook: &Value) -> Webhook {
        let text = |field: &str| webhook.get(field).and_then(Value::as_str).unwrap_or_default();
        let conditions = webhook.get("matchConditions").and_then(Value::as_array);
        let versions = webhook.get("admissionReviewVersions").and_then(Value::as_array);
        let speaks = versions.is_none_or(|list| list.iter().any(|version| version == "v1"));
        let unable = if conditions.is_some_and(|list| !list.is_empty()) {
            Some("matchConditions are not evaluated by this server".to_owned())
        } else if !speaks {
            Some("it takes no AdmissionReview of version v1".to_owned())
        } else {
            None
        };
        Webhook {
            name: text("name").to_owned(),
            client: webhook.get("clientConfig").cloned().unwrap_or_default(),
            rules: webhook.get("rules").and_then(Value::as_array).cloned().unwrap_or_default(),
            namespaces: webhook.get("namespaceSelector").filter(|value| value.is_object()).cloned(),
            objects: webhook.get("objectSelector").filter(|value| value.is_object()).cloned(),
            timeout: Duration::from_secs(
                webhook.get("timeoutSeconds").and_then(Value::as_u64).unwrap_or(10).clamp(1, 30),
            ),
            ignored: text("failurePolicy") == "Ignore",
            dry_runs: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            unable,
        }
    }

    /// Whether one of its rules is about the request.
    pub(super) fn rules_match(&self, request: &Request<'_>) -> bool {
        self.rules.iter().any(|rule| is_about(rule, request))
    }
}

fn is_about(rule: &Value, request: &Request<'_>) -> bool {
    let holds = |field: &str, wanted: &str| {
        let list = rule.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).any(|value| value == "*" || value == wanted)
    };
    let resource = &request.target.resource;
    let scope = rule.get("scope").and_then(Value::as_str).unwrap_or("*");
    let in_scope = match scope {
        "Namespaced" => resource.namespaced,
        "Cluster" => !resource.namespaced,
        _ => true,
    };
    in_scope
        && holds("operations", operation(request.operation))
        && holds("apiGroups", &resource.names.group)
        && holds("apiVersions", &resource.names.version)
        && names(rule, &resource.names.plural, request.subresource)
}

fn names(rule: &Value, plural: &str, subresource: &str) -> bool {
    let list = rule.get("resources").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).any(|wanted| {
        let (resource, part) = wanted.split_once('/').unwrap_or((wanted, ""));
        let part_fits = part == subresource || part == "*";
        (resource == "*" || resource == plural) && part_fits
    })
}

/// As reviews and rules have it.
pub(super) fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_name_resources_and_their_parts() {
        let fits =
            |wanted: &str, plural: &str, part: &str| names(&json!({"resources": [wanted]}), plural, part);
        assert!(fits("pods", "pods", "") && fits("*", "pods", "") && fits("*/*", "pods", "status"));
        assert!(fits("pods/*", "pods", "status") && fits("*/scale", "deployments", "scale"));
        assert!(
            !fits("pods", "pods", "status") && !fits("*", "pods", "status") && !fits("pods/log", "pods", "")
        );
    }
}
