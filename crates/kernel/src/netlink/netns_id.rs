use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::socket::Socket;
use super::wire::{Attributes, Batch};
use crate::Result;

const RTM_NEWNSID: u16 = 88;
const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// The number by which links of the socket's namespace name another one ([`Link::peer_netns`](super::Link::peer_netns)). None where no link that
/// was ever listed leads there.
pub fn netns_id(socket: &mut Socket, netns: BorrowedFd<'_>) -> Result<Option<u32>> {
    let mut batch = Batch::new();
    batch
        .question(RTM_GETNSID, &[0; 4], "find", "the number of a network namespace")
        .u32(NETNSA_FD, netns.as_raw_fd().cast_unsigned());
    let mut found = None;
    socket.each(&batch, |message| {
        if message.kind == RTM_NEWNSID {
            found = Attributes::after(message.body, 4).find(NETNSA_NSID).and_then(|id| id.u32());
        }
    })?;
    // NETNSA_NSID_NOT_ASSIGNED is -1.
    Ok(found.filter(|id| id.cast_signed() >= 0))
}
