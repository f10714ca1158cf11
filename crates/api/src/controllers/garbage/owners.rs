//! What is done about an object: it is deleted, set free, or waits for those that it owns.

use super::graph::{Graph, Known, Owner};
use super::watches::read;
use crate::contract::names::{FOREGROUND, ORPHAN};
use crate::contract::{Object, Result, Status};
use crate::registry::Target;
use crate::registry::client::Client;
use crate::registry::options::{DeleteOptions, Preconditions, Propagation};
use crate::store::Key;
use serde_json::Value;

/// What an owner is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    /// There, and stays.
    Solid,
    /// Gone.
    Absent,
    /// Being deleted, and waits for this object.
    Waiting,
}

/// Deletes an object when none of its owners stays; references to those that do not stay are taken off otherwise.
pub(super) async fn collect(client: &Client, graph: &Graph, object: &Known) -> Result<()> {
    let Some(target) = target(client, object) else { return Ok(()) };
    // What was heard of it may be old: by what it is now it goes or stays.
    let Some((object, version)) = now(client, object)?.filter(|(now, _)| !now.is_deleted) else {
        return Ok(());
    };
    let object = &object;
    let mut solid = false;
    let mut waiting = false;
    let mut leaving = Vec::new();
    for owner in &object.owners {
        match state(client, graph, object, owner)? {
            Is::Solid => solid = true,
            Is::Absent => leaving.push(owner.uid.as_str()),
            Is::Waiting => {
                waiting = true;
                leaving.push(owner.uid.as_str());
            }
        }
    }
    if leaving.is_empty() {
        return Ok(());
    }
    if solid {
        return take_off(client, &target, &object.uid, &leaving).await;
    }
    let owns_some = graph.owned_by(&object.uid).next().is_some();
    let mut version = version;
    // Two that own each other would wait for ever: the first that is seen to waits no more.
    if waiting && graph.owned_by(&object.uid).any(|one| one.is_deleted && one.is_foreground) {
        version = unblock(client, &target, &object.uid).await?;
    }
    let propagation = match (object.orphans, object.is_foreground || (waiting && owns_some)) {
        (true, _) => Propagation::Orphan,
        (false, true) => Propagation::Foreground,
        (false, false) => Propagation::Background,
    };
    delete(client, &target, &object.uid, version, propagation).await
}

