//! What a volume has in it.

use grpc::Failure;

use crate::plugin::pool::record::Volume;

/// What is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::backend) enum Kind {
    Block,
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub(in crate::plugin::backend) fn of(block: bool, fs_type: &str) -> Option<Kind> {
        match fs_type {
            _ if block => Some(Kind::Block),
            "ext4" => Some(Kind::Ext4),
            "xfs" => Some(Kind::Xfs),
            "btrfs" => Some(Kind::Btrfs),
            _ => None,
        }
    }

    pub(in crate::plugin::backend) fn in_volume(volume: &Volume) -> Result<Kind, Failure> {
        Kind::of(volume.block, &volume.fs_type).ok_or_else(|| {
            Failure::internal(format!(
                "volume {} has the unknown file system {:?}",
                volume.id, volume.fs_type
            ))
        })
    }

    pub(in crate::plugin::backend) fn name(self) -> &'static str {
        match self {
            Kind::Block => "",
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        }
    }
}
