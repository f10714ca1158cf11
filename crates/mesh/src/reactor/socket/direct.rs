//! Bytes that go between a descriptor and a stream that another connection carries, and are copied nowhere in between.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::Poll;

use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendFlags, recvmsg, send, sendmsg};

use super::{END, End, IN, OUT, Socket, Source};

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

/// What has become of what a stream has written to where it leads.
#[derive(Default)]
struct Moved {
    /// So many bytes have gone.
    bytes: Cell<u64>,
    /// It cannot be written to. The kernel says so once: whoever reads from there afterwards is told of an end.
    gone: Cell<bool>,
}

/// Where a stream leads: a descriptor, which stays open for as long as this is there.
pub(crate) struct Sink {
    fd: Rc<OwnedFd>,
    source: Rc<Source>,
    moved: Rc<Moved>,
}

impl std::fmt::Debug for Sink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sink").field(&self.fd).finish()
    }
}

impl Sink {
    /// Whether it takes something, as far as is known.
    pub(crate) fn takes(&self) -> bool {
        self.source.marks.get() & OUT != 0 && !self.moved.gone.get()
    }

    /// Writes as much as it takes, and says how much that was. The rest is for its own task to write, which [`Led::is_gone`] tells if that cannot be.
    pub(crate) fn write(&self, pieces: &[IoSlice<'_>]) -> usize {
        let room: usize = pieces.iter().map(|piece| piece.len()).sum();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(&self.fd, pieces, &mut SendAncillaryBuffer::default(), flags);
        if matches!(sent, Err(Errno::AGAIN)) || sent.is_ok_and(|count| count < room) {
            self.source.marks.set(self.source.marks.get() & !OUT);
        }
        if sent.is_err_and(|e| e != Errno::AGAIN) {
            self.moved.gone.set(true);
        }
        let count = sent.unwrap_or(0);
        self.moved.bytes.set(self.moved.bytes.get() + count as u64);
        count
    }
}

/// That a stream leads to a descriptor; no more when this is dropped.
pub(crate) struct Led<'a> {
    stream: &'a Socket,
    moved: Rc<Moved>,
}

impl Led<'_> {
    /// So many bytes have gone there since this was asked.
    pub(crate) fn take(&self) -> u64 {
        self.moved.bytes.replace(0)
    }

    /// Whether there was an error in writing there, which nobody else has heard of. An end that is read from there is none.
    pub(crate) fn is_gone(&self) -> bool {
        self.moved.gone.get()
    }
}

impl Drop for Led<'_> {
    fn drop(&mut self) {
        if let End::Carried(stream) = &self.stream.end {
            stream.lead(None);
        }
    }
}

impl Socket {
    /// Has what comes on this stream written to a descriptor as soon as it comes, as far as that takes it; the task that waits for the stream is
    /// woken each time.
    pub(crate) fn lead(&self, to: &Self) -> Option<Led<'_>> {
        let (End::Carried(stream), End::Kernel(fd, _)) = (&self.end, &to.end) else { return None };
        let moved = Rc::<Moved>::default();
        stream.lead(Some(Sink { fd: fd.clone(), source: to.source.clone(), moved: moved.clone() }));
        Some(Led { stream: self, moved })
    }

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
