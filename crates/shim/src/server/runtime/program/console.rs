//! `--console-socket`: where a runtime's command hands over the master of a terminal.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// A socket for one terminal. Its file goes with it.
#[derive(Debug)]
pub(super) struct Console {
    listener: UnixListener,
    file: PathBuf,
    /// Keeps `path` a path.
    _dir: OwnedFd,
    path: String,
}

impl Drop for Console {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.file));
    }
}

impl Console {
    /// Listens at `name` in `dir`.
    pub(super) fn listen(dir: &Path, name: &str) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let held = rustix::fs::open(dir, flags, Mode::empty())?;
        // Short enough for a socket, and good for other processes, too.
        let path = format!("/proc/{}/fd/{}/{name}", std::process::id(), held.as_raw_fd());
        let file = dir.join(name);
        drop(fs::remove_file(&file));
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, file, _dir: held, path })
    }

    /// What the command is told.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Takes the terminal. The command has ended: what it sent is here.
    pub(super) fn receive(&self) -> io::Result<OwnedFd> {
        let (sender, _) = self.listener.accept()?;
        sender.set_nonblocking(true)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // Its name comes with it, which is nothing to us.
        let mut name = [0; 4096];
        let mut io = [io::IoSliceMut::new(&mut name)];
        rustix::io::retry_on_intr(|| {
            recvmsg(&sender, &mut io, &mut ancillary, RecvFlags::CMSG_CLOEXEC).map(drop)
        })?;
        let console = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        console.ok_or_else(|| io::Error::other("no descriptor came"))
    }
}
