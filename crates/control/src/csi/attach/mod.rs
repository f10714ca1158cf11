//! Attachments: a volume is made available on a node while there is a VolumeAttachment of both.
//!
//! The attachment and its volume have finalizers before the driver is asked, so that nothing stays attached that no object tells of.

mod look;
mod patches;
mod reconcile;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use client::cache::Name;
use client::queue::{Pace, Queue};
use csi::caller::Driver;
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::{CSINode, VolumeAttachment};

use super::Context;
use super::claims::driver;

/// Where an attachment remembers what the driver calls its node: the node may be gone when the volume is to be detached.
const NODE_ID: &str = "csi.alpha.kubernetes.io/node-id";

struct Attacher {
    context: Arc<Context>,
    queue: Arc<Queue<Name>>,
    /// Volumes that are being deleted: their finalizer goes with their last attachment.
    leaving: Arc<Queue<Name>>,
    /// Attachments of which the driver says something else than they do. They are attached or detached once more, whatever they say.
    forced: Mutex<BTreeSet<Name>>,
}

/// Attaches and detaches volumes until it is dropped.
pub(super) async fn run(context: Arc<Context>) {
    let attacher = Attacher {
        queue: Queue::new(Pace::default()),
        leaving: Queue::new(Pace::default()),
        forced: Mutex::default(),
        context,
    };
    attacher.listen();
    tokio::join!(
        attacher.queue.clone().run_in_lanes(
            |name| attacher.context.attachments.get(name).map(|attachment| attachment.spec.attacher.clone()),
            |name| attacher.attachment(name),
        ),
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
        self.context.attachments.listen(move |change| match (&change.old, &change.new) {
            (Some(old), Some(new)) if is_nothing_new(old, new) => {}
            (_, Some(new)) => queue.add(Name::of(&**new)),
            (Some(old), None) => {
                leaving.add_all(old.spec.source.persistent_volume_name.iter().map(Name::global));
            }
            (None, None) => {}
        });
        // What waits for a volume's object or a node's id waits no longer than that.
        let (queue, attachments, leaving) =
            (self.queue.clone(), self.context.attachments.clone(), self.leaving.clone());
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
        let (queue, attachments) = (self.queue.clone(), self.context.attachments.clone());
        self.context.csi_nodes.listen(move |change| {
            let ids = |node: &Option<Arc<CSINode>>| node.as_deref().map(ids);
            if ids(&change.old) == ids(&change.new) {
                return;
            }
            let node = Name::of(&**change.object()).name;
            let on_it =
                |attachment: &VolumeAttachment| attachment.spec.node_name == node && !is_attached(attachment);
            queue.add_all(attachments.find(on_it).iter().map(|attachment| Name::of(&**attachment)));
        });
    }

    /// Looks at all of a driver when it has come.
    async fn follow_drivers(&self) {
        let look = |come: Arc<Driver>| {
            let attachments =
                self.context.attachments.find(|attachment| attachment.spec.attacher == come.name);
            self.queue.add_all(attachments.iter().map(|attachment| Name::of(&**attachment)));
            let volumes = &self.context.volumes;
            let volumes = volumes.find(|volume| is_leaving(volume) && driver(volume) == Some(&come.name));
            self.leaving.add_all(volumes.iter().map(|volume| Name::of(&**volume)));
            std::future::ready(())
        };
        self.context.drivers.each(look).await;
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

/// What drivers call a node.
fn ids(node: &CSINode) -> BTreeMap<String, String> {
    node.spec.drivers.iter().map(|driver| (driver.name.clone(), driver.node_id.clone())).collect()
}

/// Whether an attachment says nothing that it did not say before. What this controller writes itself into one that it fails to attach or
/// detach (its finalizer, the error) is no reason to look again at once: that would be no waiting.
fn is_nothing_new(old: &VolumeAttachment, new: &VolumeAttachment) -> bool {
    let says = |of: &VolumeAttachment| {
        (of.metadata.uid.clone(), of.metadata.deletion_timestamp.clone(), of.spec.clone(), is_attached(of))
    };
    old.metadata.resource_version != new.metadata.resource_version && says(old) == says(new)
}
