//! Block devices: how large one is.

use std::os::fd::AsFd;

use rustix::ioctl::{Getter, ioctl, opcode};

use crate::{Act, Result};

/// `BLKGETSIZE64`, whose number was made of the size of a `size_t`.
const BLKGETSIZE64: u32 = opcode::read::<usize>(0x12, 114);

/// The size of the block device that `device` is open at, in bytes.
///
/// # Errors
/// `ENOTTY` where it is no block device.
pub fn size(device: impl AsFd) -> Result<u64> {
    // SAFETY: the kernel writes one u64 for this number, whatever the number's own size says.
    let size = unsafe { ioctl(device, Getter::<BLKGETSIZE64, u64>::new()) };
    size.act("read", || "the size of a block device (BLKGETSIZE64)")
}
