//! Unix sockets by a path of any length: the kernel takes 107 bytes, so the directory is named by a descriptor.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};

/// The longest path the kernel takes.
const LONGEST: usize = 107;

/// Calls `act` with an address for `path`.
fn with_address<T>(
    path: &Path,
    act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<T>,
) -> rustix::io::Result<T> {
    if path.as_os_str().len() <= LONGEST {
        return act(&SocketAddrUnix::new(path)?);
    }
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let dir = rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let short: PathBuf = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    act(&SocketAddrUnix::new(&short)?)
}

/// A socket connected to the one at `path`.
pub(crate) fn connect(path: &Path, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    with_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// As [`connect`], but does not wait where nobody takes connections for the moment (`EAGAIN`).
pub(crate) fn try_connect(path: &Path, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    with_address(path, |address| rustix::net::connect(&socket, address))?;
    Ok(socket)
}

/// A socket that listens at `path`, which must not be there.
pub(crate) fn listen(path: &Path, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    with_address(path, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}
