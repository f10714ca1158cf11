//! Subvolumes that nobody may change, those within them included: whoever owns one may have made it so.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::{BTRFS, ROOT, search};
use crate::{Act, Result};

const SUBVOL_SETFLAGS: Opcode = opcode::write::<u64>(BTRFS, 26);

/// `struct file_handle` with btrfs' own `struct btrfs_fid` in it, without a parent.
#[repr(C)]
struct Handle {
    length: u32,
    kind: i32,
    inode: u64,
    tree: u64,
    generation: u32,
}

/// `BTRFS_FID_SIZE_NON_CONNECTABLE` words.
const LENGTH: u32 = 20;
/// `FILEID_BTRFS_WITHOUT_PARENT`.
const WITHOUT_PARENT: i32 = 0x4d;

/// Opens the root of the subvolume `id`, however long the way there is.
fn root(directory: impl AsFd, id: u64) -> rustix::io::Result<OwnedFd> {
    // The kernel keeps as much of it in a handle.
    let generation = search::generation(&directory, id)? as u32;
    let handle = Handle { length: LENGTH, kind: WITHOUT_PARENT, inode: ROOT, tree: id, generation };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let mount = directory.as_fd().as_raw_fd();
    // SAFETY: the kernel reads the handle, which has as many bytes behind its head as it says; live for the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount, &raw const handle, flags) };
    if fd < 0 {
        return Err(crate::process::last_errno());
    }
    // SAFETY: a new descriptor, which nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Lets the subvolume `id` of the file system that `directory` is on be changed, wherever it is: where it is read-only nobody
/// removes a subvolume from it, not even by its number. One that could be changed stays as it is.
///
/// # Errors
/// `EPERM` while it is being sent, and without `CAP_DAC_READ_SEARCH`; `ENOENT`, `ESTALE` where it is not there.
pub fn make_writable(directory: impl AsFd, id: u64) -> Result<()> {
    let object = || format!("the subvolume {id} writable");
    let root = root(directory, id).act("make", object)?;
    // SAFETY: the kernel reads the flags that are to be.
    unsafe { ioctl(root, Setter::<SUBVOL_SETFLAGS, u64>::new(0)) }.act("make", object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_laid_out_as_the_kernel_reads_it() {
        assert_eq!(std::mem::offset_of!(Handle, inode), 8);
        assert_eq!(std::mem::offset_of!(Handle, generation) + 4, 8 + LENGTH as usize);
    }
}
