//! Objects whose owners are gone are deleted (`metadata.ownerReferences`).
//!
//! What owns and is owned is learned from lists and watches of all kinds; that an owner is not there is believed only after
//! a look at the store, so nothing is lost by a restart, and nothing is deleted for what a watch has not told yet. An owner
//! that sets free what it owns, or waits for it, is let go only when every kind has told what there was when its deletion
//! was asked for: what a watch has yet to tell may be owned by it.

mod graph;
mod owners;
mod watches;

use crate::contract::Result;
use crate::registry::client::Client;
use graph::{Graph, Known};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use watches::Seen;

/// How many changes may wait to be looked at.
const WAITING: usize = 256;
/// When what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Collects garbage, for ever.
pub(super) async fn run(client: Client) {
    let (sender, mut changes) = mpsc::channel(WAITING);
    let wish = watch::Sender::new(0);
    let _watches = watches::start(&client, sender, wish.subscribe());
    let mut collector = Collector {
        client,
        wish,
        graph: Graph::default(),
        told: HashMap::new(),
        waiting: HashMap::new(),
        failed: HashMap::new(),
    };
    let mut again = tokio::time::interval(AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let seen = tokio::select! {
            seen = changes.recv() => seen,
            // However much happens meanwhile.
            _ = again.tick(), if collector.has_to_come_back() => {
                collector.come_back().await;
                continue;
            }
        };
        match seen {
            Some(seen) => collector.learn(seen).await,
            None => return,
        }
    }
}

/// What is known, and what is to be done.
struct Collector {
    client: Client,
    graph: Graph,
    /// Up to which revision each kind has told everything.
    told: HashMap<Arc<str>, u64>,
    /// Deleted owners, by uid, that have to wait until every kind has told what there was at a revision.
    waiting: HashMap<String, (u64, Known)>,
    /// What could not be done, by uid, and why.
    failed: HashMap<String, (Known, String)>,
    /// The revision up to which every kind is asked to tell.
    wish: watch::Sender<u64>,
}

impl Collector {
    async fn learn(&mut self, seen: Seen) {
        match seen {
            Seen::There(object, revision) => {
                let (is_news, freed) = self.graph.add(&object);
                if is_news && object.waits() {
                    self.waiting.insert(object.uid.clone(), (revision, object));
                    self.ask();
                    self.settle().await;
                } else if is_news {
                    self.look(&object).await;
                }
                self.look_at_owners(freed).await;
            }
            Seen::Gone(uid) => {
                self.waiting.remove(&uid);
                self.failed.remove(&uid);
                let (owned, owners) = self.graph.remove(&uid);
                for object in &owned {
                    self.look(object).await;
                }
                self.look_at_owners(owners).await;
            }
            Seen::Upto(kind, revision) => {
                self.told.insert(kind, revision);
                self.settle().await;
            }
        }
    }

    /// Asks every kind to tell what there is up to the last deletion that waits.
    fn ask(&self) {
        if let Some(revision) = self.waiting.values().map(|(revision, _)| *revision).max() {
            self.wish.send_replace(revision);
        }
    }

    /// Looks at those that need not wait any more.
    async fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let kept = self.client.registry().resources().kept();
        let kinds = kept.iter().filter(|resource| watches::is_watched(resource));
        let told = kinds.map(|resource| self.told.get(&*resource.stored_as).copied().unwrap_or(0));
        let told = told.min().unwrap_or(u64::MAX);
        let due = |(uid, (revision, _)): (&String, &(u64, Known))| (*revision <= told).then(|| uid.clone());
        for uid in self.waiting.iter().filter_map(due).collect::<Vec<_>>() {
            if let Some((_, object)) = self.waiting.remove(&uid) {
                self.look(&object).await;
            }
        }
    }

    /// Looks at owners that wait for what they own, unless they have to wait for what is told.
    async fn look_at_owners(&mut self, owners: Vec<Known>) {
        for owner in owners {
            if !self.waiting.contains_key(&owner.uid) {
                self.look(&owner).await;
            }
        }
    }

    /// Does what is to be done about an object; what fails is tried again.
    async fn look(&mut self, object: &Known) {
        let before = self.failed.remove(&object.uid);
        if let Err(status) = attend(&self.client, &self.graph, object).await
            && status.code != 404
        {
            let text = status.to_string();
            // Somebody else was faster, or it has been told.
            if status.code != 409 && before.is_none_or(|(_, before)| before != text) {
                eprintln!("sextant: cannot collect {} {}: {text}", object.stored_as, object.name);
            }
            self.failed.insert(object.uid.clone(), (object.clone(), text));
        }
    }

    fn has_to_come_back(&self) -> bool {
        !self.failed.is_empty() || !self.waiting.is_empty()
    }

    async fn come_back(&mut self) {
        self.ask();
        let failed: Vec<Known> = self.failed.values().map(|(object, _)| object.clone()).collect();
        for object in failed {
            self.look(&object).await;
        }
    }
}

async fn attend(client: &Client, graph: &Graph, object: &Known) -> Result<()> {
    if object.is_deleted {
        if object.orphans {
            return owners::orphan(client, graph, object).await;
        }
        if object.is_foreground {
            return owners::delete_owned(client, graph, object).await;
        }
        return Ok(());
    }
    if object.owners.is_empty() { Ok(()) } else { owners::collect(client, graph, object).await }
}
