//! Cluster roles whose rules are those of others (`aggregationRule`).

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use super::Rbac;
use crate::contract::selector::LabelSelector;
use crate::contract::{Object, Result, Status};
use crate::registry::{Body, Context, Registry, Target, View};
use crate::resource::{Part, Resource};
use crate::store::Scope;

/// How long to wait after a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// How often roles are made of each other: aggregated roles may be made of aggregated roles. More would be circles.
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

/// Fills aggregated roles.
///
/// # Errors
/// What the registry refuses.
pub(crate) async fn settle(registry: &Registry) -> Result<()> {
    let found = registry.resources().find("rbac.authorization.k8s.io", "v1", "clusterroles");
    let resource = found.ok_or_else(|| Status::internal("there is no resource of cluster roles"))?;
    let scope = Scope { resource: resource.stored_as.to_string(), namespace: None };
    let page = registry.store().list(&scope, None, None, None).map_err(Status::internal)?;
    let roles: Vec<Object> = page
        .items
        .iter()
        .filter_map(|stored| serde_json::from_slice(&stored.json).ok().map(Object))
        .collect();
    let mut tasks = JoinSet::new();
    for role in changed(roles)? {
        tasks.spawn(write(registry.clone(), Arc::clone(&resource), role));
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(Status::internal)??;
    }
    Ok(())
}

async fn write(registry: Registry, resource: Arc<Resource>, role: Object) -> Result<()> {
    let context = Context::of_system("clusterrole-aggregation-controller");
    let target = Target { resource, namespace: String::new(), name: role.name().to_owned() };
    match registry.update(&context, &target, Part::Main, Body::Object(role), View::Full).await {
        // Somebody else was quicker: that change is looked at in its turn.
        Err(status) if matches!(status.code, 404 | 409) => Ok(()),
        done => done.map(drop),
    }
}

/// The roles whose rules are not as they should be, with those that they should have.
fn changed(mut roles: Vec<Object>) -> Result<Vec<Object>> {
    let mut changed = vec![false; roles.len()];
    for _ in 0..ROUNDS {
        let mut again = false;
        for at in 0..roles.len() {
            let Some(rules) = aggregated(&roles[at], &roles)? else { continue };
            let own = roles[at].0.get("rules").filter(|rules| !rules.is_null());
            if own != Some(&rules) && !(own.is_none() && rules == Value::Array(Vec::new())) {
                roles[at].0.insert("rules".to_owned(), rules);
                (changed[at], again) = (true, true);
            }
        }
        if !again {
            break;
        }
    }
    let mut changed = changed.into_iter();
    roles.retain(|_| changed.next().unwrap_or(false));
    Ok(roles)
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
        let written = changed(all.to_vec()).unwrap();
        assert_eq!((written.len(), written[0].name()), (1, "x"));
        assert!(changed(written).unwrap().len() == 1, "alone it has nothing to be made of");
    }
}
