//! What comes over a socket with a descriptor beside it: a terminal, a seccomp listener.

use std::io::{Error, IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Longer than any message that comes with one.
const LONGEST: usize = 4096;

/// The message and the descriptor of the next connection.
///
/// # Errors
/// What the kernel says, and a message that brought no descriptor.
pub fn receive(listener: &UnixListener) -> Result<(Vec<u8>, OwnedFd)> {
    let (socket, _) = listener.accept()?;
    let mut bytes = vec![0_u8; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(&socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    bytes.truncate(received.bytes);
    let fd = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((bytes, fd.ok_or_else(|| Error::other("no descriptor came"))?))
}
