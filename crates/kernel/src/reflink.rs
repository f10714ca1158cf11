//! Files that share their blocks: a clone costs no data, and either side's writes are its own.
//!
//! xfs (made with `reflink=1`) and btrfs have it. Elsewhere the answer is `EOPNOTSUPP`, across file systems `EXDEV`.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Setter, ioctl, opcode};

#[repr(C)]
struct Range {
    source: i64,
    source_offset: u64,
    length: u64,
    offset: u64,
}

const FICLONERANGE: u32 = opcode::write::<Range>(0x94, 13);

/// Makes the whole of `to` share the blocks of `from`, both regular files of one file system. What `from` has in memory
/// is written first; what `to` had beyond the end of `from` stays.
///
/// # Errors
/// Those of ioctl_ficlone(2); [`is_unsupported`] tells whether copying is the way out.
pub fn clone_file(to: impl AsFd, from: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::ioctl_ficlone(to, from)
}

/// The same for `length` bytes (0 is "to the end") from `from_offset`, which appear in `to` at `to_offset`. All three are
/// multiples of the file system's block, but for a length that ends where `from` does.
///
/// # Errors
/// Those of ioctl_ficlonerange(2).
pub fn clone_range(
    to: impl AsFd,
    to_offset: u64,
    from: impl AsFd,
    from_offset: u64,
    length: u64,
) -> rustix::io::Result<()> {
    let range = Range {
        source: i64::from(from.as_fd().as_raw_fd()),
        source_offset: from_offset,
        length,
        offset: to_offset,
    };
    // SAFETY: the request's own structure, which the kernel only reads; both descriptors are open for the call.
    unsafe { ioctl(to, Setter::<FICLONERANGE, Range>::new(range)) }
}

/// Whether a clone failed because the file system (or a pair of them) has no such thing.
pub fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS)
}
