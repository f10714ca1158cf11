//! What a snapshot is cut of: the claim, which is held meanwhile, its volume, and the class.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, Weak};

use client::cache::{Cache, Kind, Name};
use client::queue::Next;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Resource};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::types::{VolumeGroupSnapshotClass, VolumeSnapshot, VolumeSnapshotClass};
use super::write::{self, Trouble};
use super::{Snapshots, is_ready, names};
use crate::csi::finalizers;

/// A volume of a CSI driver.
pub(super) struct Source {
    pub(super) volume: Arc<PersistentVolume>,
    pub(super) driver: String,
    pub(super) handle: String,
}

/// Claims, one of whose snapshots holds or releases them: else one might release what another believes held. Nobody waits for what is
/// asked of another claim.
#[derive(Debug, Default)]
pub(super) struct Holding(std::sync::Mutex<BTreeMap<Name, Weak<Mutex<()>>>>);

impl Holding {
    /// Has a claim alone until what it gives is dropped.
    async fn turn(&self, claim: Name) -> OwnedMutexGuard<()> {
        let turn = {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            held.retain(|_, turn| turn.strong_count() > 0);
            let turn = held.get(&claim).and_then(Weak::upgrade).unwrap_or_default();
            held.insert(claim, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

impl Snapshots {
    /// The volume of a claim.
    ///
    /// # Errors
    /// The claim is not bound, or not to a driver's volume.
    pub(super) fn volume_of(&self, claim: &PersistentVolumeClaim) -> Result<Source, String> {
        let name = write::name(claim);
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let (Some(volume), "Bound") = (volume, phase) else {
            return Err(format!("claim {name} is not bound to a volume ({phase})"));
        };
        let Some(found) = self.context.volumes.get(&Name::global(volume)) else {
            return Err(format!("volume {volume} of claim {name} is not there"));
        };
        let spec = found.spec.as_ref();
        let reference = spec.and_then(|spec| spec.claim_ref.as_ref());
        let is_its = reference.is_some_and(|reference| {
            reference.name.as_deref() == Some(name)
                && reference.namespace.as_deref() == Some(write::namespace(claim))
                && reference.uid.as_deref().is_none_or(|uid| uid.is_empty() || uid == write::uid(claim))
        });
        if !is_its {
            return Err(format!("volume {volume} of claim {name} is not bound to the claim"));
        }
        let Some(csi) = spec.and_then(|spec| spec.csi.as_ref()) else {
            return Err(format!(
                "volume {volume} of claim {name} is of no CSI driver: only such volumes have snapshots"
            ));
        };
        let (driver, handle) = (csi.driver.clone(), csi.volume_handle.clone());
        Ok(Source { volume: found, driver, handle })
    }

    /// The claim that a VolumeSnapshot names.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn claim_of(&self, snapshot: &VolumeSnapshot) -> Result<Arc<PersistentVolumeClaim>, String> {
        let name = snapshot.spec.source.persistent_volume_claim_name.as_deref().unwrap_or_default();
        let claim = self.context.claims.get(&Name::new(write::namespace(snapshot), name));
        claim.ok_or_else(|| format!("claim {name} is not there"))
    }

    /// Keeps a claim there while a snapshot is cut of it.
    ///
    /// # Errors
    /// The claim is going.
    pub(super) async fn hold_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), Trouble> {
        let _turn = self.holding.turn(Name::of(claim)).await;
        let api = self.claims_beside(claim);
        // Not another of its name.
        let Some(claim) = finalizers::again(&api, claim).await? else { return Err(Trouble::Changed) };
        if write::is_deleted(&claim) && !finalizers::has(&claim, names::CLAIM_IS_SOURCE) {
            return Err(Trouble::Failed(format!("claim {} is being deleted", write::name(&claim))));
        }
        write::hold(&api, claim, names::CLAIM_IS_SOURCE).await?;
        Ok(())
    }

    /// Lets a claim go of which no snapshot is to be cut any more. It is looked at when it is held, and whenever a snapshot of it changes:
    /// the last one to end is seen to be that, whichever it is.
    pub(super) async fn look_at_claim(&self, claim: &PersistentVolumeClaim) -> Result<Next, Trouble> {
        if !finalizers::has(claim, names::CLAIM_IS_SOURCE) {
            return Ok(Next::Done);
        }
        let _turn = self.holding.turn(Name::of(claim)).await;
        let needed = self.snapshots.cache.find(|snapshot| {
            write::namespace(snapshot) == write::namespace(claim)
                && snapshot.spec.source.persistent_volume_claim_name.as_deref() == Some(write::name(claim))
                && needs_claim(snapshot)
        });
        if needed.is_empty() {
            write::release(&self.claims_beside(claim), claim, &[names::CLAIM_IS_SOURCE]).await?;
        }
        Ok(Next::Done)
    }

    fn claims_beside<K: Resource>(&self, object: &K) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.context.client.clone(), write::namespace(object))
    }
}

