//! Messages that hold secrets are not printed whole.

use std::collections::BTreeMap;
use std::fmt;

use super::v1::*;

/// The keys of secrets, without what they are.
struct Hidden<'a>(&'a BTreeMap<String, String>);

impl fmt::Debug for Hidden<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.keys().map(|key| (key, "(hidden)"))).finish()
    }
}

macro_rules! hidden_in {
    ($($message:ident { $($field:ident)* })*) => {
        $(impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))*
                    .field("secrets", &Hidden(&self.secrets))
                    .finish()
            }
        })*
    };
}

hidden_in! {
    CreateVolumeRequest { name capacity_range volume_capabilities parameters volume_content_source accessibility_requirements mutable_parameters }
    DeleteVolumeRequest { volume_id }
    ControllerPublishVolumeRequest { volume_id node_id volume_capability readonly volume_context }
    ControllerUnpublishVolumeRequest { volume_id node_id }
    ValidateVolumeCapabilitiesRequest { volume_id volume_context volume_capabilities parameters mutable_parameters }
    ControllerModifyVolumeRequest { volume_id mutable_parameters }
    CreateSnapshotRequest { source_volume_id name parameters }
    DeleteSnapshotRequest { snapshot_id }
    ListSnapshotsRequest { max_entries starting_token source_volume_id snapshot_id }
    GetSnapshotRequest { snapshot_id }
    ControllerExpandVolumeRequest { volume_id capacity_range volume_capability }
    NodeStageVolumeRequest { volume_id publish_context staging_target_path volume_capability volume_context }
    NodePublishVolumeRequest { volume_id publish_context staging_target_path target_path volume_capability readonly volume_context }
    NodeExpandVolumeRequest { volume_id volume_path capacity_range staging_target_path volume_capability }
    CreateVolumeGroupSnapshotRequest { name source_volume_ids parameters }
    DeleteVolumeGroupSnapshotRequest { group_snapshot_id snapshot_ids }
    GetVolumeGroupSnapshotRequest { group_snapshot_id snapshot_ids }
    GetMetadataAllocatedRequest { snapshot_id starting_offset max_results }
    GetMetadataDeltaRequest { base_snapshot_id target_snapshot_id starting_offset max_results }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let secrets = BTreeMap::from([("passphrase".to_owned(), "hunter2".to_owned())]);
        let request = NodeStageVolumeRequest { volume_id: "v".into(), secrets, ..Default::default() };
        let printed = format!("{request:?}");
        assert!(printed.contains("passphrase") && printed.contains("\"v\""), "{printed}");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
