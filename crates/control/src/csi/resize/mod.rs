//! Claims that ask for more than they have: their volumes are expanded, and what is left for the node is handed to its kubelet.
//!
//! How far an expansion is stands in the claim: `allocatedResources` says to what size, `allocatedResourceStatuses` who is at it. Both are
//! written before the driver is asked, so that a claim that is shrunk meanwhile is brought to where the driver may already be.

mod look;
mod plan;
mod told;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tokio::time::Instant;

use super::Context;
use super::claims::follow;
use crate::cache::{Change, Name};
use crate::queue::{Pace, Queue};

/// How long it is until what the driver cannot do is asked for again.
const SLOW: Duration = Duration::from_secs(300);

struct Resizer {
    context: Arc<Context>,
    queue: Arc<Queue<Name>>,
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is known of the last call for a claim. It spares calls, and is found out again by one where it is lost.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The driver has said no, and is not at it any more.
    is_over: bool,
    /// It said that it cannot while the volume is in use.
    in_use: bool,
    /// It said that it never can: not before this.
    slow_until: Option<Instant>,
}

/// Expands volumes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue = Queue::new(Pace::default());
    let resizer = Arc::new(Resizer { context, queue: queue.clone(), memory: Mutex::default() });
    let listener = Arc::downgrade(&resizer);
    resizer.context.claims.listen(move |change| {
        if let Some(resizer) = listener.upgrade() {
            resizer.hear(change);
        }
    });
    tokio::join!(queue.run(|name| resizer.look(name)), follow(&resizer.context, &resizer.queue));
}

impl Resizer {
    fn memory(&self) -> MutexGuard<'_, BTreeMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, uid: &str, memory: Memory) {
        self.memory().insert(uid.to_owned(), memory);
    }

    fn hear(&self, change: &Change<PersistentVolumeClaim>) {
        match (&change.old, &change.new) {
            (_, None) => {
                self.memory().remove(change.object().metadata.uid.as_deref().unwrap_or_default());
            }
            (Some(old), Some(new)) if !is_news(old, new) => {}
            (_, Some(new)) => self.queue.add(Name::of(&**new)),
        }
    }
}

/// Whether something changed that others have to say. What this controller writes itself is no reason to look again: that would be no
/// waiting after failures.
fn is_news(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let bound = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    asked(old) != asked(new)
        || capacity(old) != capacity(new)
        || bound(old) != bound(new)
        || (step(old) != step(new) && !step(new).starts_with("Controller"))
}

fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> Option<i64> {
    amounts?.get("storage").and_then(super::quantity::bytes)
}

/// What a claim asks for.
fn asked(claim: &PersistentVolumeClaim) -> Option<i64> {
    let resources = claim.spec.as_ref()?.resources.as_ref()?;
    storage(resources.requests.as_ref())
}

/// What it has.
fn capacity(claim: &PersistentVolumeClaim) -> Option<i64> {
    storage(claim.status.as_ref()?.capacity.as_ref())
}

/// Who is at it: `allocatedResourceStatuses` of the storage.
fn step(claim: &PersistentVolumeClaim) -> &str {
    let statuses = claim.status.as_ref().and_then(|status| status.allocated_resource_statuses.as_ref());
    statuses.and_then(|statuses| statuses.get("storage")).map_or("", String::as_str)
}
