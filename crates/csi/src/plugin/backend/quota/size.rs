//! Limits by capacity, and what they take of a pool.

use std::path::Path;

use grpc::Failure;
use kernel::quota::Quota;

/// What statfs(2) calls the file systems.
const EXT4_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;

const BLOCK: u64 = 4096;
/// What of its capacity a volume may have beyond, for directories and attributes, which count as data do: a fiftieth.
const BEYOND: u64 = 50;
/// Bytes for each inode, as mkfs.ext4 has it.
const PER_INODE: u64 = 16 << 10;
/// The directory and the record of a volume, which are of no project.
pub(super) const PLACE: u64 = 16 << 10;
/// What an inode of xfs takes, which is made where it is needed and counted for nobody.
const XFS_INODE: u64 = 512;

/// The file system of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Has as many inodes as it was made with, for as many bytes.
    Ext4 {
        inodes: u64,
        bytes: u64,
    },
    Xfs,
}

/// What a project may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
}

impl Limits {
    /// xfs wants all that a step may need at most to be there before it begins; and what is copied may change meanwhile.
    pub(super) fn while_copied(self) -> Limits {
        let more = (self.bytes / 16).max(8 << 20);
        Limits { bytes: self.bytes.saturating_add(more), inodes: self.inodes.saturating_add(1024) }
    }
}

impl Shape {
    /// Looks what a pool is on.
    ///
    /// # Errors
    /// Neither of them; or it cannot be asked.
    pub(super) fn of(pool: &Path) -> Result<Shape, Failure> {
        let failed = |e| Failure::internal(format!("cannot ask how large {} is: {e}", pool.display()));
        // Its type has another size, and may have a sign, on other machines.
        match rustix::fs::statfs(pool).map_err(failed)?.f_type as u64 & 0xffff_ffff {
            EXT4_MAGIC => {
                let told = rustix::fs::statvfs(pool).map_err(failed)?;
                Ok(Shape::Ext4 { inodes: told.f_files, bytes: told.f_blocks * told.f_frsize })
            }
            XFS_MAGIC => Ok(Shape::Xfs),
            _ => {
                let hint = "give the pool one of them, or take the backend image";
                let message = format!("{} is neither on ext4 nor on xfs: {hint}", pool.display());
                Err(Failure::precondition(format!("quotas of projects cannot be had: {message}")))
            }
        }
    }

    /// Whether copies may share blocks.
    pub(super) fn shares_blocks(self) -> bool {
        self == Shape::Xfs
    }

    /// What brings project quotas into force.
    pub(super) fn how_to_enforce(self) -> &'static str {
        match self {
            Shape::Ext4 { .. } => {
                "unmount it, run `tune2fs -O project,quota` on its device, and mount it with `-o prjquota`; the kernel \
                 needs CONFIG_QFMT_V2 (its module is quota_v2)"
            }
            Shape::Xfs => {
                "unmount it, and mount it with `-o prjquota` (the root: boot with `rootflags=prjquota`); the kernel needs \
                 CONFIG_XFS_QUOTA"
            }
        }
    }

    /// The smallest capacity. xfs refuses a new file where not all is left that making one may need at most.
    pub(super) fn least(self) -> u64 {
        match self {
            Shape::Ext4 { .. } => 1 << 20,
            Shape::Xfs => 16 << 20,
        }
    }

    /// What a volume of this capacity may have.
    pub(super) fn limits(self, capacity: u64) -> Limits {
        let bytes = capacity.saturating_add(capacity / BEYOND);
        let inodes = capacity / PER_INODE;
        let inodes = match self {
            // All volumes together have no more than there are.
            Shape::Ext4 { inodes: all, bytes: size } => {
                let share = u128::from(all) * u128::from(capacity) / u128::from(size.max(1));
                inodes.min(u64::try_from(share).unwrap_or(u64::MAX))
            }
            Shape::Xfs => inodes,
        };
        let bytes = bytes.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX);
        Limits { bytes, inodes: inodes.max(16) }
    }

    /// What it takes of the pool then.
    pub(super) fn taken(self, capacity: u64) -> u64 {
        let Limits { bytes, inodes } = self.limits(capacity);
        bytes.saturating_add(self.of_inodes(inodes)).saturating_add(PLACE)
    }

    /// The largest capacity that takes no more than `bytes`.
    pub(super) fn fits(self, bytes: u64) -> u64 {
        let (mut good, mut bad) = (0, bytes.saturating_add(1));
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.taken(middle) <= bytes { good = middle } else { bad = middle }
        }
        good
    }

    /// What a project has of the pool.
    pub(super) fn allocated(self, quota: &Quota) -> u64 {
        quota.bytes.saturating_add(self.of_inodes(quota.inodes))
    }

    fn of_inodes(self, inodes: u64) -> u64 {
        match self {
            Shape::Ext4 { .. } => 0,
            Shape::Xfs => inodes.saturating_mul(XFS_INODE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_takes_no_more_and_is_the_most() {
        let shapes = [Shape::Xfs, Shape::Ext4 { inodes: 1000, bytes: 1 << 30 }];
        for shape in shapes {
            for bytes in [0, 1, 4096, 1 << 20, 123_456_789, 1 << 40, u64::MAX / 2] {
                let fits = shape.fits(bytes);
                assert!(shape.taken(fits) <= bytes || fits == 0, "{shape:?} {bytes} {fits}");
                assert!(shape.taken(fits + 1) > bytes, "{shape:?} {bytes} {fits}");
            }
            for capacity in [shape.least(), 1 << 30, 12_345_678_901] {
                let limits = shape.limits(capacity);
                assert!((capacity..=capacity + capacity / 20).contains(&limits.bytes), "{limits:?}");
            }
        }
    }

    #[test]
    fn inodes_are_shared_as_bytes_are() {
        let sparse = Shape::Ext4 { inodes: 1000, bytes: 1 << 30 };
        assert_eq!(sparse.limits(1 << 29).inodes, 500);
        let usual = Shape::Ext4 { inodes: 1 << 16, bytes: 1 << 30 };
        assert_eq!(usual.limits(1 << 29).inodes, 1 << 15);
        assert_eq!(Shape::Xfs.limits(1 << 29).inodes, 1 << 15);
    }
}
