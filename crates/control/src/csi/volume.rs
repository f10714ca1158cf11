//! What a driver has to be told of a volume.

use csi::caller::{Driver, access_mode};
use csi::contract::v1::VolumeCapability;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume};
use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, PersistentVolumeSpec};

/// How a volume is used, from its object.
///
/// # Errors
/// It is no CSI volume, or its access modes cannot be said to a driver.
pub(super) fn capability(spec: &PersistentVolumeSpec, driver: &Driver) -> Result<VolumeCapability, String> {
    let source = source(spec)?;
    let access_type = if spec.volume_mode.as_deref() == Some("Block") {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: source.fs_type.clone().unwrap_or_default(),
            mount_flags: spec.mount_options.clone().unwrap_or_default(),
            volume_mount_group: String::new(),
        })
    };
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let mode = access_mode(modes, driver.controls(Call::SingleNodeMultiWriter))?;
    Ok(VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(access_type),
    })
}

/// The part of a volume's object that is the driver's.
pub(super) fn source(spec: &PersistentVolumeSpec) -> Result<&CSIPersistentVolumeSource, String> {
    let source = spec.csi.as_ref().ok_or("spec.csi is not there: it is no volume of a CSI driver")?;
    if source.volume_handle.is_empty() {
        return Err("spec.csi.volumeHandle is empty".into());
    }
    Ok(source)
}

/// Now, as objects have times.
pub(super) fn now() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::jiff::Timestamp::now().into()
}
