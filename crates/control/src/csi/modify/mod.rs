//! Claims that ask for another class of attributes: their volumes are modified.
//!
//! To which class a volume is being modified stands in the claim's `modifyVolumeStatus` before the driver is asked.

mod look;
mod plan;
mod told;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use tokio::time::Instant;

use super::Context;
use super::claims::follow;
use crate::cache::{Change, Name};
use crate::queue::{Pace, Queue};

/// How long it is until what the driver cannot do is asked for again.
const SLOW: Duration = Duration::from_secs(300);

struct Modifier {
    context: Arc<Context>,
    queue: Arc<Queue<Name>>,
    memory: Mutex<BTreeMap<String, Memory>>,
}

/// What is known of the last call for a claim. It spares calls, and is found out again by one where it is lost.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The driver has said no, and is not at it any more.
    is_over: bool,
    /// It said that it never can: not before this.
    slow_until: Option<Instant>,
}

/// Modifies volumes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let queue = Queue::new(Pace::default());
    let modifier = Arc::new(Modifier { context, queue: queue.clone(), memory: Mutex::default() });
    let listener = Arc::downgrade(&modifier);
    modifier.context.claims.listen(move |change| {
        if let Some(modifier) = listener.upgrade() {
            modifier.hear(change);
        }
    });
    // What waits for its class.
    let (waiting, claims) = (queue.clone(), modifier.context.claims.clone());
    modifier.context.attributes.listen(move |change| {
        let class = Name::of(&**change.object()).name;
        let waits = |claim: &PersistentVolumeClaim| wanted(claim) == class && current(claim) != class;
        waiting.add_all(claims.find(waits).iter().map(|claim| Name::of(&**claim)));
    });
    tokio::join!(queue.run(|name| modifier.look(name)), follow(&modifier.context, &modifier.queue));
}

impl Modifier {
    fn memory(&self) -> MutexGuard<'_, BTreeMap<String, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Whether something changed that others have to say: what this controller writes itself is no reason to look again, but for an end,
/// after which there may be a next class.
fn is_news(old: &PersistentVolumeClaim, new: &PersistentVolumeClaim) -> bool {
    let phase = |claim: &PersistentVolumeClaim| claim.status.as_ref().and_then(|status| status.phase.clone());
    let is_idle = new.status.as_ref().is_none_or(|status| status.modify_volume_status.is_none());
    wanted(old) != wanted(new) || phase(old) != phase(new) || (is_idle && wanted(new) != current(new))
}

/// The class that a claim asks for, or nothing.
fn wanted(claim: &PersistentVolumeClaim) -> &str {
    let class = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
    class.unwrap_or_default()
}

/// The class that its volume has, or nothing.
fn current(claim: &PersistentVolumeClaim) -> &str {
    let status = claim.status.as_ref();
    status.and_then(|status| status.current_volume_attributes_class_name.as_deref()).unwrap_or_default()
}
