//! What somebody sees who looks at the link between client and backend.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recv, socket_with};

use super::load::MARKS;
use super::place::Place;
use crate::Result;

/// What waits to be looked at, at most.
const BUFFER: usize = 64 << 20;
/// Longer than any frame is.
const FRAME: usize = 1 << 17;
/// Addresses of Ethernet, which frames of loopback have none of.
const NOBODY: [u8; 12] = [0; 12];

/// Keeps all that goes by from now on.
pub(super) struct Wire(OwnedFd);

/// Frames that went by.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) frames: usize,
    /// In which something could be read that was sent.
    pub(super) plain: usize,
}

impl Wire {
    pub(super) fn new(place: &Place) -> Result<Self> {
        let opened = place.far().run(|| {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(eth::ALL))?;
            set_socket_recv_buffer_size_force(&socket, BUFFER)?;
            Ok::<_, Errno>(socket)
        });
        Ok(Self(opened.map_err(|e| format!("cannot look at the link to the backends: {e}"))?))
    }

    /// What went by until now.
    pub(super) fn seen(&self) -> Result<Seen> {
        let (mut seen, mut buffer) = (Seen::default(), vec![0; FRAME]);
        loop {
            let length = match recv(&self.0, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(seen),
                Err(e) => return Err(format!("cannot look at the link to the backends: {e}").into()),
            };
            seen.take(&buffer[..length]);
        }
    }
}

impl Seen {
    /// One frame more. What is passed on within a network is on no wire.
    fn take(&mut self, frame: &[u8]) {
        if frame.starts_with(&NOBODY) {
            return;
        }
        self.frames += 1;
        let has = |mark: &&[u8]| frame.windows(mark.len()).any(|part| part == *mark);
        self.plain += usize::from(MARKS.iter().any(has));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_is_found_but_not_on_a_loopback() {
        let mut seen = Seen::default();
        let frame = |addresses: u8, text: &[u8]| [&[addresses; 14][..], text].concat();
        for (addresses, text) in [(1, MARKS[0]), (1, MARKS[1]), (1, &b"\x17\x03\x03"[..]), (0, MARKS[0])] {
            seen.take(&frame(addresses, text));
        }
        assert_eq!((seen.frames, seen.plain), (3, 2));
    }
}
