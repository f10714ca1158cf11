//! What a driver has to be told of a volume.

use csi::caller::Driver;
use csi::contract::v1::VolumeCapability;
use csi::contract::v1::controller_service_capability::rpc::Type as Call;
use csi::contract::v1::volume_capability::access_mode::Mode;
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

/// The one access mode of the CSI for all those of a Kubernetes volume. A driver that knows one writer on a node from several
/// (`several`) is told which of both is meant.
pub(super) fn access_mode(modes: &[String], several: bool) -> Result<Mode, String> {
    let has = |mode: &str| modes.iter().any(|is| is == mode);
    match (has("ReadWriteOncePod"), has("ReadWriteMany"), has("ReadOnlyMany"), has("ReadWriteOnce")) {
        (true, false, false, false) if several => Ok(Mode::SingleNodeSingleWriter),
        (true, false, false, false) => Ok(Mode::SingleNodeWriter),
        (true, ..) => Err("accessModes: ReadWriteOncePod goes with no other mode".into()),
        (_, true, ..) => Ok(Mode::MultiNodeMultiWriter),
        (_, _, true, true) => {
            Err("accessModes: CSI has no volume that is ReadOnlyMany and ReadWriteOnce".into())
        }
        (_, _, true, _) => Ok(Mode::MultiNodeReaderOnly),
        (_, _, _, true) if several => Ok(Mode::SingleNodeMultiWriter),
        (_, _, _, true) => Ok(Mode::SingleNodeWriter),
        _ => Err(format!("accessModes: {modes:?} names no mode that is known")),
    }
}

/// Now, as objects have times.
pub(super) fn now() -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::jiff::Timestamp::now().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(modes: &[&str], several: bool) -> Result<Mode, String> {
        access_mode(&modes.iter().map(|mode| (*mode).to_owned()).collect::<Vec<_>>(), several)
    }

    #[test]
    fn access_modes_become_one() {
        assert_eq!(mode(&["ReadWriteOnce"], false), Ok(Mode::SingleNodeWriter));
        assert_eq!(mode(&["ReadWriteOnce"], true), Ok(Mode::SingleNodeMultiWriter));
        assert_eq!(mode(&["ReadWriteOncePod"], false), Ok(Mode::SingleNodeWriter));
        assert_eq!(mode(&["ReadWriteOncePod"], true), Ok(Mode::SingleNodeSingleWriter));
        assert_eq!(mode(&["ReadOnlyMany"], true), Ok(Mode::MultiNodeReaderOnly));
        assert_eq!(
            mode(&["ReadOnlyMany", "ReadWriteOnce", "ReadWriteMany"], true),
            Ok(Mode::MultiNodeMultiWriter)
        );
        for wrong in
            [&["ReadOnlyMany", "ReadWriteOnce"][..], &["ReadWriteOncePod", "ReadWriteMany"], &[], &["Other"]]
        {
            assert!(mode(wrong, true).is_err(), "{wrong:?}");
        }
    }
}
