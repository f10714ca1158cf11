//! Descriptors for whoever called, by a socket that an option names: the terminal's master, and the process.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, sendmsg};

use super::failure::Failure;
use super::options::{Given, Opt, value};

/// What a receiver of a terminal is told the descriptor is.
const MASTER: &[u8] = b"/dev/ptmx";

pub(super) const PIDFD_SOCKET: Opt =
    value("pidfd-socket", None, "SOCKET", "where to send a descriptor of the process (a pidfd)");

/// Sends the terminal's master.
pub(super) fn console(path: &Path, master: BorrowedFd<'_>) -> Result<(), Failure> {
    send("console-socket", path, MASTER, master)
}

/// Sends the process where `--pidfd-socket` asks for it. `word` is what runc says with it: `standard` of a container's,
/// `setns` of one that joins.
pub(super) fn process(given: &Given, word: &str, pidfd: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let path = given.get(PIDFD_SOCKET.long).filter(|path| !path.is_empty());
    match (path, pidfd) {
        (Some(path), Some(pidfd)) => send(PIDFD_SOCKET.long, Path::new(path), word.as_bytes(), pidfd),
        _ => Ok(()),
    }
}

fn send(option: &str, path: &Path, word: &[u8], fd: BorrowedFd<'_>) -> Result<(), Failure> {
    let say = |e| {
        let cause = std::io::Error::from(e);
        Failure::new(format!("cannot send a descriptor to --{option} {}: {cause}", path.display()))
    };
    let socket = crate::unix::connect(path, SocketType::STREAM).map_err(say)?;
    let fds = [fd];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(&socket, &[IoSlice::new(word)], &mut ancillary, SendFlags::NOSIGNAL)
    });
    sent.map(drop).map_err(say)
}
