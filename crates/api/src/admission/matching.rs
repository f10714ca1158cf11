//! Of which requests a webhook or a policy has a say.

use super::{Operation, Request};
use crate::contract::selector::LabelSelector;
use crate::contract::{Object, Result};
use crate::resource::Resource;
use serde_json::Value;
use std::sync::Arc;

/// Which requests are meant.
pub(super) struct Matching {
    rules: Vec<Value>,
    excluded: Vec<Value>,
    /// Selectors; one that cannot be read refuses what it would be asked about.
    namespaces: Option<Result<LabelSelector>>,
    objects: Option<Result<LabelSelector>>,
    /// `matchPolicy: Equivalent`: rules for another version of the same objects count.
    equivalent: bool,
    /// Without rules everything is meant, and not nothing.
    open: bool,
}

impl Matching {
    /// Of a webhook, whose rules are under `rules`.
    pub(super) fn of_webhook(webhook: &Value) -> Matching {
        Matching { rules: list(webhook, "rules"), ..Matching::of(webhook, false) }
    }

    /// Of a policy or its binding.
    pub(super) fn of_policy(resources: &Value) -> Matching {
        Matching {
            rules: list(resources, "resourceRules"),
            excluded: list(resources, "excludeResourceRules"),
            ..Matching::of(resources, true)
        }
    }

    fn of(told: &Value, open: bool) -> Matching {
        let selector = |field: &str| {
            let selector = told.get(field).filter(|value| value.is_object());
            selector.map(LabelSelector::from_object)
        };
        Matching {
            rules: Vec::new(),
            excluded: Vec::new(),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: told.get("matchPolicy").and_then(Value::as_str) != Some("Exact"),
            open,
        }
    }

    /// In which version of its resource a request is meant, if it is.
    pub(super) fn find(&self, request: &Request<'_>) -> Result<Option<Arc<Resource>>> {
        if !self.selects(request)? || self.matched(&self.excluded, request).is_some() {
            return Ok(None);
        }
        if self.rules.is_empty() && self.open {
            return Ok(Some(Arc::clone(&request.target.resource)));
        }
        Ok(self.matched(&self.rules, request))
    }

    fn matched(&self, rules: &[Value], request: &Request<'_>) -> Option<Arc<Resource>> {
        let own = &request.target.resource;
        if rules.iter().any(|rule| is_about(rule, own, request)) {
            return Some(Arc::clone(own));
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let all = request.registry.resources();
        let others: Vec<_> = all.iter().filter(|other| other.stored_as == own.stored_as).collect();
        // Earlier rules go before later ones.
        rules.iter().find_map(|rule| {
            others.iter().find(|other| is_about(rule, other, request)).map(|other| Arc::clone(other))
        })
    }

    fn selects(&self, request: &Request<'_>) -> Result<bool> {
        if let Some(selector) = &self.objects {
            let selector = selector.as_ref().map_err(Clone::clone)?;
            let objects = [request.object.as_ref(), request.old];
            // Options of a connection have no metadata, and are selected by nothing.
            let labels = |object: &Object| {
                object.0.contains_key("metadata") && selector.matches(object.strings("labels"))
            };
            if !selector.is_everything() && !objects.into_iter().flatten().any(labels) {
                return Ok(false);
            }
        }
        let Some(selector) = &self.namespaces else { return Ok(true) };
        let selector = selector.as_ref().map_err(Clone::clone)?;
        if selector.is_everything() {
            return Ok(true);
        }
        if request.kind() == "namespaces" {
            // What a namespace is asked about is itself: as it is to be, or as it is where something else is done to it.
            let changes = matches!(request.operation, Operation::Create | Operation::Update);
            let own = match &request.object {
                Some(object) if changes && request.subresource.is_empty() => Some(object),
                other => request.old.or(other.as_ref()),
            };
            return Ok(own.is_some_and(|namespace| selector.matches(namespace.strings("labels"))));
        }
        if request.target.namespace.is_empty() {
            return Ok(true);
        }
        let namespace = request.registry.peek("namespaces", "", &request.target.namespace)?;
        Ok(namespace.is_some_and(|namespace| selector.matches(namespace.strings("labels"))))
    }
}

fn list(told: &Value, field: &str) -> Vec<Value> {
    told.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn is_about(rule: &Value, resource: &Resource, request: &Request<'_>) -> bool {
    let texts = |field: &str| {
        let list = rule.get(field).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    };
    let holds = |field: &str, wanted: &str| texts(field).any(|value| value == "*" || value == wanted);
    let in_scope = match rule.get("scope").and_then(Value::as_str).unwrap_or("*") {
        "Namespaced" => resource.namespaced,
        "Cluster" => !resource.namespaced,
        _ => true,
    };
    let mut names = texts("resourceNames").peekable();
    in_scope
        && holds("operations", operation(request.operation))
        && holds("apiGroups", &resource.names.group)
        && holds("apiVersions", &resource.names.version)
        && names_resource(rule, &resource.names.plural, request.subresource)
        && (names.peek().is_none() || names.any(|name| name == request.name()))
}

fn names_resource(rule: &Value, plural: &str, subresource: &str) -> bool {
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
        let fits = |wanted: &str, plural: &str, part: &str| {
            names_resource(&json!({"resources": [wanted]}), plural, part)
        };
        assert!(fits("pods", "pods", "") && fits("*", "pods", "") && fits("*/*", "pods", "status"));
        assert!(fits("pods/*", "pods", "status") && fits("*/scale", "deployments", "scale"));
        assert!(
            !fits("pods", "pods", "status") && !fits("*", "pods", "status") && !fits("pods/log", "pods", "")
        );
    }
}
