//! What a driver is asked for, from a claim and its class.

use std::collections::BTreeMap;

use client::quantity;
use csi::contract::v1::volume_capability::access_mode::Mode;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use csi::contract::v1::{CapacityRange, CreateVolumeRequest, VolumeCapability};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;

use crate::csi::secrets::{self, PREFIX};

/// The name of the volume, for the driver and for Kubernetes: a claim's volume is found by it though no object tells of it yet.
pub(super) fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid().unwrap_or_default())
}

/// Whether a claim wants a block device.
pub(super) fn is_block(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block")
}

/// How large the volume is to be at least; 0 where the claim does not say.
pub(super) fn size(claim: &PersistentVolumeClaim) -> Result<i64, String> {
    amount(claim, "requests")
}

fn amount(claim: &PersistentVolumeClaim, which: &str) -> Result<i64, String> {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let amounts = resources.and_then(|resources| match which {
        "limits" => resources.limits.as_ref(),
        _ => resources.requests.as_ref(),
    });
    let Some(quantity) = amounts.and_then(|amounts| amounts.get("storage")) else { return Ok(0) };
    quantity::bytes(quantity)
        .filter(|bytes| *bytes >= 0)
        .ok_or_else(|| format!("spec.resources.{which}.storage: {:?} is no size", quantity.0))
}

/// All of a request that claim and class say: what they refer to is the caller's. `multi_writer`: the driver tells one writer from
/// several on one node.
pub(super) fn create(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    multi_writer: bool,
) -> Result<CreateVolumeRequest, String> {
    if claim.spec.as_ref().is_some_and(|spec| spec.selector.is_some()) {
        return Err("spec.selector: only volumes that are there already can be selected by labels; \
                    leave it out, or name a class without a provisioner"
            .into());
    }
    let name = volume_name(claim);
    let capacity_range =
        CapacityRange { required_bytes: size(claim)?, limit_bytes: amount(claim, "limits")? };
    Ok(CreateVolumeRequest {
        capacity_range: Some(capacity_range),
        volume_capabilities: capabilities(claim, class, multi_writer)?,
        parameters: parameters(claim, class, &name)?,
        name,
        ..Default::default()
    })
}

/// The file system that a class names; nothing where that is left to the driver.
pub(super) fn fs_type(class: &StorageClass) -> Result<String, String> {
    let parameters = class.parameters.iter().flatten();
    let prefixed = format!("{PREFIX}fstype");
    let mut named = parameters.filter(|(key, _)| **key == prefixed || key.eq_ignore_ascii_case("fstype"));
    match (named.next(), named.next()) {
        (Some((one, _)), Some((other, _))) => Err(format!(
            "the class names a file system twice, by {one:?} and by {other:?}: leave out the second"
        )),
        (found, _) => Ok(found.map(|(_, fs_type)| fs_type.clone()).unwrap_or_default()),
    }
}

/// One for each access mode, as drivers know no sets of them.
pub(crate) fn capabilities(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    multi_writer: bool,
) -> Result<Vec<VolumeCapability>, String> {
    let access = match is_block(claim) {
        true => AccessType::Block(BlockVolume {}),
        false => AccessType::Mount(MountVolume {
            fs_type: fs_type(class)?,
            mount_flags: class.mount_options.clone().unwrap_or_default(),
            ..Default::default()
        }),
    };
    let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    modes
        .map(|mode| {
            let mode = match (mode.as_str(), multi_writer) {
                ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
                ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
                ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
                ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
                ("ReadWriteOnce" | "ReadWriteOncePod", false) => Mode::SingleNodeWriter,
                (other, _) => {
                    return Err(format!("spec.accessModes: {other:?} is no access mode that CSI has"));
                }
            };
            let access_mode = Some(AccessMode { mode: mode.into() });
            Ok(VolumeCapability { access_mode, access_type: Some(access.clone()) })
        })
        .collect()
}

/// The class's own, and whose volume it is to be.
fn parameters(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    volume: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut parameters = own_parameters(class)?;
    parameters.insert(format!("{PREFIX}pvc/name"), claim.name_any());
    parameters.insert(format!("{PREFIX}pvc/namespace"), claim.namespace().unwrap_or_default());
    parameters.insert(format!("{PREFIX}pv/name"), volume.to_owned());
    Ok(parameters)
}

/// What a class says to the driver, without what it says to Kubernetes.
pub(crate) fn own_parameters(class: &StorageClass) -> Result<BTreeMap<String, String>, String> {
    secrets::own_parameters(class.parameters.as_ref(), |key| key == "fstype" || secrets::is_of_volumes(key))
}
