//! Subvolumes of a mounted btrfs: made, cut, removed; their quota groups, and where the file system's bytes are.
//!
//! Directories are opened for reading: what fsmount(2) gives is a place alone (`O_PATH`), and answers `EBADF`. What is no
//! btrfs answers `ENOTTY`. Quotas, and whatever names a subvolume by its number, want `CAP_SYS_ADMIN`.

mod quota;
mod read_only;
mod search;
mod space;

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

pub use quota::{
    Group, Quotas, enable, forget, group, keep_counting, limit, quotas, rescan, wait_for_rescan,
};
pub use read_only::make_writable;
pub use search::{exists, groups, nested};
pub use space::{Kind, Space, Spaces, spaces};

use crate::{Act, Error, Result};

/// All requests of btrfs.
const BTRFS: u8 = 0x94;
/// What statfs(2) calls it.
const MAGIC: u64 = 0x9123_683e;
/// The inode of a subvolume's root.
const ROOT: u64 = 256;

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct Arguments {
    fd: i64,
    transaction: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct Lookup {
    tree: u64,
    inode: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_timespec`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Time {
    seconds: u64,
    nanoseconds: u32,
}

/// `struct btrfs_ioctl_get_subvol_info_args`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Information {
    tree: u64,
    name: [u8; 256],
    parent: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    changed: u64,
    made: u64,
    sent: u64,
    received: u64,
    times: [Time; 4],
    reserved: [u64; 8],
}

/// `struct btrfs_ioctl_fs_info_args`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FileSystem {
    last_device: u64,
    devices: u64,
    uuid: [u8; 16],
    rest: [u64; 124],
}

const WAIT_SYNC: Opcode = opcode::write::<u64>(BTRFS, 22);
const SNAP_CREATE_V2: Opcode = opcode::write::<Arguments>(BTRFS, 23);
const START_SYNC: Opcode = opcode::read::<u64>(BTRFS, 24);
const SUBVOL_CREATE_V2: Opcode = opcode::write::<Arguments>(BTRFS, 24);
const INO_LOOKUP: Opcode = opcode::read_write::<Lookup>(BTRFS, 18);
const FS_INFO: Opcode = opcode::read::<FileSystem>(BTRFS, 31);
const GET_SUBVOL_INFO: Opcode = opcode::read::<Information>(BTRFS, 60);
const SNAP_DESTROY_V2: Opcode = opcode::write::<Arguments>(BTRFS, 63);

const READ_ONLY: u64 = 1 << 1;
const BY_ID: u64 = 1 << 4;

/// A subvolume, as it tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subvolume {
    /// Its number, which no other one of the file system ever gets.
    pub id: u64,
    /// Whether it was cut from another one.
    pub is_cut: bool,
    /// The transaction that it came to be in: those of the same one are of one moment.
    pub made: u64,
}

/// Whether an open directory is on a btrfs.
///
/// # Errors
/// The file system does not answer.
pub fn is_btrfs(directory: impl AsFd) -> Result<bool> {
    let told = rustix::fs::fstatfs(directory).act("ask", || "what kind of file system a directory is on")?;
    // Its type has another size, and may have a sign, on other machines.
    Ok(told.f_type as u64 & 0xffff_ffff == MAGIC)
}

/// The UUID of the mounted btrfs that `directory` is on, as its folder in /sys/fs/btrfs is called.
///
/// # Errors
/// `ENOTTY` where it is none.
pub fn uuid(directory: impl AsFd) -> Result<String> {
    let uuid = file_system(directory).act("read", || "the UUID of a btrfs file system")?.uuid;
    let mut text = String::new();
    for (at, byte) in uuid.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    Ok(text)
}

/// What the mounted btrfs that `directory` is on tells of itself.
fn file_system(directory: impl AsFd) -> rustix::io::Result<FileSystem> {
    let mut told = FileSystem { last_device: 0, devices: 0, uuid: [0; 16], rest: [0; 124] };
    // SAFETY: the request's own structure, in which the kernel reads what more is wanted; live for the call.
    unsafe { ioctl(directory, Updater::<FS_INFO, FileSystem>::new(&mut told)) }.map(|()| told)
}

fn request(object: &CStr, fd: i64, flags: u64) -> Result<Box<Arguments>> {
    let bytes = object.to_bytes();
    let mut arguments = Box::new(Arguments { fd, transaction: 0, flags, unused: [0; 4], name: [0; 4040] });
    match arguments.name.get_mut(..bytes.len()) {
        Some(room) if bytes.len() < 4039 => room.copy_from_slice(bytes),
        _ => return Err(Error::new("name", "a subvolume", Errno::NAMETOOLONG)),
    }
    Ok(arguments)
}

fn ask(directory: impl AsFd, code: Opcode, arguments: &Arguments) -> rustix::io::Result<()> {
    // SAFETY: each of these requests reads this structure, and no more; its name is NUL-terminated.
    let rc = unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), code as _, &raw const *arguments) };
    if rc < 0 { Err(crate::process::last_errno()) } else { Ok(()) }
}

/// Makes an empty subvolume called `name` in `directory`. It is durable with the next [`commit`].
///
/// # Errors
/// `EEXIST`, `ENOSPC`; `EDQUOT` where `directory` has a limit that is reached.
pub fn create(directory: impl AsFd, name: &CStr) -> Result<()> {
    let arguments = request(name, 0, 0)?;
    ask(directory, SUBVOL_CREATE_V2, &arguments).act("create", || format!("the subvolume {name:?}"))
}

/// Makes `name` in `directory` a subvolume with the contents of the subvolume that `source` is the open root of, and with the
/// limit of its quota group. What was written to that until now is in it. It is durable when this returns, and so is
/// everything that was done on the file system before. Subvolumes in it are empty directories in the copy.
///
/// # Errors
/// `EEXIST`, `ENOSPC`; `EXDEV` for another file system; `EINVAL` where `source` is no root of a subvolume.
pub fn snapshot(directory: impl AsFd, name: &CStr, source: impl AsFd, read_only: bool) -> Result<()> {
    let flags = if read_only { READ_ONLY } else { 0 };
    let arguments = request(name, source.as_fd().as_raw_fd().into(), flags)?;
    ask(directory, SNAP_CREATE_V2, &arguments).act("cut", || format!("the snapshot {name:?}"))
}

/// Removes the subvolume `id` of the file system that `directory` is on, wherever it is. Its blocks go later. Durable with
/// the next [`commit`].
///
/// # Errors
/// `ENOENT` where it is not there; `ENOTEMPTY` where another subvolume is in it.
pub fn destroy(directory: impl AsFd, id: u64) -> Result<()> {
    let mut arguments = request(c"", 0, BY_ID)?;
    // A union with the name: the number is where that begins.
    arguments.name[..8].copy_from_slice(&id.to_ne_bytes());
    ask(directory, SNAP_DESTROY_V2, &arguments).act("remove", || format!("the subvolume {id}"))
}

/// The number of the subvolume that `directory` is in.
///
/// # Errors
/// `ENOTTY` where it is on no btrfs.
pub fn id(directory: impl AsFd) -> Result<u64> {
    let mut lookup = Box::new(Lookup { tree: 0, inode: ROOT, name: [0; 4080] });
    // SAFETY: the request's own structure; live for the call.
    unsafe { ioctl(directory, Updater::<INO_LOOKUP, Lookup>::new(&mut lookup)) }
        .act("read", || "the number of a subvolume")?;
    Ok(lookup.tree)
}

/// Whether an open directory is the root of a subvolume.
///
/// # Errors
/// The file system does not answer.
pub fn is_root(directory: impl AsFd) -> Result<bool> {
    let stat = rustix::fs::fstat(&directory).act("look at", || "a directory")?;
    Ok(stat.st_ino == ROOT && is_btrfs(directory)?)
}

/// What the subvolume that `root` is in tells of itself.
///
/// # Errors
/// `ENOTTY` where it is on no btrfs.
pub fn subvolume(root: impl AsFd) -> Result<Subvolume> {
    // SAFETY: the kernel writes its own structure of the size that the number names.
    let told = unsafe { ioctl(root, Getter::<GET_SUBVOL_INFO, Information>::new()) };
    let told = told.act("read", || "what a subvolume is")?;
    Ok(Subvolume { id: told.tree, is_cut: told.parent_uuid != [0; 16], made: told.made })
}

/// Has all that was done on the file system that `directory` is on be made durable in the background; the number of the
/// transaction that it is in, for [`wait_for_commit`].
///
/// It returns when that has begun. The kernel's thread for it may miss that it was asked for where the commit before has just
/// ended (seen on Linux 6.18): then it begins up to 30 s later, or when anybody asks once more.
///
/// # Errors
/// `EROFS` where the file system has broken down.
pub fn start_commit(directory: impl AsFd) -> Result<u64> {
    // SAFETY: the kernel writes a number of the size that the request names.
    unsafe { ioctl(directory, Getter::<START_SYNC, u64>::new()) }
        .act("commit", || "what was done on a btrfs file system")
}

/// Waits until a transaction is durable that [`start_commit`] has told.
///
/// # Errors
/// `EIO`, `EROFS` where the file system has broken down.
pub fn wait_for_commit(directory: impl AsFd, transaction: u64) -> Result<()> {
    // SAFETY: the kernel reads a number.
    unsafe { ioctl(directory, Setter::<WAIT_SYNC, u64>::new(transaction)) }
        .act("commit", || "what was done on a btrfs file system")
}

/// Makes durable all that was done on the file system that `directory` is on: names, subvolumes, limits. Data that was
/// written to files and not synced may be missing. Nothing is written where nothing was done. It may take as long as
/// [`start_commit`] says.
///
/// # Errors
/// As of both.
pub fn commit(directory: impl AsFd) -> Result<()> {
    let begun = start_commit(&directory)?;
    wait_for_commit(directory, begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_large_as_the_kernels() {
        assert_eq!(size_of::<Arguments>(), 4096);
        assert_eq!(size_of::<Lookup>(), 4096);
        assert_eq!(size_of::<Information>(), 504);
        assert_eq!(size_of::<FileSystem>(), 1024);
    }

    #[test]
    fn names_have_an_end() {
        let long = std::ffi::CString::new(vec![b'x'; 4039]).unwrap();
        assert_eq!(request(&long, 0, 0).err().unwrap().errno(), Some(Errno::NAMETOOLONG));
        assert!(request(&std::ffi::CString::new(vec![b'x'; 4038]).unwrap(), 0, 0).is_ok());
    }

    #[test]
    fn what_is_no_btrfs_says_so() {
        let proc = std::fs::File::open("/proc").unwrap();
        assert!(!is_btrfs(&proc).unwrap() && !is_root(&proc).unwrap());
        assert_eq!(id(&proc).unwrap_err().errno(), Some(Errno::NOTTY));
        assert_eq!(commit(&proc).unwrap_err().errno(), Some(Errno::NOTTY));
    }
}
