//! Where the bytes of a btrfs are: groups of blocks by what they are for, and what no group has yet.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Opcode, opcode};

use super::{BTRFS, file_system};
use crate::{Act, Result};

/// What groups of blocks are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Contents of files.
    Data,
    /// Trees.
    Metadata,
    /// Both: small file systems.
    Mixed,
    /// What metadata keeps for the worst case, out of its own.
    Reserve,
    /// The file system's map of its devices.
    System,
}

/// Groups of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What they are for.
    pub kind: Kind,
    /// Bytes that they have.
    pub total: u64,
    /// Bytes of them that are used.
    pub used: u64,
    /// How many bytes of the devices a byte takes, in quarters: copies, parity.
    pub quarters: u64,
    /// On how many devices a group is at least.
    pub devices: u64,
}

/// All bytes of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spaces {
    /// By kind, and by how they are kept.
    pub groups: Vec<Space>,
    /// Bytes that no group has, of each device.
    pub unallocated: Vec<u64>,
}

impl Spaces {
    /// Bytes that no group has and one can get, where each wants as much of so many devices: of a device that is larger than
    /// all others together only as much as those have.
    #[must_use]
    pub fn allocatable(&self, devices: u64) -> u64 {
        let at_most = |most: u64| self.unallocated.iter().map(|&bytes| bytes.min(most)).sum::<u64>();
        // No device has more of any group than that group is long.
        let (mut low, mut high) = (0, at_most(u64::MAX) / devices.max(1));
        while low < high {
            let middle = high - (high - low) / 2;
            if at_most(middle) / devices.max(1) >= middle { low = middle } else { high = middle - 1 }
        }
        at_most(low)
    }
}

const SLOTS: usize = 32;

/// `struct btrfs_ioctl_space_info`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    flags: u64,
    total: u64,
    used: u64,
}

/// `struct btrfs_ioctl_space_args` without its room.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    slots: u64,
    found: u64,
}

#[repr(C)]
struct Asked {
    header: Header,
    slots: [Slot; SLOTS],
}

const SPACE_INFO: Opcode = opcode::read_write::<Header>(BTRFS, 20);

const DATA: u64 = 1 << 0;
const METADATA: u64 = 1 << 2;
const RESERVE: u64 = 1 << 49;
const RAID0: u64 = 1 << 3;
const RAID1: u64 = 1 << 4;
const DUP: u64 = 1 << 5;
const RAID10: u64 = 1 << 6;
const RAID5: u64 = 1 << 7;
const RAID6: u64 = 1 << 8;
const RAID1C3: u64 = 1 << 9;
const RAID1C4: u64 = 1 << 10;

/// How many quarters of a byte a byte takes on so many devices.
fn quarters(flags: u64, devices: u64) -> u64 {
    let parity = |lost: u64| (4 * devices).div_ceil(devices.saturating_sub(lost).max(1));
    match flags & (RAID0 | RAID1 | DUP | RAID10 | RAID5 | RAID6 | RAID1C3 | RAID1C4) {
        RAID1 | DUP | RAID10 => 8,
        RAID1C3 => 12,
        RAID1C4 => 16,
        RAID5 => parity(1),
        RAID6 => parity(2),
        _ => 4,
    }
}

/// On how many devices groups of blocks are at least.
fn devices(flags: u64) -> u64 {
    match flags & (RAID1 | RAID10 | RAID5 | RAID6 | RAID1C3 | RAID1C4) {
        RAID1 | RAID10 | RAID5 => 2,
        RAID6 | RAID1C3 => 3,
        RAID1C4 => 4,
        _ => 1,
    }
}

impl Slot {
    fn told(&self, all: u64) -> Space {
        let kind = match self.flags {
            flags if flags & RESERVE != 0 => Kind::Reserve,
            flags if flags & (DATA | METADATA) == DATA | METADATA => Kind::Mixed,
            flags if flags & DATA != 0 => Kind::Data,
            flags if flags & METADATA != 0 => Kind::Metadata,
            _ => Kind::System,
        };
        let (quarters, devices) = (quarters(self.flags, all), devices(self.flags));
        Space { kind, total: self.total, used: self.used, quarters, devices }
    }
}

/// Where the bytes of the mounted btrfs are that `directory` is on.
///
/// # Errors
/// `ENOTTY` where it is none.
pub fn spaces(directory: impl AsFd) -> Result<Spaces> {
    let object = || "how full a btrfs file system is";
    let told = file_system(&directory).act("read", object)?;
    let empty = Slot { flags: 0, total: 0, used: 0 };
    let mut asked =
        Box::new(Asked { header: Header { slots: SLOTS as u64, found: 0 }, slots: [empty; SLOTS] });
    // SAFETY: the request's own header, followed by room for as many as it says; live for the call.
    let rc = unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), SPACE_INFO as _, &raw mut *asked) };
    let done = if rc < 0 { Err(crate::process::last_errno()) } else { Ok(()) };
    done.act("read", object)?;
    let found = usize::try_from(asked.header.found).unwrap_or(SLOTS).min(SLOTS);
    let groups = asked.slots[..found].iter().map(|slot| slot.told(told.devices)).collect();
    let mut unallocated = Vec::new();
    for number in 1..=told.last_device {
        match crate::grow::btrfs_device_bytes(&directory, number) {
            Ok((total, used)) => unallocated.push(total.saturating_sub(used)),
            // Numbers of devices that were removed are not given again.
            Err(error) if error.errno() == Some(Errno::NODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Spaces { groups, unallocated })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_takes_as_many_as_its_copies() {
        for (flags, devices, wanted) in
            [(DATA, 1, 4), (METADATA | DUP, 1, 8), (DATA | RAID1C3, 3, 12), (RAID5, 3, 6), (RAID6, 4, 8)]
        {
            assert_eq!(quarters(flags, devices), wanted, "{flags:#x}");
        }
    }

    #[test]
    fn copies_are_on_devices_of_their_own() {
        for (unallocated, devices, wanted) in [
            (vec![10, 40], 1, 50),
            (vec![10, 40], 2, 20),
            (vec![10, 10, 40], 2, 40),
            (vec![30, 30, 30], 2, 90),
            (vec![30, 30, 30, 10], 3, 100),
            (vec![50, 40, 10], 3, 30),
            (vec![40], 2, 0),
            (vec![], 1, 0),
        ] {
            let spaces = Spaces { groups: Vec::new(), unallocated };
            assert_eq!(spaces.allocatable(devices), wanted, "{spaces:?} {devices}");
        }
    }
}
