//! Attachments: a volume is made available on a node while there is a VolumeAttachment of both.
//!
//! The attachment and its volume have finalizers before the driver is asked, so that nothing stays attached that no object tells of.

mod look;
mod patches;
mod reconcile;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};

use super::Context;
use crate::cache::{Cache, Name};
use crate::queue::{Pace, Queue};

/// Where an attachment remembers what the driver calls its node: the node may be gone when the volume is to be detached.
const NODE_ID: &str = "csi.alpha.kubernetes.io/node-id";

struct Attacher {
    context: Arc<Context>,
    attachments: Arc<Cache<VolumeAttachment>>,
    nodes: Arc<Cache<CSINode>>,
    queue: Arc<Queue<Name>>,
    /// Volumes that are being deleted: their finalizer goes with their last attachment.
    leaving: Arc<Queue<Name>>,
    /// Attachments of which the driver says something else than they do. They are attached or detached once more, whatever they say.
    forced: Mutex<BTreeSet<Name>>,
}

/// Attaches and detaches volumes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let attacher = Attacher {
        attachments: Cache::start(&context.client),
        nodes: Cache::start(&context.client),
        queue: Queue::new(Pace::default()),
        leaving: Queue::new(Pace::default()),
        forced: Mutex::default(),
        context,
    };
    attacher.attachments.filled().await;
    attacher.nodes.filled().await;
    attacher.listen();
    tokio::join!(
        attacher.queue.clone().run(|name| attacher.attachment(name)),
        attacher.leaving.clone().run(|name| attacher.volume(name)),
        attacher.follow_drivers(),
        attacher.reconcile(),
    );
}

impl Attacher {
    fn forced(&self) -> MutexGuard<'_, BTreeSet<Name>> {
        self.forced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an attachment is of the node that this process looks after.
    fn is_ours(&self, attachment: &VolumeAttachment) -> bool {
        self.context.setup.node.as_ref().is_none_or(|node| *node == attachment.spec.node_name)
    }

    fn listen(&self) {
        let (queue, leaving) = (self.queue.clone(), self.leaving.clone());
        self.attachments.listen(move |change| match (&change.old, &change.new) {
            (Some(old), Some(new)) if differs_in_errors_only(old, new) => {}
            (_, Some(new)) => queue.add(Name::of(&**new)),
            (Some(old), None) => {
                leaving.add_all(old.spec.source.persistent_volume_name.iter().map(Name::global));
            }
            (None, None) => {}
        });
        // What waits for a volume's object or a node's id waits no longer than that.
        let (queue, attachments, leaving) =
            (self.queue.clone(), self.attachments.clone(), self.leaving.clone());
        self.context.volumes.listen(move |change| {
            let volume = Name::of(&**change.object());
            if change.old.is_none() {
                let of_it = |attachment: &VolumeAttachment| {
                    let name = &attachment.spec.source.persistent_volume_name;
                    name.as_ref() == Some(&volume.name) && !is_attached(attachment)
                };
                queue.add_all(attachments.find(of_it).iter().map(|attachment| Name::of(&**attachment)));
            }
            if change.new.as_ref().is_some_and(|new| is_leaving(new)) {
                leaving.add(volume);
            }
        });
        let (queue, attachments) = (self.queue.clone(), self.attachments.clone());
        self.nodes.listen(move |change| {
            let node = Name::of(&**change.object()).name;
            let on_it =
                |attachment: &VolumeAttachment| attachment.spec.node_name == node && !is_attached(attachment);
            queue.add_all(attachments.find(on_it).iter().map(|attachment| Name::of(&**attachment)));
        });
    }

    /// Looks at everything whenever a driver has come.
    async fn follow_drivers(&self) {
        let mut changes = self.context.drivers.changes();
        while changes.changed().await.is_ok() {
            self.queue.add_all(self.attachments.all().iter().map(|attachment| Name::of(&**attachment)));
            self.leaving
                .add_all(self.context.volumes.find(is_leaving).iter().map(|volume| Name::of(&**volume)));
        }
    }
}

/// The finalizer of a driver's attachments and volumes.
fn finalizer(driver: &str) -> String {
    let name: String =
        driver.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    let end = if name.ends_with('-') { "X" } else { "" };
    format!("external-attacher/{name}{end}")
}

fn is_attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached)
}

/// Whether it is being deleted, and somebody's attacher has not let it go.
fn is_leaving(volume: &PersistentVolume) -> bool {
    volume.metadata.deletion_timestamp.is_some()
        && volume.metadata.finalizers.iter().flatten().any(|name| name.starts_with("external-attacher/"))
}

/// Whether the driver's last error is all that has changed. It was written after a failure: looking again at once would be no waiting.
fn differs_in_errors_only(old: &VolumeAttachment, new: &VolumeAttachment) -> bool {
    let bare = |attachment: &VolumeAttachment| {
        let mut bare = attachment.clone();
        bare.metadata.resource_version = None;
        if let Some(status) = &mut bare.status {
            (status.attach_error, status.detach_error) = (None, None);
        }
        bare
    };
    old.metadata.resource_version != new.metadata.resource_version && bare(old) == bare(new)
}
