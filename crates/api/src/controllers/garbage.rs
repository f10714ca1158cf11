//! Objects whose owners are gone are deleted (`metadata.ownerReferences`).
//!
//! What owns and is owned is learned from lists and watches of all kinds; that an owner is not there is believed only after
//! a look at the store, so nothing is lost by a restart, and nothing is deleted for what a watch has not told yet.

mod graph;
mod owners;
mod watches;

use crate::contract::Result;
use crate::registry::client::Client;
use graph::{Graph, Known};
use std::time::Duration;
use tokio::sync::mpsc;
use watches::Seen;

/// How many changes may wait to be looked at.
const WAITING: usize = 256;
/// When what could not be done is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Collects garbage, for ever.
pub(super) async fn run(client: Client) {
    let (sender, mut changes) = mpsc::channel(WAITING);
    let _watches = watches::start(&client, sender);
    let mut graph = Graph::default();
    let mut failed: Vec<Known> = Vec::new();
    let mut again = tokio::time::interval(AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let seen = tokio::select! {
            seen = changes.recv() => seen,
            // However much happens meanwhile.
            _ = again.tick(), if !failed.is_empty() => {
                for object in std::mem::take(&mut failed) {
                    look(&client, &graph, &object, &mut failed).await;
                }
                continue;
            }
        };
        match seen {
            None => return,
            Some(Seen::There(object)) => {
                let is_news = graph.add(&object);
                if is_news {
                    look(&client, &graph, &object, &mut failed).await;
                }
            }
            Some(Seen::Gone(uid)) => {
                let (owned, owners) = graph.remove(&uid);
                for object in owned.iter().chain(&owners) {
                    look(&client, &graph, object, &mut failed).await;
                }
            }
        }
    }
}

/// Does what is to be done about an object; what fails is tried again.
async fn look(client: &Client, graph: &Graph, object: &Known, failed: &mut Vec<Known>) {
    if let Err(status) = attend(client, graph, object).await
        && status.code != 404
    {
        if status.code != 409 {
            eprintln!("sextant: cannot collect {} {}: {status}", object.stored_as, object.name);
        }
        failed.push(object.clone());
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
