//! What a volume begins with: a snapshot, another claim's volume, or nothing.

use std::fmt::Display;

use client::cache::Name;
use client::quantity;
use csi::caller::Driver;
use csi::contract::v1::VolumeContentSource;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::{Failure, request};
use crate::csi::{Context, finalizers, names};

const SNAPSHOTS: &str = "snapshot.storage.k8s.io";
const MODE_MAY_CHANGE: &str = "snapshot.storage.kubernetes.io/allow-volume-mode-change";

/// What a claim names as its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Snapshot(Name),
    Claim(Name),
}

/// The source that a claim names.
///
/// # Errors
/// One that can never be had.
pub(super) fn of(claim: &PersistentVolumeClaim) -> Result<Option<Source>, Failure> {
    let Some(spec) = &claim.spec else { return Ok(None) };
    let namespace = claim.namespace().unwrap_or_default();
    let (group, kind, name) = match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), _) => (source.api_group.as_deref(), &source.kind, &source.name),
        (None, Some(source)) => {
            if let Some(other) = source.namespace.as_ref().filter(|other| **other != namespace) {
                return Err(Failure::Wrong(format!(
                    "spec.dataSourceRef.namespace: {other:?} is another namespace than the claim's, from which nothing can be taken; \
                     make the claim in {other:?}, or a snapshot in {namespace:?}"
                )));
            }
            (source.api_group.as_deref(), &source.kind, &source.name)
        }
        (None, None) => return Ok(None),
    };
    let name = Name::new(namespace, name.clone());
    match (group.unwrap_or_default(), kind.as_str()) {
        (SNAPSHOTS, "VolumeSnapshot") => Ok(Some(Source::Snapshot(name))),
        ("", "PersistentVolumeClaim") => Ok(Some(Source::Claim(name))),
        (group, "VolumeSnapshot") => Err(Failure::Wrong(format!(
            "spec.dataSource.apiGroup: {group:?} has no VolumeSnapshot, {SNAPSHOTS:?} has"
        ))),
        (_, kind) => Err(Failure::Others(format!(
            "{kind} {name} is the source: whoever knows it is to make the volume"
        ))),
    }
}

/// A source as the driver knows it, held until the claim's volume is there. `begun`: the driver may be making the volume already, so
/// that a source that is being deleted is one still.
pub(super) async fn ready(
    context: &Context,
    driver: &Driver,
    claim: &PersistentVolumeClaim,
    source: &Source,
    begun: bool,
) -> Result<VolumeContentSource, Failure> {
    let (act, name, call) = match source {
        Source::Snapshot(name) => ("restore snapshot", name, Call::CreateDeleteSnapshot),
        Source::Claim(name) => ("clone claim", name, Call::CloneVolume),
    };
    let wanted = Wanted { context, driver, claim, name, act, begun };
    if !driver.controls(call) {
        return Err(wanted.wrong(format!("driver {} does no such thing", driver.name)));
    }
    let r#type = match source {
        Source::Snapshot(_) => Type::Snapshot(SnapshotSource { snapshot_id: wanted.snapshot().await? }),
        Source::Claim(_) => Type::Volume(VolumeSource { volume_id: wanted.volume().await? }),
    };
    Ok(VolumeContentSource { r#type: Some(r#type) })
}

/// A source that a claim is to be made of.
struct Wanted<'a> {
    context: &'a Context,
    driver: &'a Driver,
    claim: &'a PersistentVolumeClaim,
    name: &'a Name,
    /// What is done with it.
    act: &'static str,
    begun: bool,
}

