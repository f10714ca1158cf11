//! What a request must satisfy whatever the state of the machine.
//!
//! [`Validate::validate`] finds the first field that no state would make right, names it by its path in the .proto file and
//! says what to do. The dispatch calls it before every handler, so a handler may rely on it.

use grpc::Failure;

use super::text::{
    Verdict, id, map, mount_flags, name, not_negative, optional_id, optional_path, path, required, shown,
};
use super::v1::volume_capability::{AccessType, access_mode::Mode};
use super::v1::*;

/// A message whose fields can be wrong by themselves.
pub trait Validate {
    /// The first field that is wrong.
    ///
    /// # Errors
    /// [`Code::InvalidArgument`](super::Code::InvalidArgument) with the field's path, the value and what to do.
    fn validate(&self) -> Result<(), Failure>;
}

macro_rules! anything_goes {
    ($($message:ident)*) => {
        $(impl Validate for $message {
            fn validate(&self) -> Verdict {
                Ok(())
            }
        })*
    };
}

anything_goes! {
    GetPluginInfoRequest GetPluginCapabilitiesRequest ProbeRequest ControllerGetCapabilitiesRequest
    GroupControllerGetCapabilitiesRequest NodeGetCapabilitiesRequest NodeGetInfoRequest
}

/// The message in `field`, if it is there.
fn inside<M: Validate>(field: &str, message: &Option<M>) -> Verdict {
    message.as_ref().map_or(Ok(()), |message| message.validate().map_err(|e| e.within(field)))
}

fn out_of_range(field: &str, message: String) -> Failure {
    Failure { code: grpc::Code::OutOfRange, field: Some(field.into()), message }
}

/// A path of the caller's, of which it is only seen whether it is one where the volume is.
fn present(field: &str, value: &str) -> Verdict {
    if value.is_empty() { Err(Failure::invalid(field, "is empty; it must be set")) } else { Ok(()) }
}

/// Each message of a list.
fn each<M: Validate>(field: &str, list: &[M]) -> Verdict {
    list.iter()
        .enumerate()
        .try_for_each(|(at, message)| message.validate().map_err(|e| e.within(&format!("{field}[{at}]"))))
}

/// Ways of using a volume, of which there must be one.
fn capabilities(field: &str, list: &[VolumeCapability]) -> Verdict {
    if list.is_empty() {
        return Err(Failure::invalid(field, "is empty; say how the volume will be used"));
    }
    each(field, list)
}

impl Validate for VolumeCapability {
    fn validate(&self) -> Verdict {
        let mode = required("access_mode", &self.access_mode)?.mode;
        match Mode::try_from(mode) {
            Ok(Mode::Unknown) => {
                return Err(Failure::invalid("access_mode.mode", "is UNKNOWN; it must be set"));
            }
            Ok(_) => {}
            Err(_) => {
                let rule = "is no mode that this driver knows; it may come from a newer CSI";
                return Err(Failure::invalid("access_mode.mode", format!("{mode} {rule}")));
            }
        }
        match &self.access_type {
            None => Err(Failure::invalid("access_type", "is missing; say block or mount")),
            Some(AccessType::Block(_)) => Ok(()),
            Some(AccessType::Mount(mount)) => {
                optional_id("mount.fs_type", &mount.fs_type)?;
                mount_flags("mount.mount_flags", &mount.mount_flags)?;
                let group = &mount.volume_mount_group;
                if !group.is_empty() && group.parse::<u32>().is_err() {
                    let rule = "is no group: write its number";
                    return Err(Failure::invalid(
                        "mount.volume_mount_group",
                        format!("{} {rule}", shown(group)),
                    ));
                }
                Ok(())
            }
        }
    }
}

impl Validate for CapacityRange {
    fn validate(&self) -> Verdict {
        not_negative("required_bytes", self.required_bytes)?;
        not_negative("limit_bytes", self.limit_bytes)?;
        let (required, limit) = (self.required_bytes, self.limit_bytes);
        if limit > 0 && required > limit {
            return Err(out_of_range(
                "required_bytes",
                format!("{required} is more than limit_bytes, {limit}"),
            ));
        }
        Ok(())
    }
}

