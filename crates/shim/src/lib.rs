//! The keeper of a pod: one small process that is the parent of the pod's processes, holds their standard streams,
//! terminals and logs, brings further processes in, and keeps their exit codes. It outlives every other process of
//! Sextant, and speaks [`protocol`] on a socket in its bundle.
//!
//! **What it never does**: it starts no thread (the runtime clones from it), pulls no image, touches no network, and
//! waits for no client: one that is slow, hung or gone costs it a buffer of bounded size. It never outlives its container
//! by more than the time its creator needs to hear of the end.
//!
//! **What it does wait for**, and serves nobody meanwhile, is what a container's start and end are made of: the
//! container's process until it is ready, hooks for as long as they run (those without a timeout for ever), a logger of
//! the Task API until it is ready (10 s at most), systemd's answers over D-Bus for containers in its units, the end of a
//! process that it has killed itself, and what another runtime is asked for (60 s at most).
//!
//! Entry points: [`main`] for the process, [`Client`](client::Client) for its callers.
//!
//! Started with descriptor 3 a connected socket of its creator, and optionally descriptor 4 the program to run at the
//! end (see [`protocol::CreateRequest::on_exit`]). A creator that goes away before it started the container ends both.

pub mod client;
pub mod containerd;
mod pause;
pub mod protocol;
mod server;
pub mod spawn;
pub mod told;

pub use oci_runtime::timestamp;
pub use pause::{PAUSE, pause};

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A socket's path, as short as the kernel wants it (108 bytes): the directory is named by a descriptor.
#[derive(Debug)]
pub struct ShortPath {
    _dir: OwnedFd,
    path: PathBuf,
}

impl ShortPath {
    /// The path to connect or bind to, while this lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// `path` in few bytes.
///
/// # Errors
/// It names no file in a directory, or that directory cannot be opened.
pub fn short_path(path: &Path) -> io::Result<ShortPath> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket needs a directory and a name"));
    };
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, rustix::fs::Mode::empty())?;
    let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(name);
    Ok(ShortPath { _dir: dir, path })
}

/// Connects to a socket. One whose listener has more callers than it takes is `EAGAIN`: nobody waits for that.
fn connect_now(path: &Path) -> rustix::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// The shim's main function, whatever its binary is called.
///
/// # Errors
/// It prints to standard error (which its creator points at a file) and returns a failure.
pub fn main() -> ExitCode {
    ExitCode::from(run())
}

/// The same, with the exit code as a number.
pub fn run() -> u8 {
    match serve() {
        Ok(()) => 0,
        Err(error) => {
            complain(&format!("cannot go on: {error}"));
            1
        }
    }
}

/// Says something on standard error. Where that cannot be written (a full disk) nothing is said: `eprintln!` would panic.
fn complain(text: &str) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "sextant-shim: {text}");
}

/// What every server does first.
fn prepare() -> io::Result<()> {
    // Executed by a descriptor, it is called by that one's number.
    rustix::thread::set_name(c"sextant-shim")?;
    // What a container does to a process in its PID namespace before that has become a program must not reach this one.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    // The creator's directory would be busy, and its mask chance, as long as the container lives.
    rustix::process::chdir("/")?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

fn serve() -> io::Result<()> {
    prepare()?;
    let creator = kernel::process::take_inherited(3);
    let on_exit = kernel::process::take_inherited(4);
    let creator = creator.ok_or_else(|| {
        io::Error::other(
            "descriptor 3 is not open (a shim is started by `sextant run` or the daemon, not by hand)",
        )
    })?;
    server::Server::new(creator, on_exit)?.run()
}
