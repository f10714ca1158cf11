//! Project quotas of ext4 and xfs: how much all files of a project may have, whoever they belong to.
//!
//! A project is a number that inodes carry. What is made in a directory that [hands its project down](set_project) is of its
//! project. quotactl(2) is asked through an open directory of the file system (Linux 5.14), in xfs' form, which ext4 answers
//! as well. Needs `CAP_SYS_ADMIN` in the first user namespace.

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::ioctl::{Getter, Setter, ioctl, opcode};

use crate::{Act, Result};

/// `PRJQUOTA`.
const PROJECT: u32 = 2;

const fn command(number: u32) -> u32 {
    (((b'X' as u32) << 8 | number) << 8) | PROJECT
}

const Q_XGETQUOTA: u32 = command(3);
const Q_XSETQLIM: u32 = command(4);
const Q_XGETQSTATV: u32 = command(8);
const Q_XGETNEXTQUOTA: u32 = command(9);

/// `FS_QUOTA_PDQ_ACCT` and `FS_QUOTA_PDQ_ENFD`.
const ACCOUNTED: u16 = 1 << 4;
const ENFORCED: u16 = 1 << 5;
/// `FS_DQ_ISOFT`, `_IHARD`, `_BSOFT` and `_BHARD`.
const LIMITS: u16 = 0xf;
/// What blocks are counted in.
const BASIC_BLOCK: u64 = 512;

/// `struct fs_disk_quota`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct DiskQuota {
    version: i8,
    flags: i8,
    field_mask: u16,
    id: u32,
    blocks_hard: u64,
    blocks_soft: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    blocks: u64,
    inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    timers_high: [i8; 4],
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    padding: [u8; 10],
}

/// `struct fs_quota_statv`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Status {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u32; 39],
}

const _: () = assert!(size_of::<DiskQuota>() == 112 && size_of::<Status>() == 160);

/// Whether project quotas are in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// What projects have is counted.
    pub is_accounted: bool,
    /// Who would have more than a limit is stopped.
    pub is_enforced: bool,
}

/// What a project has and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quota {
    /// Bytes on the disk, with those of directories and attributes; shared ones are counted for each who shares them.
    pub bytes: u64,
    /// Files, directories and all else that has an inode.
    pub inodes: u64,
    /// How many bytes it may have; 0 is any number.
    pub most_bytes: u64,
    /// How many inodes it may have; 0 is any number.
    pub most_inodes: u64,
}

impl Quota {
    /// Whether nobody has the project: nothing is of it, and nobody has said how much may be.
    pub fn is_unused(&self) -> bool {
        *self == Self::default()
    }

    fn of(told: &DiskQuota) -> Self {
        Self {
            bytes: told.blocks.saturating_mul(BASIC_BLOCK),
            inodes: told.inodes,
            most_bytes: told.blocks_hard.saturating_mul(BASIC_BLOCK),
            most_inodes: told.inodes_hard,
        }
    }
}

/// quotactl_fd(2).
///
/// # Safety
/// `argument` is the structure of `command`.
unsafe fn quotactl<T>(
    directory: impl AsFd,
    command: u32,
    project: u32,
    argument: &mut T,
) -> rustix::io::Result<()> {
    let fd = directory.as_fd();
    // SAFETY: an open descriptor, and the command's own structure, live for the call, as the caller promises.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            fd.as_raw_fd(),
            command as libc::c_int,
            project as libc::c_int,
            std::ptr::from_mut(argument),
        )
    };
    if rc == 0 { Ok(()) } else { Err(crate::process::last_errno()) }
}

/// Whether project quotas are in force on the file system of `directory`. One that has no quotas at all has none in force.
///
/// # Errors
/// What the kernel refuses.
pub fn state(directory: impl AsFd) -> Result<State> {
    let mut status = Status { version: 1, padding: 0, flags: 0, rest: [0; 39] };
    // SAFETY: the command's structure, of the version that its first byte says.
    match unsafe { quotactl(directory, Q_XGETQSTATV, 0, &mut status) } {
        Ok(()) => Ok(State {
            is_accounted: status.flags & ACCOUNTED != 0,
            is_enforced: status.flags & ENFORCED != 0,
        }),
        // Without a block device, without quotas, or a kernel that has none of them.
        Err(Errno::NOTBLK | Errno::NODEV | Errno::NOSYS | Errno::INVAL | Errno::OPNOTSUPP) => {
            Ok(State::default())
        }
        Err(e) => Err(e).act("ask", || "whether project quotas are in force"),
    }
}