impl Validate for VolumeContentSource {
    fn validate(&self) -> Verdict {
        match &self.r#type {
            None => Err(Failure::invalid("type", "is missing; say snapshot or volume")),
            Some(volume_content_source::Type::Snapshot(source)) => {
                id("snapshot.snapshot_id", &source.snapshot_id)
            }
            Some(volume_content_source::Type::Volume(source)) => id("volume.volume_id", &source.volume_id),
        }
    }
}

impl Validate for TopologyRequirement {
    fn validate(&self) -> Verdict {
        each("requisite", &self.requisite)?;
        each("preferred", &self.preferred)
    }
}

impl Validate for Topology {
    fn validate(&self) -> Verdict {
        map("segments", &self.segments)
    }
}

impl Validate for CreateVolumeRequest {
    fn validate(&self) -> Verdict {
        name("name", &self.name)?;
        inside("capacity_range", &self.capacity_range)?;
        capabilities("volume_capabilities", &self.volume_capabilities)?;
        map("parameters", &self.parameters)?;
        map("secrets", &self.secrets)?;
        inside("volume_content_source", &self.volume_content_source)?;
        inside("accessibility_requirements", &self.accessibility_requirements)?;
        map("mutable_parameters", &self.mutable_parameters)
    }
}

impl Validate for DeleteVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        map("secrets", &self.secrets)
    }
}

/// The longest id of a node is longer than other ids.
fn node(field: &str, value: &str) -> Verdict {
    if value.len() > super::text::NODE {
        return Err(Failure::invalid(field, format!("has {} bytes, 256 is the most", value.len())));
    }
    Ok(())
}

impl Validate for ControllerPublishVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        if self.node_id.is_empty() {
            return Err(Failure::invalid("node_id", "is empty; it must be set"));
        }
        node("node_id", &self.node_id)?;
        required("volume_capability", &self.volume_capability)?;
        inside("volume_capability", &self.volume_capability)?;
        map("secrets", &self.secrets)?;
        map("volume_context", &self.volume_context)
    }
}

impl Validate for ControllerUnpublishVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        node("node_id", &self.node_id)?;
        map("secrets", &self.secrets)
    }
}

impl Validate for ValidateVolumeCapabilitiesRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        capabilities("volume_capabilities", &self.volume_capabilities)?;
        map("volume_context", &self.volume_context)?;
        map("parameters", &self.parameters)?;
        map("secrets", &self.secrets)?;
        map("mutable_parameters", &self.mutable_parameters)
    }
}

impl Validate for ListVolumesRequest {
    fn validate(&self) -> Verdict {
        not_negative("max_entries", self.max_entries.into())
    }
}

impl Validate for ControllerGetVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)
    }
}

impl Validate for ControllerModifyVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        map("secrets", &self.secrets)?;
        map("mutable_parameters", &self.mutable_parameters)
    }
}

impl Validate for GetCapacityRequest {
    fn validate(&self) -> Verdict {
        each("volume_capabilities", &self.volume_capabilities)?;
        map("parameters", &self.parameters)?;
        inside("accessible_topology", &self.accessible_topology)
    }
}

impl Validate for CreateSnapshotRequest {
    fn validate(&self) -> Verdict {
        id("source_volume_id", &self.source_volume_id)?;
        name("name", &self.name)?;
        map("secrets", &self.secrets)?;
        map("parameters", &self.parameters)
    }
}

impl Validate for DeleteSnapshotRequest {
    fn validate(&self) -> Verdict {
        id("snapshot_id", &self.snapshot_id)?;
        map("secrets", &self.secrets)
    }
}

impl Validate for ListSnapshotsRequest {
    fn validate(&self) -> Verdict {
        not_negative("max_entries", self.max_entries.into())?;
        optional_id("source_volume_id", &self.source_volume_id)?;
        optional_id("snapshot_id", &self.snapshot_id)?;
        map("secrets", &self.secrets)
    }
}

