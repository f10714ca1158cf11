//! Bytes that go from a descriptor to a stream that another connection carries, and are copied nowhere in between.

use std::io;
use std::task::Poll;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags, recvmsg, send};

use super::{END, End, IN, OUT, Socket};

/// What became of bytes that were to go to a stream at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// So many have gone.
    Bytes(usize),
    /// None come any more.
    End,
    /// The stream takes none now. The task waits for it.
    Blocked,
    /// The stream is broken off.
    Gone,
    /// There is an error where they come from.
    Broken,
}

impl Socket {
    /// Has what came on a descriptor read to where this stream sends it from, no more than so many bytes.
    pub(crate) fn poll_fill(&self, from: &Self, most: usize) -> Poll<Filled> {
        let (End::Carried(stream), End::Kernel(fd, _)) = (&self.end, &from.end) else {
            return Poll::Ready(Filled::Broken);
        };
        if !from.has(IN) {
            return from.park();
        }
        if !self.has(OUT) {
            let _pending: Poll<()> = self.park();
            return Poll::Ready(Filled::Blocked);
        }
        if !self.core.goes_on() {
            return Poll::Pending;
        }
        let mut received = None;
        let filled = stream.fill(most, &mut |places| {
            let room: usize = places.iter().map(|place| place.len()).sum();
            let message = recvmsg(fd, places, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT);
            let came = message.map(|message| message.bytes);
            received = Some((came, room));
            came.unwrap_or(0)
        });
        match (filled, received) {
            (Err(_), _) => Poll::Ready(Filled::Gone),
            (Ok(()), None) => {
                self.clear(OUT);
                let _pending: Poll<()> = self.park();
                Poll::Ready(Filled::Blocked)
            }
            (Ok(()), Some((Ok(0), _))) => Poll::Ready(Filled::End),
            (Ok(()), Some((Ok(count), room))) => {
                // Less than there was room for is all there was; more of it is another event.
                if count < room && !from.has(END) {
                    from.clear(IN);
                }
                Poll::Ready(Filled::Bytes(count))
            }
            (Ok(()), Some((Err(Errno::AGAIN), _))) => {
                from.clear(IN);
                from.park()
            }
            (Ok(()), Some((Err(_), _))) => Poll::Ready(Filled::Broken),
        }
    }

    /// As [`Socket::poll_write`], by another task than the one that waits for it: that one is woken when there is room again.
    pub(crate) fn write_at_once(&self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let End::Kernel(fd, _) = &self.end else { return Poll::Pending };
        if !self.has(OUT) {
            return Poll::Pending;
        }
        match send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(count) => {
                if count < bytes.len() {
                    self.clear(OUT);
                }
                Poll::Ready(Ok(count))
            }
            Err(Errno::AGAIN) => {
                self.clear(OUT);
                Poll::Pending
            }
            Err(e) => Poll::Ready(Err(e.into())),
        }
    }
}