/// Whether a VolumeSnapshot may still be cut: it is not ready, and not let go by this controller either.
fn needs_claim(snapshot: &VolumeSnapshot) -> bool {
    let is_held = names::OF_SNAPSHOTS.iter().any(|finalizer| finalizers::has(snapshot, finalizer));
    !is_ready(snapshot) && (is_held || !write::is_deleted(snapshot))
}

/// A class of snapshots, or of groups.
pub(super) trait Class: Kind {
    /// The annotation that says that it is its driver's default one.
    const IS_DEFAULT: &'static str;

    fn driver(&self) -> &str;
}

impl Class for VolumeSnapshotClass {
    const IS_DEFAULT: &'static str = names::IS_DEFAULT;

    fn driver(&self) -> &str {
        &self.driver
    }
}

impl Class for VolumeGroupSnapshotClass {
    const IS_DEFAULT: &'static str = names::GROUP_IS_DEFAULT;

    fn driver(&self) -> &str {
        &self.driver
    }
}

/// The class that a snapshot of a driver's volumes is of: the one it names, or else the driver's default one.
///
/// # Errors
/// There is none, more than one, or it is of another driver.
pub(super) fn class<C: Class>(
    classes: &Cache<C>,
    named: Option<&str>,
    driver: &str,
) -> Result<Arc<C>, String> {
    let kind = C::kind(&());
    let Some(name) = named else {
        let found = classes.find(|class| {
            class.driver() == driver && write::annotation(class, C::IS_DEFAULT) == Some("true")
        });
        return match &found[..] {
            [one] => Ok(one.clone()),
            [] => Err(format!("no {kind} is named, and driver {driver} has no default one")),
            all => {
                let all: Vec<&str> = all.iter().map(|class| write::name(&**class)).collect();
                let all = all.join(", ");
                Err(format!("no {kind} is named, and driver {driver} has several default ones: {all}"))
            }
        };
    };
    let class = classes.get(&Name::global(name)).ok_or_else(|| format!("{kind} {name} is not there"))?;
    match class.driver() {
        own if own == driver => Ok(class),
        other => Err(format!("{kind} {name} is of driver {other}, the volumes are {driver}'s")),
    }
}
/// How a volume is used: as a file system or a block device.
pub(super) fn mode(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_mode.as_deref()
}

/// Whether a claim waits for its volume.
pub(super) fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_none_or(|phase| phase == "Pending")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_claim_is_needed_until_its_snapshot_is_ready_or_let_go() {
        let needs = |metadata: Value, is_ready: bool| {
            let snapshot = json!({"metadata": metadata, "spec": {}, "status": {"readyToUse": is_ready}});
            needs_claim(&serde_json::from_value(snapshot).unwrap())
        };
        let at = "2026-01-01T00:00:00Z";
        assert!(needs(json!({}), false));
        assert!(!needs(json!({}), true));
        assert!(needs(json!({"deletionTimestamp": at, "finalizers": [names::SNAPSHOT_IS_BOUND]}), false));
        // Who else holds it does not hold the claim.
        assert!(!needs(json!({"deletionTimestamp": at, "finalizers": ["example.com/other"]}), false));
    }
}