impl Validate for GetSnapshotRequest {
    fn validate(&self) -> Verdict {
        id("snapshot_id", &self.snapshot_id)?;
        map("secrets", &self.secrets)
    }
}

impl Validate for ControllerExpandVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        required("capacity_range", &self.capacity_range)?;
        inside("capacity_range", &self.capacity_range)?;
        map("secrets", &self.secrets)?;
        inside("volume_capability", &self.volume_capability)
    }
}

impl Validate for NodeStageVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        path("staging_target_path", &self.staging_target_path)?;
        required("volume_capability", &self.volume_capability)?;
        inside("volume_capability", &self.volume_capability)?;
        map("publish_context", &self.publish_context)?;
        map("secrets", &self.secrets)?;
        map("volume_context", &self.volume_context)
    }
}

impl Validate for NodeUnstageVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        path("staging_target_path", &self.staging_target_path)
    }
}

impl Validate for NodePublishVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        optional_path("staging_target_path", &self.staging_target_path)?;
        path("target_path", &self.target_path)?;
        required("volume_capability", &self.volume_capability)?;
        inside("volume_capability", &self.volume_capability)?;
        map("publish_context", &self.publish_context)?;
        map("secrets", &self.secrets)?;
        map("volume_context", &self.volume_context)
    }
}

impl Validate for NodeUnpublishVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        path("target_path", &self.target_path)
    }
}

impl Validate for NodeGetVolumeStatsRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        present("volume_path", &self.volume_path)?;
        optional_path("staging_target_path", &self.staging_target_path)
    }
}

impl Validate for NodeExpandVolumeRequest {
    fn validate(&self) -> Verdict {
        id("volume_id", &self.volume_id)?;
        present("volume_path", &self.volume_path)?;
        inside("capacity_range", &self.capacity_range)?;
        optional_path("staging_target_path", &self.staging_target_path)?;
        inside("volume_capability", &self.volume_capability)?;
        map("secrets", &self.secrets)
    }
}

/// Ids of a list, of which there must be one.
fn ids(field: &str, list: &[String]) -> Verdict {
    if list.is_empty() {
        return Err(Failure::invalid(field, "is empty; it must be set"));
    }
    list.iter().enumerate().try_for_each(|(at, value)| id(&format!("{field}[{at}]"), value))
}

impl Validate for CreateVolumeGroupSnapshotRequest {
    fn validate(&self) -> Verdict {
        name("name", &self.name)?;
        ids("source_volume_ids", &self.source_volume_ids)?;
        map("secrets", &self.secrets)?;
        map("parameters", &self.parameters)
    }
}

impl Validate for DeleteVolumeGroupSnapshotRequest {
    fn validate(&self) -> Verdict {
        id("group_snapshot_id", &self.group_snapshot_id)?;
        map("secrets", &self.secrets)
    }
}

impl Validate for GetVolumeGroupSnapshotRequest {
    fn validate(&self) -> Verdict {
        id("group_snapshot_id", &self.group_snapshot_id)?;
        map("secrets", &self.secrets)
    }
}

/// Where in a snapshot to begin, and how much to tell at once.
fn ranges(offset: i64, most: i32) -> Verdict {
    if offset < 0 {
        return Err(out_of_range("starting_offset", format!("{offset} is negative")));
    }
    not_negative("max_results", most.into())
}

impl Validate for GetMetadataAllocatedRequest {
    fn validate(&self) -> Verdict {
        id("snapshot_id", &self.snapshot_id)?;
        ranges(self.starting_offset, self.max_results)?;
        map("secrets", &self.secrets)
    }
}

impl Validate for GetMetadataDeltaRequest {
    fn validate(&self) -> Verdict {
        id("base_snapshot_id", &self.base_snapshot_id)?;
        id("target_snapshot_id", &self.target_snapshot_id)?;
        ranges(self.starting_offset, self.max_results)?;
        map("secrets", &self.secrets)
    }
}
