//! Custom resource definitions: their names are accepted, their resources come and go, and their objects go with them.

use crate::contract::{Object, Result, Status};
use crate::crd::{Definition, FINALIZER, status};
use crate::registry::client::{Change, Client};
use crate::registry::options::DeleteOptions;
use crate::registry::{Registry, Target, now_text};
use serde_json::Value;
use std::time::Duration;

const KIND: &str = "customresourcedefinitions.apiextensions.k8s.io";
/// When what is left of a deleted definition is looked at again.
const AGAIN: Duration = Duration::from_millis(500);

/// Serves what the definitions that there are say, before anybody is answered.
pub(super) async fn serve_all(client: &Client) -> Result<()> {
    for definition in client.registry().every(KIND, None)? {
        if let Err(status) = attend(client, definition.name()).await {
            eprintln!("sextant: cannot serve {}: {status}", definition.name());
        }
    }
    Ok(())
}

/// Follows the definitions.
pub(super) async fn run(client: Client) {
    let Ok(target) = client.target("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", "") else {
        return;
    };
    let mut definitions = client.follow(target);
    let mut ending = Vec::new();
    loop {
        let name = tokio::select! {
            change = definitions.next() => match change {
                Change::Applied(definition) => Some(definition.name().to_owned()),
                Change::Gone(definition) => {
                    client.registry().set_custom(definition.name(), Vec::new());
                    // Names that it had are free for others.
                    None
                }
                Change::Settled => continue,
            },
            () = tokio::time::sleep(AGAIN), if !ending.is_empty() => None,
        };
        let names = match name {
            Some(name) => vec![name],
            None => match client.registry().every(KIND, None) {
                Ok(all) => all.iter().map(|definition| definition.name().to_owned()).collect(),
                Err(_) => std::mem::take(&mut ending),
            },
        };
        ending.clear();
        for name in names {
            match attend(&client, &name).await {
                Ok(true) => ending.push(name),
                Ok(false) => {}
                Err(status) => {
                    eprintln!("sextant: cannot serve {name}: {status}");
                    ending.push(name);
                }
            }
        }
    }
}

/// Brings one definition on; true when it has to be looked at again.
async fn attend(client: &Client, name: &str) -> Result<bool> {
    let Some(definition) = client.registry().peek(KIND, "", name)? else { return Ok(false) };
    let target = client.target("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", name)?;
    if definition.is_terminating() && definition.finalizers().any(|held| held == FINALIZER) {
        return end(client, &target, &definition).await;
    }
    let others: Vec<Object> =
        client.registry().every(KIND, None)?.into_iter().filter(|other| other.name() != name).collect();
    let settled = client
        .change(&target, |live| {
            let mut changed = live.clone();
            status::settle(&mut changed, &others, &now_text());
            Ok(changed)
        })
        .await?;
    // What is built in stays, whatever a definition of the same name says: the one is as good as established.
    if status::is_established(&settled) && !is_built_in(client.registry(), name) {
        let resources = Definition::from_object(&settled)?.resources();
        client.registry().set_custom(name, resources);
    }
    Ok(false)
}

/// Deletes the objects of a definition, and lets it go when none is left.
async fn end(client: &Client, target: &Target, definition: &Object) -> Result<bool> {
    let left = delete_objects(client, definition).await?;
    client
        .change(target, |live| {
            let mut changed = live.clone();
            status::terminating(&mut changed, left, &now_text());
            if left == 0
                && let Some(Value::Array(list)) = changed.metadata_mut().get_mut("finalizers")
            {
                list.retain(|name| name != FINALIZER);
            }
            Ok(changed)
        })
        .await?;
    Ok(left > 0)
}

async fn delete_objects(client: &Client, definition: &Object) -> Result<usize> {
    let kind = definition.name();
    if is_built_in(client.registry(), kind) {
        return Ok(0);
    }
    let resource = client.registry().resources().kept().into_iter().find(|kept| kept.stored_as == kind);
    let Some(resource) = resource else { return Ok(0) };
    for object in client.registry().every(kind, None)? {
        if object.is_terminating() {
            continue;
        }
        let target = Target {
            resource: resource.clone(),
            namespace: object.namespace().to_owned(),
            name: object.name().to_owned(),
        };
        match client.delete(&target, &DeleteOptions::default()).await {
            Err(status) if status.code == 404 => {}
            other => other?,
        }
    }
    Ok(client.registry().every(kind, None)?.len())
}

/// Whether a kind of that name (`plural.group`) is there without a definition.
fn is_built_in(registry: &Registry, name: &str) -> bool {
    registry.resources().iter().any(|resource| {
        let names = &resource.names;
        !resource.is_custom()
            && name
                .strip_prefix(&*names.plural)
                .is_some_and(|rest| rest.strip_prefix('.') == Some(&*names.group))
    })
}

/// 405 of a create while the definition is being deleted.
pub(crate) fn creatable(registry: &Registry, stored_as: &str) -> Result<()> {
    match registry.peek(KIND, "", stored_as)? {
        Some(definition) if definition.is_terminating() => Err(Status::new(
            405,
            crate::contract::Reason::MethodNotAllowed,
            "create not allowed while custom resource definition is terminating",
        )),
        _ => Ok(()),
    }
}
