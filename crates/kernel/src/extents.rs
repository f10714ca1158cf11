//! Which parts of a file hold data, and where on its device they are.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::SeekFrom;
use rustix::io::Errno;
use rustix::ioctl::opcode;

use crate::{Act, Result};

/// A run of a file's bytes that are together on its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the file, in bytes.
    pub logical: u64,
    /// Where it begins on the device (in btrfs' own address space), in bytes. Means nothing where [`Self::UNKNOWN`] or
    /// [`Self::INLINE`] is set.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    /// `FIEMAP_EXTENT_*`.
    pub flags: u32,
}

impl Extent {
    /// The last of its file.
    pub const LAST: u32 = 0x1;
    /// The place is not known (yet).
    pub const UNKNOWN: u32 = 0x2;
    /// Not written yet.
    pub const DELALLOC: u32 = 0x4;
    /// Compressed or the like: bytes of the device are not those of the file.
    pub const ENCODED: u32 = 0x8;
    /// In the middle of other data: no block of its own.
    pub const INLINE: u32 = 0x200;
    /// Allocated, and reads as zeros.
    pub const UNWRITTEN: u32 = 0x800;

    /// Whether equal places on the device mean equal bytes.
    pub fn has_place(&self) -> bool {
        self.flags & (Self::UNKNOWN | Self::DELALLOC | Self::ENCODED | Self::INLINE) == 0
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    room: u32,
    reserved: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved2: [u32; 3],
}

const ROOM: usize = 256;

#[repr(C)]
struct Map {
    header: Header,
    extents: [Raw; ROOM],
}

const FS_IOC_FIEMAP: u32 = opcode::read_write::<Header>(b'f', 11);
/// What is in memory is written first, so that every extent has its place.
const SYNC: u32 = 1;

/// The extents of `file` from byte `start` on, in order, at most 256 of them; fewer where the file ends
/// ([`Extent::LAST`]). The next call begins where the last extent ends.
///
/// # Errors
/// `EOPNOTSUPP` where the file system does not tell ([`data`] works everywhere).
pub fn places(file: impl AsFd, start: u64) -> Result<Vec<Extent>> {
    let raw = Raw { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, reserved2: [0; 3] };
    let header =
        Header { start, length: u64::MAX - start, flags: SYNC, mapped: 0, room: ROOM as u32, reserved: 0 };
    let mut map = Box::new(Map { header, extents: [raw; ROOM] });
    // SAFETY: the request's own header, followed by room for as many extents as it says; live for the call.
    let rc = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut *map) };
    let done = if rc < 0 { Err(crate::process::last_errno()) } else { Ok(()) };
    done.act("map", || format!("the extents of a file from byte {start}"))?;
    let mapped = (map.header.mapped as usize).min(ROOM);
    let extent = |raw: &Raw| Extent {
        logical: raw.logical,
        physical: raw.physical,
        length: raw.length,
        flags: raw.flags,
    };
    Ok(map.extents[..mapped].iter().map(extent).collect())
}

/// The first run of data of `file` at or after byte `from`, as SEEK_DATA and SEEK_HOLE tell; none where only a hole is
/// left. A file system without holes has one run. Moves the file's offset.
pub fn data(file: impl AsFd, from: u64) -> Result<Option<Range<u64>>> {
    let object = || format!("data of a file from byte {from}");
    let start = match rustix::fs::seek(&file, SeekFrom::Data(from)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(e) => return Err(e).act("find", object),
    };
    let end = rustix::fs::seek(&file, SeekFrom::Hole(start)).act("find", object)?;
    Ok(Some(start..end))
}
