//! The roles and bindings that every cluster has, made and mended at each start.
//!
//! What somebody took out of them comes back, what somebody added stays; an object whose annotation
//! `rbac.authorization.kubernetes.io/autoupdate` is `false` is left alone.

mod roles;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use super::Rule;
use super::rule::missing;
use crate::contract::{Object, Result, Status};
use crate::registry::{Body, Context, Registry, Target, View};
use crate::resource::{Part, Resource};

const GROUP: &str = "rbac.authorization.k8s.io";
const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Makes what is missing and mends what is there.
///
/// # Errors
/// What the registry refuses; the others are done all the same.
pub async fn reconcile(registry: &Registry) -> Result<()> {
    let resource = |plural: &str| {
        let found = registry.resources().find(GROUP, "v1", plural);
        found.ok_or_else(|| {
            Status::internal(format!("there is no resource {plural}.{GROUP} to keep roles in"))
        })
    };
    let (roles, bindings) = (resource("clusterroles")?, resource("clusterrolebindings")?);
    // At the same time: the store writes what comes together in one transaction.
    let mut tasks = JoinSet::new();
    for role in roles::ROLES {
        let wanted = role_object(role);
        tasks.spawn(one(registry.clone(), Arc::clone(&roles), wanted, mend_role));
    }
    for binding in roles::BINDINGS {
        let wanted = binding_object(binding);
        tasks.spawn(one(registry.clone(), Arc::clone(&bindings), wanted, mend_binding));
    }
    let mut first = Ok(());
    while let Some(done) = tasks.join_next().await {
        let outcome = done.map_err(Status::internal).and_then(|outcome| outcome);
        if first.is_ok() {
            first = outcome;
        }
    }
    first
}

/// Whether `found` was changed to be as `wanted`.
type Mend = fn(found: &mut Object, wanted: &Object) -> bool;

async fn one(registry: Registry, resource: Arc<Resource>, wanted: Object, mend: Mend) -> Result<()> {
    let context = Context::of_system("auto-reconcile");
    let target = Target { resource, namespace: String::new(), name: wanted.name().to_owned() };
    let stored_as = target.resource.stored_as.to_string();
    match registry.peek(&stored_as, "", wanted.name())? {
        None => {
            let collection = target.named("");
            let made = registry.create(&context, &collection, Body::Object(wanted), View::Full).await;
            match made {
                Err(status) if status.code == 409 => Ok(()),
                made => made.map(drop),
            }
        }
        Some(mut found) => {
            let is_left_alone = found
                .strings("annotations")
                .and_then(|all| all.get(AUTO_UPDATE))
                .is_some_and(|v| v == "false");
            if is_left_alone || !mend(&mut found, &wanted) {
                return Ok(());
            }
            registry.update(&context, &target, Part::Main, Body::Object(found), View::Full).await.map(drop)
        }
    }
}

fn mend_role(found: &mut Object, wanted: &Object) -> bool {
    if wanted.0.contains_key("aggregationRule") {
        let is_same = found.0.get("aggregationRule") == wanted.0.get("aggregationRule");
        if !is_same && let Some(rule) = wanted.0.get("aggregationRule") {
            found.0.insert("aggregationRule".to_owned(), rule.clone());
        }
        return !is_same;
    }
    let rules = |object: &Object| -> Vec<Rule> {
        object.0.get("rules").and_then(Value::as_array).into_iter().flatten().map(Rule::read).collect()
    };
    let (own, wanted) = (rules(found), rules(wanted));
    let lacking: Vec<Value> = wanted
        .iter()
        .filter(|rule| !missing(&own, std::slice::from_ref(rule)).is_empty())
        .map(Rule::to_value)
        .collect();
    add(found, "rules", lacking)
}

fn mend_binding(found: &mut Object, wanted: &Object) -> bool {
    let list = |object: &Object| -> Vec<Value> {
        object.0.get("subjects").and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let own = list(found);
    let lacking = list(wanted).into_iter().filter(|subject| !own.contains(subject)).collect();
    add(found, "subjects", lacking)
}

/// Appends to a list; whether there was something to append.
fn add(object: &mut Object, field: &str, items: Vec<Value>) -> bool {
    if items.is_empty() {
        return false;
    }
    let list = object.0.entry(field.to_owned()).or_insert_with(|| Value::Array(Vec::new()));
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    if let Value::Array(list) = list {
        list.extend(items);
    }
    true
}

fn metadata(name: &str, aggregates_to: Option<&str>) -> Value {
    let mut labels = Map::new();
    labels.insert("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".into());
    if let Some(role) = aggregates_to {
        labels.insert(format!("{GROUP}/aggregate-to-{role}"), "true".into());
    }
    json!({"name": name, "labels": labels, "annotations": {AUTO_UPDATE: "true"}})
}

fn role_object(role: &roles::Role) -> Object {
    let mut map = Map::new();
    map.insert("apiVersion".to_owned(), format!("{GROUP}/v1").into());
    map.insert("kind".to_owned(), "ClusterRole".into());
    map.insert("metadata".to_owned(), metadata(role.name, role.aggregates_to));
    if role.is_aggregated {
        let label = format!("{GROUP}/aggregate-to-{}", role.name);
        let rule = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        map.insert("aggregationRule".to_owned(), rule);
    }
    let rules: Vec<Value> = role.rules.iter().map(rule_value).collect();
    map.insert("rules".to_owned(), rules.into());
    Object(map)
}

fn rule_value(rule: &roles::Allowed) -> Value {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rule = match rule {
        roles::Allowed::Of { verbs, groups, resources, names } => Rule {
            verbs: list(verbs),
            groups: list(groups),
            resources: list(resources),
            names: list(names),
            urls: Vec::new(),
        },
        roles::Allowed::Urls { verbs, urls } => {
            Rule { verbs: list(verbs), urls: list(urls), ..Rule::default() }
        }
    };
    rule.to_value()
}

fn binding_object(binding: &roles::Binding) -> Object {
    let subjects: Vec<Value> = binding
        .groups
        .iter()
        .map(|name| json!({"apiGroup": GROUP, "kind": "Group", "name": name}))
        .chain(binding.users.iter().map(|name| json!({"apiGroup": GROUP, "kind": "User", "name": name})))
        .collect();
    let object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata(binding.role, None),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": binding.role},
        "subjects": subjects,
    });
    Object::from_value(object).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_away_comes_back_and_what_was_added_stays() {
        let discovery = roles::ROLES.iter().find(|role| role.name == "system:basic-user").unwrap();
        let wanted = role_object(discovery);
        let mut found = wanted.clone();
        assert!(!mend_role(&mut found, &wanted));
        let added = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        found.0.insert("rules".to_owned(), json!([added]));
        assert!(mend_role(&mut found, &wanted));
        let rules = found.0["rules"].as_array().unwrap();
        assert_eq!(rules[0], added);
        assert_eq!(rules.len(), wanted.0["rules"].as_array().unwrap().len() + 1);
        assert!(!mend_role(&mut found, &wanted));
    }

    #[test]
    fn every_binding_refers_to_a_role_that_is_made() {
        for binding in roles::BINDINGS {
            assert!(roles::ROLES.iter().any(|role| role.name == binding.role), "{}", binding.role);
        }
    }
}
