//! Telling a block device what nobody needs any more (discard, TRIM).

use std::os::fd::AsFd;

use rustix::ioctl::{Setter, ioctl, opcode};

use crate::{Act, Result};

const BLKDISCARD: u32 = opcode::none(0x12, 119);

/// Has a block device, opened for writing, forget the first `bytes` of what is on it, a number of whole sectors.
///
/// # Errors
/// `EOPNOTSUPP` where it forgets nothing, `EINVAL` where it has not as many bytes; those of the device.
pub fn first(device: impl AsFd, bytes: u64) -> Result<()> {
    // SAFETY: the kernel reads two numbers of 64 bits, an offset and a length, from where the pointer is.
    unsafe { ioctl(device, Setter::<BLKDISCARD, [u64; 2]>::new([0, bytes])) }
        .act("discard", || "a block device")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::*;
    use crate::loopdev::{Options, attach};

    #[test]
    fn what_is_discarded_takes_no_room_below() {
        let below = tempfile::tempfile().unwrap();
        below.set_len(8 << 20).unwrap();
        let options = Options { autoclear: true, ..Options::default() };
        let (_path, device) = attach(&below, "sextant-test-discard", options).unwrap();
        device.write_all_at(&[7; 4 << 20], 0).unwrap();
        device.sync_all().unwrap();
        let taken = |file: &File| file.metadata().unwrap().blocks() * 512;
        assert!(taken(&below) >= 4 << 20);
        first(&device, 3 << 20).unwrap();
        assert!(taken(&below) <= 2 << 20, "{}", taken(&below));
        let mut read = [0; 2];
        device.read_exact_at(&mut read, (3 << 20) - 1).unwrap();
        assert_eq!(read, [0, 7]);
        first(&device, 16 << 20).unwrap_err();
    }
}
