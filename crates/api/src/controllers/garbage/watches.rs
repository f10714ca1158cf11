//! Lists and watches of all kinds, of which only the metadata is looked at.

use super::graph::{Known, Owner};
use crate::contract::names;
use crate::registry::Cursor;
use crate::registry::client::Client;
use crate::resource::Resource;
use crate::store::{Error, Event, Kind, Scope, Store, Watch};
use serde::Deserialize;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;

/// What happened to an object.
#[derive(Debug)]
pub(super) enum Seen {
    /// It is there, maybe in another state, since a revision.
    There(Known, u64),
    /// It is gone; its uid.
    Gone(String),
    /// All that happened to a kind up to a revision has been told.
    Upto(Arc<str>, u64),
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

/// Whether objects of a resource own and are owned: all but events.
pub(super) fn is_watched(resource: &Resource) -> bool {
    resource.stored_as != "events"
}

/// Begins to watch all kinds, also those that come later. Each says up to where it has told everything whenever there is
/// another `wish`.
pub(super) fn start(client: &Client, sender: Sender<Seen>, wish: Receiver<u64>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_kinds(client.clone(), sender, wish));
    tasks
}

async fn follow_kinds(client: Client, sender: Sender<Seen>, wish: Receiver<u64>) {
    // A watch ends when its sender is dropped.
    let mut watches: HashMap<String, oneshot::Sender<()>> = HashMap::new();
    let mut tasks = JoinSet::new();
    let mut set = client.registry().set_changes();
    loop {
        let kinds: HashSet<String> = client
            .registry()
            .resources()
            .kept()
            .iter()
            .filter(|resource| is_watched(resource))
            .map(|resource| resource.stored_as.to_string())
            .collect();
        watches.retain(|kind, _| kinds.contains(kind));
        for kind in kinds {
            let Entry::Vacant(vacant) = watches.entry(kind) else { continue };
            let store = client.registry().store().clone();
            let kind = vacant.key().as_str().into();
            let (stays, left) = oneshot::channel();
            tasks.spawn(follow(store, kind, sender.clone(), wish.clone(), left));
            vacant.insert(stays);
        }
        tokio::select! {
            changed = set.changed() => if changed.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

/// Watches one kind until it is served no more. Those of its objects that went with it are told to be gone.
async fn follow(
    store: Store,
    kind: Arc<str>,
    sender: Sender<Seen>,
    mut wish: Receiver<u64>,
    left: oneshot::Receiver<()>,
) {
    let mut known: HashSet<String> = HashSet::new();
    tokio::select! {
        () = watch_on(&store, &kind, &sender, &mut wish, &mut known) => return,
        _ = left => {}
    }
    let scope = Scope { resource: kind.to_string(), namespace: None };
    let mut cursor = Cursor::new(&store, &scope, None, None);
    while !cursor.has_ended() {
        let Ok(page) = cursor.next() else { return };
        for object in page.iter().filter_map(|stored| read(&kind, &stored.json)) {
            known.remove(&object.uid);
        }
    }
    for uid in known {
        if sender.send(Seen::Gone(uid)).await.is_err() {
            return;
        }
    }
}

/// Watches one kind; ends when nobody listens any more.
async fn watch_on(
    store: &Store,
    kind: &Arc<str>,
    sender: &Sender<Seen>,
    wish: &mut Receiver<u64>,
    known: &mut HashSet<String>,
) {
    while !sender.is_closed() {
        match watch(store, kind, sender, wish, known).await {
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
    wish: &mut Receiver<u64>,
    known: &mut HashSet<String>,
) -> Result<(), Error> {
    let scope = Scope { resource: kind.to_string(), namespace: None };
    let mut there = HashSet::new();
    // A kind may have many, and who learns of them takes its time.
    let mut cursor = Cursor::new(store, &scope, None, None);
    while !cursor.has_ended() {
        for stored in &cursor.next()? {
            let Some(object) = read(kind, &stored.json) else { continue };
            known.insert(object.uid.clone());
            there.insert(object.uid.clone());
            if sender.send(Seen::There(object, stored.revision)).await.is_err() {
                return Ok(());
            }
        }
    }
    for uid in std::mem::replace(known, there).difference(known) {
        if sender.send(Seen::Gone(uid.clone())).await.is_err() {
            return Ok(());
        }
    }
    let revision = cursor.revision().unwrap_or(0);
    if sender.send(Seen::Upto(Arc::clone(kind), revision)).await.is_err() {
        return Ok(());
    }
    let mut told = revision;
    let mut changes = store.watch(scope, revision)?;
    loop {
        tokio::select! {
            event = changes.next() => {
                let event = event?;
                let Some(seen) = seen(kind, &event, known) else { continue };
                if sender.send(seen).await.is_err() {
                    return Ok(());
                }
            }
            changed = wish.changed() => if changed.is_err() { return Ok(()) },
        }
        let wished = *wish.borrow_and_update();
        if told < wished {
            told = up_to(kind, &mut changes, sender, known).await?;
        }
    }
}

/// Tells what there is to be told by now, and up to where that is.
async fn up_to(
    kind: &Arc<str>,
    changes: &mut Watch,
    sender: &Sender<Seen>,
    known: &mut HashSet<String>,
) -> Result<u64, Error> {
    while let Some(event) = changes.ready()? {
        if let Some(seen) = seen(kind, &event, known) {
            // Nobody listens any more: that is found out by who calls.
            let _ = sender.send(seen).await;
        }
    }
    let revision = changes.revision();
    let _ = sender.send(Seen::Upto(Arc::clone(kind), revision)).await;
    Ok(revision)
}

/// What an event means.
fn seen(kind: &Arc<str>, event: &Event, known: &mut HashSet<String>) -> Option<Seen> {
    let object = read(kind, &event.json)?;
    Some(if event.kind == Kind::Delete {
        known.remove(&object.uid);
        Seen::Gone(object.uid)
    } else {
        known.insert(object.uid.clone());
        Seen::There(object, event.revision)
    })
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
