//! The PersistentVolume that tells of what a driver has made.

use client::quantity;
use csi::contract::v1::{CreateVolumeRequest, Volume};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::request;
use super::topology;
use crate::csi::names;
use crate::csi::secrets::{Reference, Use, of_claim};

/// The attribute that says which process has made a volume.
const IDENTITY: &str = "storage.kubernetes.io/csiProvisionerIdentity";

/// What a volume is made of besides the driver's answer.
pub(super) struct Making<'a> {
    pub(super) claim: &'a PersistentVolumeClaim,
    pub(super) class: &'a StorageClass,
    pub(super) request: &'a CreateVolumeRequest,
    /// The secret that the driver was given.
    pub(super) secret: Option<&'a Reference>,
    /// This process.
    pub(super) identity: String,
    /// Whether the driver knows of topology.
    pub(super) has_topology: bool,
}

/// Refuses what is not what was asked for.
pub(super) fn check(request: &CreateVolumeRequest, volume: &Volume) -> Result<(), String> {
    let asked = request.capacity_range.unwrap_or_default().required_bytes;
    if volume.volume_id.is_empty() {
        return Err("the driver has made a volume without an id".into());
    }
    if volume.capacity_bytes != 0 && volume.capacity_bytes < asked {
        return Err(format!(
            "the driver has made a volume of {} bytes where {asked} were asked for",
            volume.capacity_bytes
        ));
    }
    if request.volume_content_source.is_some() && volume.content_source.is_none() {
        return Err(
            "the driver has made a volume, and does not say that it holds what it was to begin with".into()
        );
    }
    Ok(())
}

/// The object.
pub(super) fn object(making: &Making<'_>, volume: &Volume) -> Result<Value, String> {
    let Making { claim, class, request, .. } = making;
    let spec = claim.spec.clone().unwrap_or_default();
    let bytes = match volume.capacity_bytes {
        0 => request.capacity_range.unwrap_or_default().required_bytes,
        bytes => bytes,
    };
    let mut persistent = json!({
        "accessModes": spec.access_modes,
        "capacity": {"storage": quantity::of(bytes).0},
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace(),
            "name": claim.name_any(),
            "uid": claim.uid(),
            "resourceVersion": claim.resource_version(),
        },
        "csi": source(making, volume)?,
        "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
        "storageClassName": class.name_any(),
    });
    if let Some(options) = &class.mount_options {
        persistent["mountOptions"] = json!(options);
    }
    if let Some(mode) = &spec.volume_mode {
        persistent["volumeMode"] = json!(mode);
    }
    if let Some(name) = spec.volume_attributes_class_name.filter(|name| !name.is_empty()) {
        persistent["volumeAttributesClassName"] = json!(name);
    }
    if let Some(affinity) = topology::affinity(&volume.accessible_topology).filter(|_| making.has_topology) {
        persistent["nodeAffinity"] = affinity;
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": request.name,
            "annotations": annotations(making)?,
            "finalizers": [names::VOLUME],
        },
        "spec": persistent,
    }))
}

fn secret(making: &Making<'_>, of: Use) -> Result<Option<Reference>, String> {
    of_claim(of, making.class, &making.request.name, making.claim)
}

fn source(making: &Making<'_>, volume: &Volume) -> Result<Value, String> {
    let mut attributes = volume.volume_context.clone();
    attributes.entry(IDENTITY.into()).or_insert_with(|| making.identity.clone());
    let mut source = json!({
        "driver": making.class.provisioner,
        "volumeHandle": volume.volume_id,
        "volumeAttributes": attributes,
    });
    let fs_type = request::fs_type(making.class)?;
    if !request::is_block(making.claim) && !fs_type.is_empty() {
        source["fsType"] = json!(fs_type);
    }
    let uses = [
        ("controllerPublishSecretRef", Use::ControllerPublish),
        ("nodeStageSecretRef", Use::NodeStage),
        ("nodePublishSecretRef", Use::NodePublish),
        ("controllerExpandSecretRef", Use::ControllerExpand),
        ("nodeExpandSecretRef", Use::NodeExpand),
    ];
    for (field, of) in uses {
        if let Some(reference) = secret(making, of)? {
            source[field] = reference.json();
        }
    }
    Ok(source)
}

fn annotations(making: &Making<'_>) -> Result<Map<String, Value>, String> {
    let mut annotations = Map::new();
    annotations.insert(names::PROVISIONED_BY.into(), making.class.provisioner.clone().into());
    // Empty ones say that none is needed: without them the class would be asked, and it may be gone by then.
    let [name, namespace] = names::DELETION_SECRET;
    annotations
        .insert(name.into(), making.secret.map(|secret| secret.name.clone()).unwrap_or_default().into());
    let of = making.secret.map(|secret| secret.namespace.clone()).unwrap_or_default();
    annotations.insert(namespace.into(), of.into());
    if let Some(reference) = secret(making, Use::ControllerModify)? {
        let [name, namespace] = names::MODIFY_SECRET;
        annotations.insert(name.into(), reference.name.into());
        annotations.insert(namespace.into(), reference.namespace.into());
    }
    Ok(annotations)
}
