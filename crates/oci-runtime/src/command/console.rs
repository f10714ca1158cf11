//! The terminal's master, for whoever called.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg};

use super::failure::Failure;
use super::options::Given;

/// What a receiver is told the descriptor is.
const MASTER: &[u8] = b"/dev/ptmx";

/// The socket of `--console-socket`.
pub(super) fn socket_path(given: &Given) -> Option<PathBuf> {
    given.get("console-socket").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Whether terminal, detachment and socket go together.
pub(super) fn check(terminal: bool, detached: bool, socket: Option<&Path>) -> Result<(), Failure> {
    match (terminal, detached, socket) {
        (true, true, None) => Err(Failure::usage(
            "cannot allocate tty: nobody would hold the terminal of a detached process (process.terminal is true; \
             give --console-socket)",
        )),
        (false, _, Some(path)) => Err(Failure::usage(format!(
            "cannot use --console-socket {}: the process has no terminal (set process.terminal, or leave it out)",
            path.display()
        ))),
        (true, false, Some(path)) => Err(Failure::usage(format!(
            "cannot use --console-socket {}: this command holds the terminal itself (add --detach, or leave it out)",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Sends the master by the socket.
pub(super) fn send(path: &Path, master: &OwnedFd) -> Result<(), Failure> {
    let say = |e| {
        let cause = std::io::Error::from(e);
        Failure::new(format!("cannot send the terminal to --console-socket {}: {cause}", path.display()))
    };
    let socket = crate::unix::connect(path, SocketType::STREAM).map_err(say)?;
    let fds = [master.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(&socket, &[IoSlice::new(MASTER)], &mut ancillary, SendFlags::NOSIGNAL)
    });
    sent.map(drop).map_err(say)
}
