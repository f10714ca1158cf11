//! How much a quota group may have for a volume to have its capacity, and how much a pool has for volumes.
//!
//! A group counts the data and the subvolume's own tree. That tree has a leaf for some 170 extents: 0.15 % where 64 KiB are
//! synced at a time, 2 % where 4 KiB are. Measured on Linux 6.18; a test writes both ways.

use kernel::btrfs::{Kind, Spaces};

use super::Space;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// The smallest capacity: below it the tree's least is too large a part to stay within 5 %.
pub(super) const LEAST: u64 = 16 * MIB;
/// Of so many bytes of data one more is needed for trees: extents of 4 KiB need most.
const TREES: u64 = 25;
/// Of so many bytes one is never promised: a btrfs that is full to the last byte cannot write anew what it would have changed.
const KEPT: u64 = 64;

/// What a quota group may have, for a capacity.
pub(super) fn limit(capacity: u64) -> u64 {
    let capacity = capacity.max(LEAST);
    capacity.saturating_add(capacity / 32).saturating_add(128 * KIB)
}

/// The largest capacity whose group has at most these bytes; 0 where there is none.
pub(super) fn fits(bytes: u64) -> u64 {
    if limit(LEAST) > bytes {
        return 0;
    }
    // Rounding may leave a byte or two more.
    let mut capacity = (bytes - 128 * KIB) / 33 * 32;
    while limit(capacity + 1) <= bytes {
        capacity += 1;
    }
    capacity
}

/// What a file system has for data: what groups of blocks for data have, and what is allocated to none once the trees of a
/// file system full of data have their part.
pub(super) fn space(spaces: &Spaces) -> Space {
    let of = |kind: Kind| spaces.groups.iter().filter(move |group| group.kind == kind);
    let sum = |kind: Kind| of(kind).map(|group| group.total).sum::<u64>();
    let reserve = sum(Kind::Reserve);
    // The dearest way that there is.
    let quarters = |kind: Kind| of(kind).map(|group| group.quarters).max().unwrap_or(4);
    // What is on several devices has no use for what one of them alone has left.
    let unallocated = |kind: Kind| spaces.allocatable(of(kind).map(|group| group.devices).max().unwrap_or(1));
    let mixed = sum(Kind::Mixed);
    if mixed > 0 {
        let whole = mixed + unallocated(Kind::Mixed) * 4 / quarters(Kind::Mixed);
        let size = (whole - whole / TREES - whole / KEPT).saturating_sub(reserve);
        let used: u64 = of(Kind::Mixed).map(|group| group.used).sum();
        return Space { free: size.saturating_sub(used), size };
    }
    let (has, trees) = (sum(Kind::Data), sum(Kind::Metadata));
    let (data, metadata) = (quarters(Kind::Data), quarters(Kind::Metadata));
    let (all, for_trees) = (unallocated(Kind::Data), unallocated(Kind::Metadata));
    // Of what is not allocated data gets so much that all data leave as much as their trees need: the largest of these is had
    // by halving, as what is needed grows with it.
    let (mut low, mut high) = (0, all * 4 / data);
    while low < high {
        let middle = high - (high - low) / 2;
        let needed = ((has + middle) / TREES + reserve).saturating_sub(trees) * metadata / 4;
        if needed <= for_trees && middle * data / 4 + needed <= all {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let size = has + low - (has + low) / KEPT;
    let used: u64 = of(Kind::Data).map(|group| group.used).sum();
    Space { free: size.saturating_sub(used), size }
}

#[cfg(test)]
mod tests {
    use kernel::btrfs::Space as Groups;

    use super::*;

    #[test]
    fn a_limit_is_within_five_percent_and_fits_is_the_inverse() {
        for capacity in (0..60).map(|n| LEAST + n * n * n * 7_340_033) {
            let bytes = limit(capacity);
            assert!(bytes > capacity && bytes <= capacity + capacity / 20, "{capacity}: {bytes}");
            assert!(fits(bytes) >= capacity && fits(bytes - 1) < capacity, "{capacity}: {}", fits(bytes));
        }
        assert_eq!((fits(0), fits(limit(LEAST) - 1), limit(0)), (0, 0, limit(LEAST)));
        assert!(limit(u64::MAX) > 0);
    }

    #[test]
    fn trees_have_their_part_of_a_pool() {
        let group = |kind, total, used, quarters| Groups { kind, total, used, quarters, devices: 1 };
        let groups = vec![
            group(Kind::Data, 64 * MIB, 16 * MIB, 4),
            group(Kind::Metadata, 64 * MIB, MIB, 8),
            group(Kind::Reserve, 4 * MIB, 0, 4),
        ];
        let told = space(&Spaces { groups, unallocated: vec![] });
        assert_eq!(told, Space { free: 47 * MIB, size: 63 * MIB });
        let groups = vec![group(Kind::Data, 0, 0, 4), group(Kind::Metadata, 0, 0, 8)];
        let told = space(&Spaces { groups, unallocated: vec![1080 * MIB] });
        assert!((983 * MIB..=985 * MIB).contains(&told.size), "{told:?}");
        let groups = vec![group(Kind::Mixed, 1600 * MIB, 10 * MIB, 4)];
        let told = space(&Spaces { groups, unallocated: vec![] });
        assert_eq!(told, Space { free: 1501 * MIB, size: 1511 * MIB });
    }

    #[test]
    fn what_is_mirrored_has_no_use_for_one_device_alone() {
        let size = |data, unallocated| {
            let group =
                |kind, copies| Groups { kind, total: 0, used: 0, quarters: 4 * copies, devices: copies };
            let groups = vec![group(Kind::Data, data), group(Kind::Metadata, 2)];
            space(&Spaces { groups, unallocated }).size / MIB
        };
        assert!((1000..=1080).contains(&size(2, vec![1080 * MIB, 9000 * MIB])));
        // Trees alone, as mkfs has it.
        assert!((9000..=10_080).contains(&size(1, vec![1080 * MIB, 9000 * MIB])));
        assert!((1200..=1250).contains(&size(1, vec![50 * MIB, 9000 * MIB])));
    }
}