/// The object as it is now, and at which version; nothing if it is another by now.
fn now(client: &Client, object: &Known) -> Result<Option<(Known, u64)>> {
    let key = Key {
        resource: object.stored_as.to_string(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
    };
    let stored = client.registry().store().get(&key).map_err(Status::internal)?;
    let read = stored.and_then(|stored| Some((read(&object.stored_as, &stored.json)?, stored.revision)));
    Ok(read.filter(|(now, _)| now.uid == object.uid))
}

/// Deletes what a deleted object owns, and lets it go when nothing blocks it any more.
pub(super) async fn delete_owned(client: &Client, graph: &Graph, object: &Known) -> Result<()> {
    let owned: Vec<Known> = graph.owned_by(&object.uid).cloned().collect();
    let blocks =
        |one: &Known| one.owners.iter().any(|owner| owner.uid == object.uid && owner.block_owner_deletion);
    let blocked = owned.iter().any(blocks);
    for one in owned.iter().filter(|one| !one.is_deleted) {
        match collect(client, graph, one).await {
            Err(status) if status.code == 404 => {}
            other => other?,
        }
    }
    if blocked { Ok(()) } else { let_go(client, object, FOREGROUND).await }
}

/// Sets free what a deleted object owns, and lets it go.
pub(super) async fn orphan(client: &Client, graph: &Graph, object: &Known) -> Result<()> {
    let owned: Vec<Known> = graph.owned_by(&object.uid).cloned().collect();
    for one in &owned {
        let Some(target) = target(client, one) else { continue };
        match take_off(client, &target, &one.uid, &[object.uid.as_str()]).await {
            Err(status) if status.code == 404 => {}
            other => other?,
        }
    }
    let_go(client, object, ORPHAN).await
}

fn target(client: &Client, object: &Known) -> Option<Target> {
    let kept = client.registry().resources().kept();
    let resource = kept.into_iter().find(|resource| *resource.stored_as == *object.stored_as)?;
    Some(Target { resource, namespace: object.namespace.clone(), name: object.name.clone() })
}

/// Looks an owner up.
fn state(client: &Client, graph: &Graph, object: &Known, owner: &Owner) -> Result<Is> {
    let Some(resource) = client.registry().resources().by_kind(&owner.api_version, &owner.kind) else {
        // Of a kind that is not served nothing is known but what was told before: better too much than too little stays.
        return Ok(if graph.is_gone(&owner.uid) { Is::Absent } else { Is::Solid });
    };
    let namespace = match (resource.namespaced, object.namespace.is_empty()) {
        (true, true) => return Ok(Is::Solid),
        (true, false) => object.namespace.as_str(),
        (false, _) => "",
    };
    let found = client.registry().peek(&resource.stored_as, namespace, &owner.name)?;
    Ok(match found.filter(|found| found.uid() == owner.uid) {
        None => Is::Absent,
        Some(found) if found.is_terminating() && found.finalizers().any(|name| name == FOREGROUND) => {
            Is::Waiting
        }
        Some(_) => Is::Solid,
    })
}

async fn delete(
    client: &Client,
    target: &Target,
    uid: &str,
    version: u64,
    propagation: Propagation,
) -> Result<()> {
    let options = DeleteOptions {
        propagation: Some(propagation),
        preconditions: Preconditions { uid: Some(uid.to_owned()), version: Some(version.to_string()) },
        ..DeleteOptions::default()
    };
    client.delete(target, &options).await
}

/// Lets the owners of an object go without it; its version after that.
async fn unblock(client: &Client, target: &Target, uid: &str) -> Result<u64> {
    let make = |live: &Object| {
        let mut changed = of_uid(live, target, uid)?.clone();
        if let Some(Value::Array(list)) = changed.metadata_mut().get_mut("ownerReferences") {
            for owner in list.iter_mut().filter(|owner| owner["blockOwnerDeletion"] == true) {
                owner["blockOwnerDeletion"] = false.into();
            }
        }
        Ok(changed)
    };
    let changed = client.change(target, make).await?;
    changed.resource_version().parse().map_err(Status::internal)
}

/// Takes references to owners off an object.
async fn take_off(client: &Client, target: &Target, uid: &str, owners: &[&str]) -> Result<()> {
    let make = |live: &Object| {
        let mut changed = of_uid(live, target, uid)?.clone();
        let metadata = changed.metadata_mut();
        if let Some(Value::Array(list)) = metadata.get_mut("ownerReferences") {
            list.retain(|owner| !owners.iter().any(|uid| owner["uid"] == *uid));
            if list.is_empty() {
                metadata.remove("ownerReferences");
            }
        }
        Ok(changed)
    };
    client.change(target, make).await.map(drop)
}

/// Takes a finalizer off an object.
async fn let_go(client: &Client, object: &Known, finalizer: &str) -> Result<()> {
    let Some(target) = target(client, object) else { return Ok(()) };
    let make = |live: &Object| {
        let mut changed = of_uid(live, &target, &object.uid)?.clone();
        let metadata = changed.metadata_mut();
        if let Some(Value::Array(list)) = metadata.get_mut("finalizers") {
            list.retain(|name| name != finalizer);
            if list.is_empty() {
                metadata.remove("finalizers");
            }
        }
        Ok(changed)
    };
    client.change(&target, make).await.map(drop)
}

/// The object, unless it is another one of that name by now.
fn of_uid<'a>(live: &'a Object, target: &Target, uid: &str) -> Result<&'a Object> {
    let names = &target.resource.names;
    if live.uid() == uid {
        Ok(live)
    } else {
        Err(Status::not_found(&names.group, &names.plural, &target.name))
    }
}