impl Wanted<'_> {
    fn later(&self, why: impl Display) -> Failure {
        Failure::Later(format!("cannot {} {}: {why}", self.act, self.name))
    }

    fn wrong(&self, why: impl Display) -> Failure {
        Failure::Wrong(format!("cannot {} {}: {why}", self.act, self.name))
    }

    fn size(&self, claim: &PersistentVolumeClaim) -> Result<i64, Failure> {
        request::size(claim).map_err(|why| self.wrong(why))
    }

    /// The id of the volume of another claim.
    async fn volume(&self) -> Result<String, Failure> {
        let (context, name) = (self.context, self.name);
        let source = context.claims.get(name).ok_or_else(|| self.later("it is not there"))?;
        let is_held = finalizers::has(&*source, names::CLONED);
        if source.metadata.deletion_timestamp.is_some() && !(self.begun && is_held) {
            return Err(self.wrong("it is being deleted"));
        }
        let volume = names::volume(&source).and_then(|volume| context.volumes.get(&Name::global(volume)));
        let volume = volume.filter(|_| names::phase(&source) == "Bound");
        let volume = volume.ok_or_else(|| self.later("it is not bound to a volume yet"))?;
        let spec = volume.spec.as_ref();
        let csi = spec.and_then(|spec| spec.csi.as_ref()).filter(|csi| csi.driver == self.driver.name);
        let csi =
            csi.ok_or_else(|| self.wrong(format!("its volume is not driver {}'s", self.driver.name)))?;
        let holder = spec.and_then(|spec| spec.claim_ref.as_ref()).and_then(|claim| claim.uid.as_ref());
        if holder != source.metadata.uid.as_ref() {
            return Err(self.later(format!("its volume {} is not bound to it", volume.name_any())));
        }
        if request::is_block(self.claim) != request::is_block(&source) {
            return Err(self.wrong("one is a block device, the other a file system (spec.volumeMode)"));
        }
        let (asked, there) = (self.size(self.claim)?, self.size(&source)?);
        if asked < there {
            return Err(self.wrong(format!("{asked} bytes are asked for, less than its {there}")));
        }
        if !is_held {
            let api = Api::namespaced(context.client.clone(), &name.namespace);
            finalizers::add(&api, &*source, names::CLONED).await.map_err(|error| self.later(error))?;
        }
        Ok(csi.volume_handle.clone())
    }

    /// The id of a snapshot.
    async fn snapshot(&self) -> Result<String, Failure> {
        let (client, name) = (&self.context.client, self.name);
        let snapshots = snapshots(client, Some(&name.namespace));
        let snapshot = snapshots.get(&name.name).await.map_err(|error| self.later(error))?;
        let is_held = finalizers::has(&snapshot, names::RESTORED);
        if snapshot.metadata.deletion_timestamp.is_some() && !(self.begun && is_held) {
            return Err(self.wrong("it is being deleted"));
        }
        let status = &snapshot.data["status"];
        let of = status["boundVolumeSnapshotContentName"].as_str();
        let of = of.ok_or_else(|| self.later("it is not bound to a content yet"))?;
        if status["readyToUse"] != true {
            return Err(self.later("it is not ready to use yet"));
        }
        let content = contents(client).get(of).await.map_err(|error| self.later(error))?;
        let spec = &content.data["spec"];
        let back = &spec["volumeSnapshotRef"];
        let is_its = back["uid"].as_str() == snapshot.metadata.uid.as_deref()
            && back["namespace"] == *name.namespace
            && back["name"] == *name.name;
        if !is_its {
            return Err(self.wrong(format!("its content {of} is bound to another snapshot")));
        }
        let (its, ours) = (&spec["driver"], &self.driver.name);
        if *its != **ours {
            return Err(self.wrong(format!("its content {of} is of driver {its}, not of {ours}")));
        }
        let id = content.data["status"]["snapshotHandle"].as_str().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| self.later(format!("its content {of} has no snapshotHandle yet")))?;
        let asked = self.size(self.claim)?;
        if let Some(size) = restore_size(&status["restoreSize"]).filter(|size| asked < *size) {
            return Err(self.wrong(format!("{asked} bytes are asked for, less than its {size}")));
        }
        let mode = spec["sourceVolumeMode"].as_str();
        let may_change = content.annotations().get(MODE_MAY_CHANGE).is_some_and(|value| value == "true");
        if mode.is_some_and(|mode| (mode == "Block") != request::is_block(self.claim)) && !may_change {
            return Err(self.wrong(format!(
                "one is a block device, the other a file system; who may change that annotates content {of} with {MODE_MAY_CHANGE}=true"
            )));
        }
        if !is_held {
            finalizers::add(&snapshots, &snapshot, names::RESTORED)
                .await
                .map_err(|error| self.later(error))?;
        }
        Ok(id.to_owned())
    }
}

fn restore_size(value: &Value) -> Option<i64> {
    quantity::bytes(&serde_json::from_value(value.clone()).ok()?)
}

fn kind(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(SNAPSHOTS, "v1", kind))
}

/// Snapshots of a namespace, or all.
pub(super) fn snapshots(client: &Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = kind("VolumeSnapshot");
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
        None => Api::all_with(client.clone(), &kind),
    }
}

fn contents(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &kind("VolumeSnapshotContent"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn source(spec: Value) -> Result<Option<Source>, Failure> {
        let metadata = json!({"name": "copy", "namespace": "shop"});
        of(&serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    }

    #[test]
    fn sources_are_told_apart() {
        let snapshot = json!({"apiGroup": SNAPSHOTS, "kind": "VolumeSnapshot", "name": "s"});
        let there = Some(Source::Snapshot(Name::new("shop", "s")));
        assert_eq!(source(json!({"dataSource": snapshot})), Ok(there.clone()));
        assert_eq!(source(json!({"dataSourceRef": snapshot})), Ok(there));
        let claim = json!({"kind": "PersistentVolumeClaim", "name": "c"});
        assert_eq!(source(json!({"dataSource": claim})), Ok(Some(Source::Claim(Name::new("shop", "c")))));
        assert_eq!(source(json!({})), Ok(None));
    }

    #[test]
    fn what_cannot_be_a_source_is_told() {
        let elsewhere = json!({"kind": "PersistentVolumeClaim", "name": "c", "namespace": "vault"});
        let Err(Failure::Wrong(text)) = source(json!({"dataSourceRef": elsewhere})) else { panic!() };
        assert!(text.contains("spec.dataSourceRef.namespace: \"vault\""), "{text}");
        let group = json!({"apiGroup": "example.com", "kind": "VolumeSnapshot", "name": "s"});
        assert!(matches!(source(json!({"dataSource": group})), Err(Failure::Wrong(_))));
        let populated = json!({"apiGroup": "example.com", "kind": "Image", "name": "debian"});
        assert!(matches!(source(json!({"dataSourceRef": populated})), Err(Failure::Others(_))));
    }
}
