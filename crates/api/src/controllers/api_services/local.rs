//! The APIServices of what this server serves itself: they come and go with its group versions.

use crate::aggregation::{CUSTOM, KIND, Priorities, name_of};
use crate::contract::{Object, Result, Status};
use crate::registry::client::Client;
use crate::registry::{Target, set_condition};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Says that an APIService is one of the server's own.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// Who says who serves what has no APIService.
const ITSELF: &str = "apiregistration.k8s.io";

/// One that has to be there.
struct Wanted {
    spec: Value,
    /// `onstart` of what is built in, `true` of what comes and goes.
    managed: &'static str,
    /// Whether nobody else may serve it.
    fixed: bool,
}

/// Makes those that are not there, mends those that say something else, and takes those away that nothing stands for.
pub(super) async fn settle(client: &Client) -> Result<()> {
    let target = client.target("apiregistration.k8s.io/v1", "APIService", "", "")?;
    let wanted = wanted(client);
    let mut there: BTreeMap<String, Object> = BTreeMap::new();
    for object in client.registry().every(KIND, None)? {
        there.insert(object.name().to_owned(), object);
    }
    let mut outcome = Ok(());
    for (name, wanted) in &wanted {
        let done = match there.get(name) {
            None => make(client, &target, name, wanted).await,
            Some(object) if is_good(object, wanted) => Ok(()),
            Some(_) => mend(client, &target.named(name), wanted).await,
        };
        outcome = outcome.and(done);
    }
    for (name, object) in &there {
        let is_left = !wanted.contains_key(name) && object.label(MANAGED).is_some() && !has_service(object);
        if is_left && !object.is_terminating() {
            outcome = outcome.and(client.delete_uid(&target.named(name), object.uid()).await);
        }
    }
    match outcome {
        // Somebody else was faster, and is looked at next.
        Err(status) if matches!(status.code, 404 | 409) => Ok(()),
        other => other,
    }
}

/// Those that have to be there, by name.
fn wanted(client: &Client) -> BTreeMap<String, Wanted> {
    let registry = client.registry();
    let mut wanted = BTreeMap::new();
    let mut want = |group: &str, version: &str, priorities: Priorities, managed, fixed| {
        let mut spec = json!({
            "version": version,
            "groupPriorityMinimum": priorities.group,
            "versionPriority": priorities.version,
        });
        if !group.is_empty() {
            spec["group"] = group.into();
        }
        wanted.entry(name_of(group, version)).or_insert(Wanted { spec, managed, fixed });
    };
    // What is built in comes first, and is what counts where definitions have a part in a group.
    for resource in registry.resources().iter().filter(|resource| resource.names.group != ITSELF) {
        let names = &resource.names;
        if resource.is_custom() {
            want(&names.group, &names.version, CUSTOM, "true", false);
        } else {
            let priorities = Priorities::of(&names.group, &names.version, true);
            want(&names.group, &names.version, priorities, "onstart", true);
        }
    }
    for (group, version) in registry.aggregation().handled() {
        want(&group, &version, CUSTOM, "onstart", false);
    }
    wanted
}

fn has_service(object: &Object) -> bool {
    object.at(&["spec", "service"]).is_some_and(|service| !service.is_null())
}

/// Whether it says what it should, or is somebody else's.
fn is_good(object: &Object, wanted: &Wanted) -> bool {
    let is_others = !wanted.fixed && (has_service(object) || object.label(MANAGED).is_none());
    is_others || object.is_terminating() || object.at(&["spec"]) == Some(&wanted.spec)
}

async fn make(client: &Client, target: &Target, name: &str, wanted: &Wanted) -> Result<()> {
    let object = Object::from_value(json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name, "labels": {MANAGED: wanted.managed}},
        "spec": wanted.spec,
    }));
    let object = object.ok_or_else(|| Status::internal("an APIService is an object"))?;
    client.create(target, object).await.map(drop)
}

async fn mend(client: &Client, target: &Target, wanted: &Wanted) -> Result<()> {
    let make = |live: &Object| {
        let mut changed = live.clone();
        changed.0.insert("spec".to_owned(), wanted.spec.clone());
        changed.make(&["metadata", "labels"]).insert(MANAGED.to_owned(), wanted.managed.into());
        let condition = json!({
            "type": "Available",
            "status": "True",
            "reason": "Local",
            "message": "Local APIServices are always available",
        });
        set_condition(&mut changed, condition);
        Ok(changed)
    };
    client.change(target, make).await.map(drop)
}
