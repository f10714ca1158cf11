//! How large an image is for its file system to have a capacity, and the other way round.
//!
//! What counts is what a user can write into the empty file system (`f_bavail`): at least the capacity, at most 5 % more. The
//! figures are of mkfs with the options in `program.rs`; a test compares them with what the kernel says.

use super::kind::Kind;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
pub(in crate::plugin::backend) const BLOCK: u64 = 4096;

/// The log of any xfs: what mkfs takes at least.
pub(in crate::plugin::backend) const XFS_LOG: u64 = 64 * MIB;
/// Below this capacity a btrfs has data and metadata in the same groups: a metadata group of its own would be more than 5 %.
pub(in crate::plugin::backend) const BTRFS_MIXED_BELOW: u64 = 8 * GIB;

impl Kind {
    /// The smallest capacity: below it what the file system needs for itself is too large a part to tell within 5 %, or mkfs
    /// refuses, or the kernel to grow it (btrfs).
    pub(in crate::plugin::backend) fn least(self) -> u64 {
        match self {
            Kind::Block => MIB,
            Kind::Ext4 => 16 * MIB,
            Kind::Xfs => 256 * MIB,
            Kind::Btrfs => 256 * MIB,
        }
    }

    /// The bytes of an image for a capacity, a whole number of blocks.
    pub(in crate::plugin::backend) fn image(self, capacity: u64) -> u64 {
        let whole = |bytes: u64| bytes.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX - BLOCK + 1);
        if self == Kind::Block {
            return whole(capacity);
        }
        let capacity = capacity.max(self.least());
        let wanted = capacity.saturating_add(self.spare(capacity));
        let (mut low, mut high) = (capacity / BLOCK, capacity.saturating_mul(2) / BLOCK + GIB / BLOCK);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.available(middle.saturating_mul(BLOCK), capacity) >= wanted {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low.saturating_mul(BLOCK)
    }

    /// The largest capacity whose image has at most these bytes; 0 where there is none.
    pub(in crate::plugin::backend) fn fits(self, bytes: u64) -> u64 {
        if self.image(self.least()) > bytes {
            return 0;
        }
        // An image is never smaller than its capacity.
        let (mut low, mut high) = (self.least(), bytes);
        while low < high {
            let middle = high - (high - low) / 2;
            if self.image(middle) <= bytes {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        low
    }

    /// What is added to a capacity for what the file system needs to know of the data in it.
    fn spare(self, capacity: u64) -> u64 {
        match self {
            Kind::Block => 0,
            Kind::Ext4 | Kind::Xfs => capacity / 256 + 128 * KIB,
            Kind::Btrfs if capacity < BTRFS_MIXED_BELOW => capacity / 200 + 2 * MIB,
            // A group of metadata more than the first, and checksums.
            Kind::Btrfs if capacity < 50 * GIB => 256 * MIB + capacity / 500,
            Kind::Btrfs => GIB + capacity / 500,
        }
    }

    /// What an image of `bytes` that was made for `capacity` has for its user.
    fn available(self, bytes: u64, capacity: u64) -> u64 {
        let own = match self {
            Kind::Block => 0,
            Kind::Ext4 => ext4_journal(capacity) + (bytes / 50).min(16 * MIB) + ext4_tables(bytes),
            // The log, blocks in reserve, and what the groups keep for their trees.
            Kind::Xfs => XFS_LOG + (bytes / 20).min(32 * MIB) + bytes / 133 + MIB,
            Kind::Btrfs if capacity < BTRFS_MIXED_BELOW => 7 * MIB,
            Kind::Btrfs => 14 * MIB,
        };
        bytes.saturating_sub(own)
    }
}

/// The journal of an ext4 of a capacity, in bytes.
pub(in crate::plugin::backend) fn ext4_journal(capacity: u64) -> u64 {
    match capacity {
        0..0x800_0000 => 4 * MIB,
        0x800_0000..0x4000_0000 => 16 * MIB,
        _ => 64 * MIB,
    }
}

/// Inode tables, bitmaps and group descriptors, with the room that these have to grow in.
fn ext4_tables(bytes: u64) -> u64 {
    let groups = bytes.div_ceil(128 * MIB);
    let descriptors = groups.div_ceil(64) + (16 * groups).min(1024);
    let powers = |base: u64| std::iter::successors(Some(base), move |n| n.checked_mul(base));
    let copies = [3, 5, 7]
        .into_iter()
        .map(|base| powers(base).take_while(|&n| n < groups).count() as u64)
        .sum::<u64>();
    // The first group and the second have one.
    let copies = copies + groups.min(2);
    bytes / 64 + groups * 3 * BLOCK + copies * descriptors * BLOCK + 128 * KIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_grows_with_its_capacity_and_fits_is_the_inverse() {
        for kind in [Kind::Block, Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
            let mut last = 0;
            for capacity in (0..60).map(|n| kind.least() + n * n * n * 7_340_033) {
                let image = kind.image(capacity);
                assert!(image >= capacity && image % BLOCK == 0, "{kind:?} {capacity}: {image}");
                assert!(image >= last, "{kind:?} {capacity}: {image} after {last}");
                last = image;
                let fits = kind.fits(image);
                assert!(fits >= capacity && kind.image(fits) <= image, "{kind:?} {capacity}: {fits}");
                assert!(kind.fits(image - 1) < capacity, "{kind:?} {capacity}");
            }
            assert_eq!(kind.fits(0), 0);
            assert_eq!(kind.fits(kind.image(kind.least()) - 1), 0, "{kind:?}");
            // Nonsense does not panic.
            assert!(kind.image(u64::MAX) > 0);
        }
    }
}
