//! A namespace that is deleted is emptied, and goes when nothing is left in it.

mod others;

use crate::contract::{Object, Result, Status};
use crate::registry::client::{Change, Client};
use crate::registry::{Target, set_condition};
use crate::resource::Resource;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Held by `spec.finalizers` of each namespace until it is empty.
const FINALIZER: &str = "kubernetes";
/// How long to wait before looking again at what is left.
const AGAIN: Duration = Duration::from_millis(500);
/// So often it is looked at in vain before it is looked at more seldom: at every tenth of these times.
const SOON: u32 = 20;

/// Empties namespaces as they are deleted.
pub(super) async fn run(client: Client) {
    let Ok(target) = client.target("v1", "Namespace", "", "") else { return };
    let mut namespaces = client.follow(target.clone());
    // How often each has been looked at.
    let mut ending: BTreeMap<String, u32> = BTreeMap::new();
    let mut again = tokio::time::interval(AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let change = tokio::select! {
            change = namespaces.next() => Some(change),
            // However much happens meanwhile.
            _ = again.tick(), if !ending.is_empty() => None,
        };
        match change {
            Some(Change::Applied(namespace)) if namespace.is_terminating() => {
                // What it waits for is looked at again in a moment; a change that is our own says nothing new.
                ending.entry(namespace.name().to_owned()).or_default();
                continue;
            }
            Some(Change::Gone(namespace)) => {
                ending.remove(namespace.name());
                continue;
            }
            Some(_) => continue,
            None => {}
        }
        for name in ending.keys().cloned().collect::<Vec<_>>() {
            let Some(looks) = ending.get_mut(&name) else { continue };
            *looks = looks.saturating_add(1);
            if *looks > SOON && *looks % 10 != 0 {
                continue;
            }
            let is_first = *looks == 1;
            match empty(&client, &target.named(&name)).await {
                Ok(true) => {
                    ending.remove(&name);
                }
                Ok(false) => {}
                Err(status) if is_first => eprintln!("sextant: cannot empty namespace {name}: {status}"),
                Err(_) => {}
            }
        }
    }
}

/// Deletes what is in a namespace; true when it is gone, or waits for others only.
async fn empty(client: &Client, target: &Target) -> Result<bool> {
    let Some(namespace) = client.registry().peek("namespaces", "", &target.name)? else { return Ok(true) };
    if !namespace.is_terminating() {
        return Ok(true);
    }
    let held = namespace.at(&["spec", "finalizers"]).and_then(Value::as_array);
    if !held.is_some_and(|list| list.iter().any(|name| name == FINALIZER)) {
        return Ok(true);
    }
    let mut left: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    let mut refused: BTreeSet<String> = BTreeSet::new();
    for resource in client.registry().resources().kept() {
        if resource.namespaced && resource.verbs.delete {
            let remaining = delete_all(client, &resource, &target.name, &mut refused).await?;
            if !remaining.is_empty() {
                left.insert(shown(&resource), remaining);
            }
        }
    }
    let of_others = others::empty(client.registry(), &target.name).await;
    left.extend(of_others.left);
    refused.extend(of_others.refused);
    let unknown = of_others.unknown;
    let is_empty = left.is_empty() && unknown.is_empty() && refused.is_empty();
    client
        .change(target, |live| {
            let mut changed = live.clone();
            conditions(&left, &refused, &unknown)
                .into_iter()
                .for_each(|condition| set_condition(&mut changed, condition));
            if is_empty {
                drop_finalizer(&mut changed);
            }
            Ok(changed)
        })
        .await?;
    Ok(is_empty)
}

/// Deletes the objects of a kind; returns those that stay for now. One that cannot be deleted keeps no other.
async fn delete_all(
    client: &Client,
    resource: &Arc<Resource>,
    namespace: &str,
    refused: &mut BTreeSet<String>,
) -> Result<Vec<Object>> {
    let stored_as = &resource.stored_as;
    let objects = client.registry().every(stored_as, Some(namespace))?;
    if objects.is_empty() {
        return Ok(objects);
    }
    for object in objects {
        if object.is_terminating() {
            continue;
        }
        let target = Target {
            resource: Arc::clone(resource),
            namespace: namespace.to_owned(),
            name: object.name().to_owned(),
        };
        match client.delete_uid(&target, object.uid()).await {
            // Somebody else was faster.
            Err(Status { code: 404 | 409, .. }) | Ok(()) => {}
            Err(status) => drop(refused.insert(status.message)),
        }
    }
    client.registry().every(stored_as, Some(namespace))
}

/// `deployments.apps`, `pods.`: as Kubernetes shows kinds here.
fn shown(resource: &Resource) -> String {
    format!("{}.{}", resource.names.plural, resource.names.group)
}

fn drop_finalizer(namespace: &mut Object) {
    if let Some(Value::Array(list)) = namespace.make(&["spec"]).get_mut("finalizers") {
        list.retain(|name| name != FINALIZER);
    }
}

/// What a namespace says of its end.
fn conditions(
    left: &BTreeMap<String, Vec<Object>>,
    refused: &BTreeSet<String>,
    unknown: &BTreeSet<String>,
) -> Vec<Value> {
    const DISCOVERY: &str = "NamespaceDeletionDiscoveryFailure";
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for object in left.values().flatten() {
        for finalizer in object.finalizers() {
            *finalizers.entry(finalizer).or_default() += 1;
        }
    }
    let condition = |kind: &str, bad: bool, reason: &str, message: String| {
        let status = if bad { "True" } else { "False" };
        json!({"type": kind, "status": status, "reason": reason, "message": message})
    };
    let good = |kind: &str, reason: &str, message: &str| condition(kind, false, reason, message.to_owned());
    let mut list = vec![
        match unknown.iter().map(|one| format!("{one}: stale GroupVersion discovery: {one}")) {
            told if told.len() == 0 => {
                good(DISCOVERY, "ResourcesDiscovered", "All resources successfully discovered")
            }
            told => {
                let message = format!(
                    "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
                    told.len(),
                    told.collect::<Vec<_>>().join(", ")
                );
                condition(DISCOVERY, true, "DiscoveryFailed", message)
            }
        },
        good(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
    ];
    const FAILURE: &str = "NamespaceDeletionContentFailure";
    list.push(match refused.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => good(
            FAILURE,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        causes => {
            let told =
                if causes.len() == 1 { causes[0].to_owned() } else { format!("[{}]", causes.join(", ")) };
            let message = format!("Failed to delete all resource types, {} remaining: {told}", causes.len());
            condition(FAILURE, true, "ContentDeletionFailed", message)
        }
    });
    list.push(if left.is_empty() {
        good("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed")
    } else {
        let told: Vec<String> =
            left.iter().map(|(kind, list)| format!("{kind} has {} resource instances", list.len())).collect();
        let message = format!("Some resources are remaining: {}", told.join(", "));
        condition("NamespaceContentRemaining", true, "SomeResourcesRemain", message)
    });
    list.push(if finalizers.is_empty() {
        let message = "All content-preserving finalizers finished";
        good("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", message)
    } else {
        let told: Vec<String> =
            finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances")).collect();
        let message = format!("Some content in the namespace has finalizers remaining: {}", told.join(", "));
        condition("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", message)
    });
    list
}
