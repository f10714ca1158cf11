//! Lists and watches of all kinds, of which only the metadata is looked at.

use super::graph::{Known, Owner};
use crate::contract::names;
use crate::registry::client::Client;
use crate::store::{Error, Kind, Scope, Store};
use serde::Deserialize;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinSet};

/// What happened to an object.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is there, maybe in another state.
    There(Known),
    /// It is gone; its uid.
    Gone(String),
}

#[derive(Deserialize)]
struct Document {
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    uid: String,
    owner_references: Vec<Owner>,
    finalizers: Vec<String>,
    deletion_timestamp: Option<String>,
}

/// Begins to watch all kinds, also those that come later.
pub(super) fn start(client: &Client, sender: Sender<Seen>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_kinds(client.clone(), sender));
    tasks
}

async fn follow_kinds(client: Client, sender: Sender<Seen>) {
    let mut watches: HashMap<String, AbortHandle> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut set = client.registry().set_changes();
    loop {
        let kinds: HashSet<String> = client
            .registry()
            .resources()
            .kept()
            .iter()
            .filter(|resource| resource.stored_as != "events")
            .map(|resource| resource.stored_as.to_string())
            .collect();
        watches.retain(|kind, task| {
            let stays = kinds.contains(kind);
            if !stays {
                task.abort();
            }
            stays
        });
        for kind in kinds {
            let Entry::Vacant(vacant) = watches.entry(kind) else { continue };
            let store = client.registry().store().clone();
            let task = tasks.spawn(follow(store, vacant.key().as_str().into(), sender.clone()));
            vacant.insert(task);
        }
        tokio::select! {
            changed = set.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

/// Watches one kind; ends when nobody listens any more.
async fn follow(store: Store, kind: Arc<str>, sender: Sender<Seen>) {
    let mut known: HashSet<String> = HashSet::new();
    while !sender.is_closed() {
        match watch(&store, &kind, &sender, &mut known).await {
            Ok(()) => return,
            // The history is gone: what happened meanwhile is seen by the next list.
            Err(Error::Compacted { .. }) => {}
            Err(error) => {
                eprintln!("sextant: cannot watch {kind}: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Tells a list and what changes after it. `known` are the uids that have been told, to tell after a gap who is gone.
async fn watch(
    store: &Store,
    kind: &Arc<str>,
    sender: &Sender<Seen>,
    known: &mut HashSet<String>,
) -> Result<(), Error> {
    let scope = Scope { resource: kind.to_string(), namespace: None };
    let page = store.list(&scope, None, None, None)?;
    let mut missing = std::mem::take(known);
    for stored in &page.items {
        let Some(object) = read(kind, &stored.json) else { continue };
        missing.remove(&object.uid);
        known.insert(object.uid.clone());
        if sender.send(Seen::There(object)).await.is_err() {
            return Ok(());
        }
    }
    for uid in missing {
        if sender.send(Seen::Gone(uid)).await.is_err() {
            return Ok(());
        }
    }
    let revision = page.revision;
    drop(page);
    let mut changes = store.watch(scope, revision)?;
    loop {
        let event = changes.next().await?;
        let Some(object) = read(kind, &event.json) else { continue };
        let seen = if event.kind == Kind::Delete {
            known.remove(&object.uid);
            Seen::Gone(object.uid)
        } else {
            known.insert(object.uid.clone());
            Seen::There(object)
        };
        if sender.send(seen).await.is_err() {
            return Ok(());
        }
    }
}

/// What an object says of itself.
pub(super) fn read(kind: &Arc<str>, json: &[u8]) -> Option<Known> {
    let metadata = serde_json::from_slice::<Document>(json).ok()?.metadata;
    Some(Known {
        stored_as: Arc::clone(kind),
        is_foreground: metadata.finalizers.iter().any(|name| name == names::FOREGROUND),
        orphans: metadata.finalizers.iter().any(|name| name == names::ORPHAN),
        is_deleted: metadata.deletion_timestamp.is_some(),
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        owners: metadata.owner_references,
    })
}
