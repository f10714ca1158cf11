//! Loop devices, found again by a tag: their number is known only after the fact, the tag is chosen before.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::{Act, Error, Result};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;

/// `lo_flags`: nothing is written to the backing file.
const READ_ONLY: u32 = 1;
/// The device detaches itself when its last user closes it.
const AUTOCLEAR: u32 = 4;
/// Direct I/O to the backing file.
const DIRECT_IO: u32 = 16;

/// How to attach.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Refuse writes.
    pub read_only: bool,
    /// Detach when the last user closes the device, so that a killed owner leaks nothing.
    pub autoclear: bool,
    /// Bypass the page cache of the backing file, which otherwise holds every block twice.
    pub direct_io: bool,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Info64 {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info64,
    reserved: [u64; 8],
}

const NO_INFO: Info64 = Info64 {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    sizelimit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// Attaches `backing` to a free loop device whose `lo_file_name` is `tag` (at most 63 bytes). Returns the device's path
/// and its open file: an autoclear device lives until that and every other user is closed.
pub fn attach(backing: &File, tag: &str, options: Options) -> Result<(PathBuf, File)> {
    let mut info = NO_INFO;
    let name = info.file_name.get_mut(..tag.len()).filter(|_| (1..64).contains(&tag.len()));
    let Some(name) = name else {
        return Err(Error::new(
            "attach",
            format!("a loop device tagged {tag:?} (1 to 63 bytes)"),
            Errno::INVAL,
        ));
    };
    name.copy_from_slice(tag.as_bytes());
    info.flags = if options.read_only { READ_ONLY } else { 0 }
        | if options.autoclear { AUTOCLEAR } else { 0 }
        | if options.direct_io { DIRECT_IO } else { 0 };
    let control = File::open("/dev/loop-control").act("open", || "/dev/loop-control")?;
    loop {
        let number = ioctl(&control, LOOP_CTL_GET_FREE, std::ptr::null_mut::<()>())
            .act("find", || "a free loop device")?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options()
            .read(true)
            .write(!options.read_only)
            .open(&path)
            .act("open", || path.display().to_string())?;
        let mut config = Config { fd: backing.as_raw_fd() as u32, block_size: 0, info, reserved: [0; 8] };
        match ioctl(&device, LOOP_CONFIGURE, &raw mut config) {
            Ok(_) => return Ok((path, device)),
            // Somebody else took it between the two calls.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) => return Err(Error::new("attach", path.display().to_string(), e)),
        }
    }
}

/// The loop devices whose `lo_file_name` is `tag`.
pub fn find(tag: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").act("list", || "/sys/block")?.flatten() {
        let name = entry.file_name();
        // Only a device with a backing file has this directory; the others need no look.
        if !name.to_string_lossy().starts_with("loop") || !entry.path().join("loop").exists() {
            continue;
        }
        let path = Path::new("/dev").join(&name);
        let Ok(device) = File::open(&path) else { continue };
        let mut info = NO_INFO;
        if ioctl(&device, LOOP_GET_STATUS64, &raw mut info).is_ok() {
            let end = info.file_name.iter().position(|&b| b == 0).unwrap_or(info.file_name.len());
            if &info.file_name[..end] == tag.as_bytes() {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Detaches every loop device tagged `tag`: the inverse of [`attach`], idempotent. One still in use detaches itself
/// when its last user closes it.
pub fn detach(tag: &str) -> Result<()> {
    for path in find(tag)? {
        let device = File::open(&path).act("open", || path.display().to_string())?;
        match ioctl(&device, LOOP_CLR_FD, std::ptr::null_mut::<()>()) {
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => {}
            Err(e) => return Err(Error::new("detach", path.display().to_string(), e)),
        }
    }
    Ok(())
}

fn ioctl<T>(file: &File, request: libc::c_ulong, argument: *mut T) -> io::Result<i32> {
    // SAFETY: each caller passes the request its own structure (or null where it takes none), live for the call.
    let rc = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), request as _, argument) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(rc) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_found_by_its_tag_and_detached() {
        let tag = format!("sextant-test-{}", std::process::id());
        let path = std::env::temp_dir().join(&tag);
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        let (device, open) = attach(&file, &tag, Options::default()).unwrap();
        assert_eq!(find(&tag).unwrap(), [device]);
        drop(open);
        detach(&tag).unwrap();
        assert!(find(&tag).unwrap().is_empty());
        detach(&tag).unwrap();
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_tag_must_fit() {
        let file = File::open("/dev/null").unwrap();
        assert!(attach(&file, &"x".repeat(64), Options::default()).is_err());
        assert!(attach(&file, "", Options::default()).is_err());
    }
}
