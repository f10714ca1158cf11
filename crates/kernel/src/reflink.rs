//! Files that share their blocks: a clone costs no data, and either side's writes are its own.
//!
//! xfs (made with `reflink=1`) and btrfs have it. Elsewhere the answer is `EOPNOTSUPP`, across file systems `EXDEV`.

use std::os::fd::AsFd;

use rustix::io::Errno;

/// Makes the whole of `to` share the blocks of `from`, both regular files of one file system. What `from` has in memory
/// is written first; what `to` had beyond the end of `from` stays.
///
/// # Errors
/// Those of ioctl_ficlone(2); [`is_unsupported`] tells whether copying is the way out.
pub fn clone_file(to: impl AsFd, from: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::ioctl_ficlone(to, from)
}

/// Whether a clone failed because the file system (or a pair of them) has no such thing.
pub fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::XDEV | Errno::NOTTY | Errno::NOSYS)
}
