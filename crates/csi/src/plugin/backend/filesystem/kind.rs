//! What a volume has in it.

use grpc::Failure;

use crate::plugin::backend::Wish;
use crate::plugin::backend::encryption::Encryption;
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

    /// That of a copy, which is as its origin is.
    ///
    /// # Errors
    /// `InvalidArgument` where it would not be.
    pub(in crate::plugin::backend) fn of_copy(volume: &Volume, origin: &Volume) -> Result<Kind, Failure> {
        let kind = Kind::in_volume(volume)?;
        if kind == Kind::in_volume(origin)? && Encryption::of(volume) == Encryption::of(origin) {
            return Ok(kind);
        }
        let message = format!("a copy has the file system and the encryption of its origin, {}", origin.id);
        Err(Failure::invalid("volume_content_source", message))
    }

    /// Refuses a file system that is none of these.
    ///
    /// # Errors
    /// `InvalidArgument` that names it.
    pub(in crate::plugin::backend) fn accepts(wish: &Wish) -> Result<(), Failure> {
        if wish.fs_type.is_empty() || Kind::of(wish.block, &wish.fs_type).is_some() {
            return Ok(());
        }
        let message = format!("{:?} cannot be had: write ext4, xfs or btrfs", wish.fs_type);
        Err(Failure::invalid("fs_type", message))
    }

    /// Refuses a volume that is no block device.
    ///
    /// # Errors
    /// Its file system is mounted, and no device of it given away.
    pub(in crate::plugin::backend) fn is_block(volume: &Volume) -> Result<(), Failure> {
        if volume.block {
            return Ok(());
        }
        Err(Failure::internal(format!("volume {} has a file system and is no device", volume.id)))
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
