//! What attachments say, against what drivers say: somebody may have detached a volume behind everybody's back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use client::cache::Name;
use csi::caller::Driver;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::list_volumes_response::Entry;
use k8s_openapi::api::storage::v1::VolumeAttachment;

use super::super::volume::source;
use super::{Attacher, is_attached};

/// How often a driver is asked.
const ASK: Duration = Duration::from_secs(60);

impl Attacher {
    /// Asks each driver when it has come, as it may have forgotten everything, and now and then while it is there.
    pub(super) async fn reconcile(&self) {
        self.context.drivers.each(|driver| self.follow(driver)).await;
    }

    async fn follow(&self, driver: Arc<Driver>) {
        let calls = [Call::PublishUnpublishVolume, Call::ListVolumes, Call::ListVolumesPublishedNodes];
        if !calls.into_iter().all(|call| driver.controls(call)) {
            return;
        }
        loop {
            self.ask(&driver).await;
            tokio::time::sleep(ASK).await;
        }
    }

    async fn ask(&self, driver: &Driver) {
        // Read before the driver is asked: what is attached meanwhile is not taken for missing.
        let ours = |attachment: &VolumeAttachment| {
            attachment.spec.attacher == driver.name && self.is_ours(attachment)
        };
        let attachments = self.context.attachments.find(ours);
        if attachments.is_empty() {
            return;
        }
        let published = match driver.volumes().await {
            Ok(volumes) => published(volumes),
            Err(error) => {
                eprintln!("sextant control: warning: driver {}: {error}", driver.name);
                return;
            }
        };
        for attachment in attachments {
            if self.is_at(&attachment, &published).is_some_and(|is| is != is_attached(&attachment)) {
                let name = Name::of(&*attachment);
                self.forced().insert(name.clone());
                self.queue.add(name);
            }
        }
    }

    /// Whether the driver has an attachment's volume on its node; nothing, where nobody knows which they are.
    fn is_at(&self, attachment: &Arc<VolumeAttachment>, published: &Published) -> Option<bool> {
        let node = self.remembered_node(attachment).ok()?;
        let attached = self.attached(attachment).ok()?;
        let volume = &source(attached.spec().ok()?).ok()?.volume_handle;
        Some(published.get(volume).is_some_and(|nodes| nodes.contains(&node)))
    }
}

/// Nodes by volume.
type Published = BTreeMap<String, BTreeSet<String>>;

fn published(volumes: Vec<Entry>) -> Published {
    let entries = volumes.into_iter().filter_map(|entry| Some((entry.volume?.volume_id, entry.status?)));
    entries.map(|(id, status)| (id, status.published_node_ids.into_iter().collect())).collect()
}
