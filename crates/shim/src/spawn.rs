//! Starting a shim, from a binary that nothing inside a container can reach.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use kernel::process::{CStrings, Child, Program};

/// The small build's file.
const SMALL: &str = "sextant-shim";

/// The program that shims are: read-only detached clones of files, made once and used for any number of shims.
#[derive(Debug)]
pub struct Binary {
    own: OwnedFd,
    small: Option<OwnedFd>,
    path: PathBuf,
}

impl Binary {
    /// The small build where it is installed beside this program, or this program, which is a shim too.
    ///
    /// One that is older than this program is of another version, left behind by an upgrade or a build.
    ///
    /// # Errors
    /// The kernel does not clone the mount that this program is on.
    pub fn find() -> kernel::Result<Self> {
        let small = small();
        let own = std::env::current_exe().unwrap_or_default();
        let path = if small.is_some() { own.with_file_name(SMALL) } else { own };
        Ok(Self { own: kernel::mount::own_program()?, small, path })
    }

    /// Where the program is installed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a shim, called `name` in the list of processes. Its standard error goes to the end of `errors`. With `reaps`
    /// it can run this program at its container's end (see [`CreateRequest::on_exit`](crate::protocol::CreateRequest)).
    ///
    /// The socket is its creator's channel.
    ///
    /// # Errors
    /// `errors` cannot be opened, or no process can be made.
    pub fn spawn(&self, name: &str, errors: &Path, reaps: bool) -> io::Result<(OwnedFd, Child)> {
        let (ours, theirs) = UnixStream::pair()?;
        let (ours, theirs): (OwnedFd, OwnedFd) = (ours.into(), theirs.into());
        let open = |path: &Path| {
            let file = fs::File::options().read(true).append(true).create(true).open(path);
            file.map_err(|e| io::Error::new(e.kind(), format!("cannot open {}: {e}", path.display())))
        };
        let null = open(Path::new("/dev/null"))?;
        let errors = open(errors)?;
        let mut fds = vec![null.as_fd(), null.as_fd(), errors.as_fd(), theirs.as_fd()];
        if reaps {
            fds.push(self.own.as_fd());
        }
        let program = Program {
            file: self.small.as_ref().unwrap_or(&self.own).as_fd(),
            args: CStrings::new(["sextant-shim", name]).map_err(io::Error::other)?,
            env: CStrings::new(["RUST_BACKTRACE=0"]).map_err(io::Error::other)?,
            fds,
        };
        Ok((ours, kernel::process::spawn(&program).map_err(io::Error::other)?))
    }
}

fn small() -> Option<OwnedFd> {
    let small = kernel::process::small_build(SMALL)?;
    let path = kernel::process::cstring(small.as_os_str().as_encoded_bytes()).ok()?;
    kernel::mount::read_only_program(&path).ok()
}
