//! Loop devices, found again by a tag: their number is known only after the fact, the tag is chosen before.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::{Act, Error, Result};

const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4C0A;
const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
const LOOP_GET_STATUS64: libc::c_ulong = 0x4C05;
const LOOP_SET_CAPACITY: libc::c_ulong = 0x4C07;

/// `lo_flags`: nothing is written to the backing file.
const READ_ONLY: u32 = 1;
/// The device detaches itself when its last user closes it.
const AUTOCLEAR: u32 = 4;
/// Direct I/O to the backing file.
const DIRECT_IO: u32 = 16;

/// How to attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Refuse writes.
    pub read_only: bool,
    /// Detach when the last user closes the device, so that a killed owner leaks nothing.
    pub autoclear: bool,
    /// Bypass the page cache of the backing file, which otherwise holds every block twice. Where the file cannot be read
    /// that way the device goes through the cache all the same; [`status`] tells.
    pub direct_io: bool,
}

/// What a device is attached to, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Its `lo_file_name`.
    pub tag: String,
    /// What of the options is in force.
    pub options: Options,
    /// The device and inode numbers of the backing file.
    pub backing: (u64, u64),
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

/// What `device` is attached to; none where it is not.
pub fn status(device: &File) -> Result<Option<Status>> {
    let mut info = NO_INFO;
    match ioctl(device, LOOP_GET_STATUS64, &raw mut info) {
        Ok(_) => {}
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
        Err(e) => return Err(Error::new("read", "the status of a loop device", e)),
    }
    let end = info.file_name.iter().position(|&b| b == 0).unwrap_or(info.file_name.len());
    Ok(Some(Status {
        tag: String::from_utf8_lossy(&info.file_name[..end]).into_owned(),
        options: Options {
            read_only: info.flags & READ_ONLY != 0,
            autoclear: info.flags & AUTOCLEAR != 0,
            direct_io: info.flags & DIRECT_IO != 0,
        },
        backing: (info.device, info.inode),
    }))
}

/// Has `device` see that its backing file has another size.
pub fn set_capacity(device: &File) -> Result<()> {
    ioctl(device, LOOP_SET_CAPACITY, std::ptr::null_mut::<()>())
        .map(|_| ())
        .act("set", || "the capacity of a loop device")
}

/// The loop devices whose `lo_file_name` is `tag`.
pub fn find(tag: &str) -> Result<Vec<PathBuf>> {
    Ok(attached(|name| name == tag)?.into_iter().map(|(path, _)| path).collect())
}

/// The attached loop devices whose tag `wanted` wants, with what they are attached to.
///
/// # Errors
/// One that cannot be asked: it might be wanted.
pub fn attached(wanted: impl Fn(&str) -> bool) -> Result<Vec<(PathBuf, Status)>> {
    let found = list(|_| true)?;
    Ok(found.into_iter().filter(|(_, status)| wanted(&status.tag)).collect())
}

/// The attached loop devices whose backing file is called what `wanted` wants, with what they are attached to. No other is
/// opened. The name is the file's of now, as this process sees it; of one that was removed it is the last, and ` (deleted)`.
///
/// # Errors
/// As there.
pub fn attached_to(wanted: impl Fn(&Path) -> bool) -> Result<Vec<(PathBuf, Status)>> {
    list(|device| match fs::read(device.join("loop/backing_file")) {
        Ok(name) => {
            let name = name.strip_suffix(b"\n").unwrap_or(&name);
            wanted(Path::new(OsStr::from_bytes(name)))
        }
        // Its name has no room there, or it goes just now: the device itself tells.
        Err(_) => true,
    })
}

/// The attached loop devices whose directory in sysfs `wanted` wants.
fn list(wanted: impl Fn(&Path) -> bool) -> Result<Vec<(PathBuf, Status)>> {
    let mut found = Vec::new();
    let directory = "/sys/block";
    for entry in fs::read_dir(directory).act("list", || directory)? {
        let entry = entry.act("list", || directory)?;
        let name = entry.file_name();
        // Only a device with a backing file has this directory; the others need no look.
        if !name.as_bytes().starts_with(b"loop")
            || !entry.path().join("loop").exists()
            || !wanted(&entry.path())
        {
            continue;
        }
        let path = Path::new("/dev").join(&name);
        if let Some(device) = open(&path)?
            && let Some(status) = status(&device)?
        {
            found.push((path, status));
        }
    }
    Ok(found)
}

/// Opens a device; none where it has gone.
fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(device) => Ok(Some(device)),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENODEV | libc::ENOENT)) => Ok(None),
        Err(e) => Err(Error::new("open", path.display().to_string(), e)),
    }
}

/// Opens the device at `path` if `is_wanted` says so of what it is attached to: since it was found its number may have become
/// another's. While it is open it stays what it is.
pub fn open_if(path: &Path, is_wanted: impl Fn(&Status) -> bool) -> Result<Option<File>> {
    let Some(device) = open(path)? else { return Ok(None) };
    Ok(status(&device)?.filter(is_wanted).map(|_| device))
}

/// Detaches every loop device tagged `tag`: the inverse of [`attach`], idempotent. One still in use detaches itself
/// when its last user closes it.
pub fn detach(tag: &str) -> Result<()> {
    find(tag)?.iter().try_for_each(|path| detach_if(path, |status| status.tag == tag))
}

/// Detaches the device at `path` as [`detach`] does, if `is_wanted` says so of what it is attached to.
pub fn detach_if(path: &Path, is_wanted: impl Fn(&Status) -> bool) -> Result<()> {
    let Some(device) = open_if(path, is_wanted)? else { return Ok(()) };
    match ioctl(&device, LOOP_CLR_FD, std::ptr::null_mut::<()>()) {
        Ok(_) => Ok(()),
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(()),
        Err(e) => Err(Error::new("detach", path.display().to_string(), e)),
    }
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
        // Another test that looks at all devices may have it open just now.
        let gone = (0..60_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            find(&tag).unwrap().is_empty()
        });
        assert!(gone);
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
