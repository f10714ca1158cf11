//! What volumes are made of is held until they are there, and let go afterwards.

use std::collections::BTreeSet;
use std::time::Duration;

use client::cache::Name;
use client::queue::Next;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::Provisioner;
use super::source::{self, Source};
use crate::csi::{finalizers, names};

/// How often snapshots are looked through for those that nobody waits for any more: where this process was not there to let them go.
const SWEEP: Duration = Duration::from_secs(300);

impl Provisioner {
    /// Whether a claim has no volume yet.
    fn waits(claim: &PersistentVolumeClaim) -> bool {
        names::volume(claim).is_none() && names::phase(claim) == "Pending"
    }

    /// Lets a claim go that is being deleted and that nobody clones any more. `None`: it is not held.
    pub(super) async fn release_cloned(&self, claim: &PersistentVolumeClaim) -> Option<Next> {
        let is_going = claim.metadata.deletion_timestamp.is_some();
        if !is_going || !finalizers::has(claim, names::CLONED) {
            return None;
        }
        let this = Ok(Some(Source::Claim(Name::of(claim))));
        let clones = self.context.claims.find(|other| Self::waits(other) && source::of(other) == this);
        // The last of them tells when it is done.
        if !clones.is_empty() {
            return None;
        }
        match finalizers::remove(&self.api(claim), claim, names::CLONED, &[]).await {
            Ok(()) => None,
            Err(_) => Some(Next::Again),
        }
    }

    /// The snapshots that claims without a volume name.
    fn awaited(&self, without: Option<&str>) -> BTreeSet<Name> {
        let waiting = self.context.claims.find(|claim| {
            Self::waits(claim) && without.is_none_or(|uid| claim.metadata.uid.as_deref() != Some(uid))
        });
        let sources = waiting.iter().filter_map(|claim| source::of(claim).ok().flatten());
        sources
            .filter_map(|source| if let Source::Snapshot(name) = source { Some(name) } else { None })
            .collect()
    }

    /// Lets the snapshot go that a claim was made of, unless others wait for it.
    pub(super) async fn release_snapshot(&self, claim: &PersistentVolumeClaim) {
        let Ok(Some(Source::Snapshot(name))) = source::of(claim) else { return };
        if self.awaited(claim.metadata.uid.as_deref()).contains(&name) {
            return;
        }
        let snapshots = source::snapshots(&self.context.client, Some(&name.namespace));
        // What is not done here the sweep does.
        if let Ok(Some(snapshot)) = snapshots.get_opt(&name.name).await {
            let _ = finalizers::remove(&snapshots, &snapshot, names::RESTORED, &[]).await;
        }
    }

    /// Lets snapshots go that nobody waits for.
    pub(super) async fn sweep_snapshots(&self) {
        loop {
            // A cluster may have no snapshots at all.
            if let Ok(all) = source::snapshots(&self.context.client, None).list(&ListParams::default()).await
            {
                let awaited = self.awaited(None);
                let held = all.into_iter().filter(|one| finalizers::has(one, names::RESTORED));
                for snapshot in held.filter(|snapshot| !awaited.contains(&Name::of(snapshot))) {
                    let namespace = snapshot.namespace().unwrap_or_default();
                    let api: Api<_> = source::snapshots(&self.context.client, Some(&namespace));
                    let _ = finalizers::remove(&api, &snapshot, names::RESTORED, &[]).await;
                }
            }
            tokio::time::sleep(SWEEP).await;
        }
    }
}
