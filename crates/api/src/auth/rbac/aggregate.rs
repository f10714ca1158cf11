//! Cluster roles whose rules are those of others (`aggregationRule`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Rbac;
use crate::contract::selector::LabelSelector;
use crate::contract::{Object, Result, Status};
use crate::registry::{Body, Context, Registry, Target, View};
use crate::resource::{Part, Resource};
use crate::store::Scope;

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// How often roles are made again from each other before the rest waits for the next change: aggregated roles may be made
/// of aggregated roles.
const ROUNDS: usize = 8;

/// Fills aggregated roles whenever a cluster role has changed. Runs until it is dropped.
pub(crate) async fn run(registry: Registry, rbac: Arc<Rbac>) {
    loop {
        if let Err(status) = settle(&registry).await {
            eprintln!("sextant api: warning: cannot aggregate cluster roles: {status}");
            tokio::time::sleep(AGAIN).await;
            continue;
        }
        rbac.changed().await;
    }
}

/// Fills aggregated roles until nothing changes.
///
/// # Errors
/// What the registry refuses.
pub(crate) async fn settle(registry: &Registry) -> Result<()> {
    let found = registry.resources().find("rbac.authorization.k8s.io", "v1", "clusterroles");
    let resource = found.ok_or_else(|| Status::internal("there is no resource of cluster roles"))?;
    for _ in 0..ROUNDS {
        if !round(registry, &resource).await? {
            break;
        }
    }
    Ok(())
}

/// One pass; whether something changed.
async fn round(registry: &Registry, resource: &Arc<Resource>) -> Result<bool> {
    let scope = Scope { resource: resource.stored_as.to_string(), namespace: None };
    let page = registry.store().list(&scope, None, None, None).map_err(Status::internal)?;
    let roles: Vec<Object> = page
        .items
        .iter()
        .filter_map(|stored| serde_json::from_slice(&stored.json).ok().map(Object))
        .collect();
    let mut changed = false;
    for role in &roles {
        let Some(rules) = aggregated(role, &roles)? else { continue };
        if role.0.get("rules").unwrap_or(&Value::Null) == &rules {
            continue;
        }
        let mut wanted = role.clone();
        wanted.0.insert("rules".to_owned(), rules);
        let context = Context::of_system("clusterrole-aggregation-controller");
        let target =
            Target { resource: Arc::clone(resource), namespace: String::new(), name: role.name().to_owned() };
        let done = registry.update(&context, &target, Part::Main, Body::Object(wanted), View::Full).await;
        match done {
            // Somebody else was quicker: the next round sees it.
            Err(status) if status.code == 409 || status.code == 404 => {}
            done => drop(done?),
        }
        changed = true;
    }
    Ok(changed)
}

/// The rules that a role should have; `None` of one that is not made of others.
fn aggregated(role: &Object, all: &[Object]) -> Result<Option<Value>> {
    let selectors = role.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
    let Some(selectors) = selectors else { return Ok(None) };
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let selector = LabelSelector::from_object(selector)?;
        // Sorted by name, for the store's order is that of names.
        for other in all.iter().filter(|other| other.name() != role.name()) {
            if !selector.matches(other.strings("labels")) {
                continue;
            }
            for rule in other.0.get("rules").and_then(Value::as_array).into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Ok(Some(rules.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_role_has_the_rules_of_those_that_its_labels_choose() {
        let role = |value: Value| Object::from_value(value).unwrap();
        let rule = |resource: &str| json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]});
        let all = [
            role(
                json!({"metadata": {"name": "a", "labels": {"to": "x"}}, "rules": [rule("pods"), rule("nodes")]}),
            ),
            role(json!({"metadata": {"name": "b", "labels": {"to": "x"}}, "rules": [rule("pods")]})),
            role(json!({"metadata": {"name": "c"}, "rules": [rule("secrets")]})),
            role(json!({
                "metadata": {"name": "x", "labels": {"to": "x"}},
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "x"}}]},
                "rules": [rule("own")],
            })),
        ];
        assert_eq!(aggregated(&all[3], &all).unwrap(), Some(json!([rule("pods"), rule("nodes")])));
        assert_eq!(aggregated(&all[0], &all).unwrap(), None);
    }
}