/// What `project` has and may have on the file system of `directory`. One that nobody has ever had has nothing.
///
/// # Errors
/// `ESRCH` where project quotas are not in force.
pub fn of(directory: impl AsFd, project: u32) -> Result<Quota> {
    let mut told = DiskQuota::default();
    // SAFETY: the command's structure.
    match unsafe { quotactl(directory, Q_XGETQUOTA, project, &mut told) } {
        Ok(()) => Ok(Quota::of(&told)),
        Err(Errno::NOENT) => Ok(Quota::default()),
        Err(e) => Err(e).act("read", || format!("the quota of project {project}")),
    }
}

/// The first project from `from` on that something is known of; `None` where there is none.
///
/// # Errors
/// `ESRCH` where project quotas are not in force.
pub fn next(directory: impl AsFd, from: u32) -> Result<Option<(u32, Quota)>> {
    let mut told = DiskQuota::default();
    // SAFETY: the command's structure.
    match unsafe { quotactl(directory, Q_XGETNEXTQUOTA, from, &mut told) } {
        Ok(()) => Ok(Some((told.id, Quota::of(&told)))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e).act("read", || format!("the quotas of projects from {from} on")),
    }
}

/// Says how many bytes (rounded down to 512) and inodes `project` may have on the file system of `directory`; 0 is any number.
/// What it has beyond stays.
///
/// # Errors
/// `ESRCH` where project quotas are not in force; `EPERM`.
pub fn limit(directory: impl AsFd, project: u32, bytes: u64, inodes: u64) -> Result<()> {
    let mut wanted = DiskQuota {
        version: 1,
        flags: 2, // FS_PROJ_QUOTA
        field_mask: LIMITS,
        id: project,
        blocks_hard: bytes / BASIC_BLOCK,
        inodes_hard: inodes,
        ..DiskQuota::default()
    };
    // SAFETY: the command's structure.
    unsafe { quotactl(directory, Q_XSETQLIM, project, &mut wanted) }
        .act("limit", || format!("project {project} to {bytes} bytes and {inodes} inodes"))
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    shared_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: u32 = opcode::read::<Attributes>(b'X', 31);
const FS_IOC_FSSETXATTR: u32 = opcode::write::<Attributes>(b'X', 32);
/// `FS_XFLAG_PROJINHERIT`.
const INHERIT: u32 = 0x200;

fn attributes(file: impl AsFd) -> rustix::io::Result<Attributes> {
    // SAFETY: the kernel writes the request's own structure.
    unsafe { ioctl(file, Getter::<FS_IOC_FSGETXATTR, Attributes>::new()) }
}

/// The project of something open, not as a place alone (`O_PATH`); 0 is none.
///
/// # Errors
/// `ENOTTY` and `EOPNOTSUPP` where the file system has no projects.
pub fn project(file: impl AsFd) -> Result<u32> {
    attributes(file).map(|has| has.project).act("read", || "the project of a file")
}

/// Gives something open to `project`, a directory so that what is made in it is of the same project.
///
/// Whoever owns a file may do that in the first user namespace, without any capability; in another one nobody may.
///
/// # Errors
/// `EOPNOTSUPP` where the file system was made without projects, `EINVAL` in another user namespace, `EPERM` where somebody
/// else owns it.
pub fn set_project(file: impl AsFd, project: u32, is_directory: bool) -> Result<()> {
    let object = || format!("a file to project {project}");
    let mut wanted = attributes(&file).act("give", object)?;
    wanted.project = project;
    wanted.flags = if is_directory { wanted.flags | INHERIT } else { wanted.flags };
    // SAFETY: the request's own structure, which the kernel only reads.
    unsafe { ioctl(file, Setter::<FS_IOC_FSSETXATTR, Attributes>::new(wanted)) }.act("give", object)
}
