//! Mounted file systems that fill more of their device. None of them shrinks here: btrfs and newer xfs would, so each is
//! asked first what it has.
//!
//! The root is one opened for reading: what fsmount(2) gives is a place alone (`O_PATH`), and answers `EBADF`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, Updater, ioctl, opcode};

use crate::{Act, Error, Result};

/// Grows the mounted ext4 that `root` is an open directory of to `bytes`, rounded down to whole blocks
/// (`EXT4_IOC_RESIZE_FS`). What it has already is no error.
///
/// # Errors
/// `EINVAL` where it would shrink, or the device is smaller; `EPERM` without `CAP_SYS_RESOURCE`; `EOPNOTSUPP` where its
/// features forbid it.
pub fn ext4(root: impl AsFd, bytes: u64) -> Result<()> {
    let verb = "grow";
    let object = || format!("an ext4 file system to {bytes} bytes");
    let stat = rustix::fs::fstatfs(&root).act(verb, object)?;
    let block = u64::try_from(stat.f_bsize).ok().filter(|&block| block > 0);
    let block = block.ok_or_else(|| Error::new(verb, object(), Errno::INVAL))?;
    rustix::fs::ext4_ioc_resize_fs(root, bytes / block).act(verb, object)
}

/// `struct xfs_fsop_geom_v1`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Geometry {
    block_size: u32,
    realtime_extent: u32,
    group_blocks: u32,
    groups: u32,
    log_blocks: u32,
    sector_size: u32,
    inode_size: u32,
    inode_percent: u32,
    blocks: u64,
    realtime_blocks: u64,
    realtime_extents: u64,
    log_start: u64,
    uuid: [u8; 16],
    stripe_unit: u32,
    stripe_width: u32,
    version: i32,
    flags: u32,
    log_sector_size: u32,
    realtime_sector_size: u32,
    directory_block: u32,
}

/// `struct xfs_growfs_data`.
#[repr(C)]
struct Growth {
    blocks: u64,
    inode_percent: u32,
}

const XFS_IOC_FSGEOMETRY_V1: u32 = opcode::read::<Geometry>(b'X', 100);
const XFS_IOC_FSGROWFSDATA: u32 = opcode::write::<Growth>(b'X', 110);

/// Grows the mounted xfs that `root` is an open directory of to `bytes`, rounded down to whole blocks
/// (`XFS_IOC_FSGROWFSDATA`). What it has already is no error; fewer than the last group needs are left unused.
///
/// # Errors
/// `EINVAL` where it would shrink, or the device is smaller.
pub fn xfs(root: impl AsFd, bytes: u64) -> Result<()> {
    let object = || format!("an xfs file system to {bytes} bytes");
    // SAFETY: the kernel writes its own structure of the size that the number names.
    let geometry = unsafe { ioctl(&root, Getter::<XFS_IOC_FSGEOMETRY_V1, Geometry>::new()) };
    let geometry = geometry.act("read", || "the geometry of an xfs file system")?;
    let blocks = bytes / u64::from(geometry.block_size.max(1));
    if is_there(geometry.blocks, blocks).act("grow", object)? {
        return Ok(());
    }
    let growth = Growth { blocks, inode_percent: geometry.inode_percent };
    // SAFETY: the request's own structure, which the kernel only reads.
    unsafe { ioctl(root, Setter::<XFS_IOC_FSGROWFSDATA, Growth>::new(growth)) }.act("grow", object)
}

/// Whether what is wanted is there already.
///
/// # Errors
/// `EINVAL` where more is there.
fn is_there(has: u64, wanted: u64) -> rustix::io::Result<bool> {
    if wanted < has { Err(Errno::INVAL) } else { Ok(wanted == has) }
}

/// `struct btrfs_ioctl_dev_info_args`.
#[repr(C)]
struct Device {
    number: u64,
    uuid: [u8; 16],
    used: u64,
    total: u64,
    file_system: [u8; 16],
    unused: [u64; 377],
    path: [u8; 1024],
}

const BTRFS_IOC_DEV_INFO: u32 = opcode::read_write::<Device>(0x94, 30);

/// The first device of the mounted btrfs that `root` is an open directory of.
fn first(root: impl AsFd) -> Result<Box<Device>> {
    device(root, 1)
}

fn device(root: impl AsFd, number: u64) -> Result<Box<Device>> {
    let mut device = Box::new(Device {
        number,
        uuid: [0; 16],
        used: 0,
        total: 0,
        file_system: [0; 16],
        unused: [0; 377],
        path: [0; 1024],
    });
    // SAFETY: the request's own structure; live for the call.
    unsafe { ioctl(root, Updater::<BTRFS_IOC_DEV_INFO, Device>::new(&mut device)) }
        .act("read", || "the device of a btrfs file system")?;
    Ok(device)
}

/// Where the first device of the mounted btrfs is that `root` is an open directory of: its st_dev is of no device.
///
/// # Errors
/// `ENOTTY` where it is no btrfs, `ENODEV` where that device is missing.
pub fn btrfs_device(root: impl AsFd) -> Result<PathBuf> {
    let device = first(root)?;
    let end = device.path.iter().position(|&byte| byte == 0).unwrap_or(device.path.len());
    Ok(PathBuf::from(OsStr::from_bytes(&device.path[..end])))
}

/// The bytes of a device of a mounted btrfs, and how many of them its groups of blocks have.
///
/// # Errors
/// `ENODEV` where it has no device of this number.
pub(crate) fn btrfs_device_bytes(root: impl AsFd, number: u64) -> Result<(u64, u64)> {
    let device = device(root, number)?;
    Ok((device.total, device.used))
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct Arguments {
    fd: i64,
    name: [u8; 4088],
}

const BTRFS_IOC_RESIZE: u32 = opcode::write::<Arguments>(0x94, 3);

/// Grows the mounted btrfs of one device (number 1) that `root` is an open directory of to `bytes` (`BTRFS_IOC_RESIZE`),
/// rounded down to whole sectors. What it has already is no error.
///
/// # Errors
/// `EINVAL` where it would shrink, or would have less than 256 MiB; `EFBIG` where the device is smaller; `EINPROGRESS`
/// where it is balanced, or resized by another.
pub fn btrfs(root: impl AsFd, bytes: u64) -> Result<()> {
    let object = || format!("a btrfs file system to {bytes} bytes");
    if is_there(first(&root)?.total, bytes).act("grow", object)? {
        return Ok(());
    }
    let mut arguments = Arguments { fd: 0, name: [0; 4088] };
    let size = format!("1:{bytes}");
    arguments.name[..size.len()].copy_from_slice(size.as_bytes());
    // SAFETY: the request's own structure, its name NUL-terminated, which the kernel only reads.
    let rc = unsafe { libc::ioctl(root.as_fd().as_raw_fd(), BTRFS_IOC_RESIZE as _, &raw const arguments) };
    let done = match rc {
        0 => Ok(()),
        // `enum btrfs_err_code`: something else has the whole file system, and nothing was done.
        1.. => Err(Errno::INPROGRESS),
        _ => Err(crate::process::last_errno()),
    };
    done.act("grow", object)
}
