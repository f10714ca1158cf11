//! What a snapshot is cut of: the claim, which is held meanwhile, its volume, and the class.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::types::{VolumeSnapshot, VolumeSnapshotClass};
use super::write::{self, Trouble};
use super::{Snapshots, is_ready, names};
use crate::cache::Name;

/// A volume of a CSI driver.
pub(super) struct Source {
    pub(super) volume: Arc<PersistentVolume>,
    pub(super) driver: String,
    pub(super) handle: String,
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

    /// The class that a snapshot of a driver's volume is of: the one it names, or else the driver's default one.
    ///
    /// # Errors
    /// There is none, more than one, or it is of another driver.
    pub(super) fn class_for(
        &self,
        named: Option<&str>,
        driver: &str,
    ) -> Result<Arc<VolumeSnapshotClass>, String> {
        let Some(name) = named else {
            let is_default = |class: &VolumeSnapshotClass| {
                class.driver == driver && write::annotation(class, names::IS_DEFAULT) == Some("true")
            };
            let found = self.classes.find(is_default);
            let all: Vec<&str> = found.iter().map(|class| write::name(&**class)).collect();
            return only("VolumeSnapshotClass", driver, &all).map(|index| found[index].clone());
        };
        let class = self.classes.get(&Name::global(name));
        let class = class.ok_or_else(|| format!("VolumeSnapshotClass {name} is not there"))?;
        if class.driver != driver {
            let (one, other) = (&class.driver, driver);
            return Err(format!("VolumeSnapshotClass {name} is of driver {one}, the volume of {other}"));
        }
        Ok(class)
    }

    /// Keeps a claim there while a snapshot is cut of it.
    ///
    /// # Errors
    /// The claim is going.
    pub(super) async fn hold_claim(&self, claim: &PersistentVolumeClaim) -> Result<(), Trouble> {
        let _turn = self.claims.lock().await;
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.context.client.clone(), write::namespace(claim));
        let claim = api.get(write::name(claim)).await?;
        let Some(finalizers) = write::with(&claim, &[names::CLAIM_IS_SOURCE]) else { return Ok(()) };
        if write::is_deleted(&claim) {
            return Err(Trouble::Failed(format!("claim {} is being deleted", write::name(&claim))));
        }
        write::patch(&api, &claim, json!({"metadata": {"finalizers": finalizers}})).await?;
        Ok(())
    }

    /// Lets a VolumeSnapshot's claim go, unless a snapshot of it is still to be cut. `but` is none.
    pub(super) async fn release_claim(
        &self,
        of: &VolumeSnapshot,
        but: Option<&VolumeSnapshot>,
    ) -> Result<(), Trouble> {
        let Ok(claim) = self.claim_of(of) else { return Ok(()) };
        if !write::is_held(&*claim, names::CLAIM_IS_SOURCE) {
            return Ok(());
        }
        let _turn = self.claims.lock().await;
        let (namespace, name) = (write::namespace(of), write::name(&*claim));
        let waits = self.snapshots.cache.find(|other| {
            write::namespace(other) == namespace
                && other.spec.source.persistent_volume_claim_name.as_deref() == Some(name)
                && !is_ready(other)
                && but.is_none_or(|but| write::uid(but) != write::uid(other))
        });
        if !waits.is_empty() {
            return Ok(());
        }
        let api: Api<PersistentVolumeClaim> = Api::namespaced(self.context.client.clone(), namespace);
        let Some(claim) = api.get_opt(name).await? else { return Ok(()) };
        if let Some(finalizers) = write::without(&claim, &[names::CLAIM_IS_SOURCE]) {
            write::patch(&api, &claim, json!({"metadata": {"finalizers": finalizers}})).await?;
        }
        Ok(())
    }

    /// Has another snapshot of the same claim looked at, which releases the claim if it may go.
    pub(super) fn release_after(&self, gone: &VolumeSnapshot) {
        let claim = &gone.spec.source.persistent_volume_claim_name;
        self.snapshots.add(|other| {
            write::namespace(other) == write::namespace(gone)
                && claim.is_some()
                && other.spec.source.persistent_volume_claim_name == *claim
        });
    }
}

/// The only one of default classes.
pub(super) fn only(kind: &str, driver: &str, found: &[&str]) -> Result<usize, String> {
    match found {
        [_] => Ok(0),
        [] => Err(format!("no {kind} is named, and driver {driver} has no default one")),
        all => Err(format!(
            "no {kind} is named, and driver {driver} has several default ones: {}",
            all.join(", ")
        )),
    }
}

/// Parameters of a class.
pub(super) fn parameters(of: Option<&BTreeMap<String, String>>) -> BTreeMap<String, String> {
    of.cloned().unwrap_or_default()
}

/// How a volume is used: as a file system or a block device.
pub(super) fn mode(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_mode.as_deref()
}

/// Whether a claim waits for its volume.
pub(super) fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.is_none_or(|phase| phase == "Pending") && !claim.name_any().is_empty()
}
