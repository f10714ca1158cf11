//! Streams that another connection carries, as the loop sees them: sockets without a descriptor.
//!
//! Whoever carries a stream has its [`Marks`] and sets them as an event of the kernel would; the [`Socket`](super::Socket) over it asks
//! [`Carried`] for the bytes. So all that works over a connection works over such a stream as well.

use std::cell::Cell;
use std::io::{self, IoSliceMut};
use std::rc::Rc;
use std::task::Poll;

use super::{Core, DEAD, END, IN, NOBODY, OUT, Reactor, Sink, Source};

/// What there is of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing yet.
    Nothing,
    /// Bytes, which were shown.
    Bytes,
    /// Nothing comes any more.
    End,
}

/// A stream that another connection carries. It ends when this is dropped: with the end that was told ([`Carried::finish`], and all of the
/// other side's was taken), else as one that is broken off.
pub(crate) trait Carried {
    /// Shows bytes that came, which are there in one piece, not all that came; what of them is used is taken.
    ///
    /// # Errors
    /// The stream is broken off.
    fn take(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<Came>;

    /// Sends as much as there is room for; `None` where there is none, until [`Marks::writable`].
    ///
    /// # Errors
    /// The stream is broken off.
    fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>>;

    /// Has bytes read to where they are sent from, no more than `most`, and sends them. `read` is not called where none can be sent now, until
    /// [`Marks::writable`]; it says how many it has read.
    ///
    /// # Errors
    /// The stream is broken off.
    fn fill(&self, most: usize, read: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize) -> io::Result<()>;

    /// Has what comes from now on, and has nothing before it that was not taken, written to where it leads; what is not taken there is shown as
    /// ever. With `None` it leads nowhere any more.
    fn lead(&self, to: Option<Sink>);

    /// Sends nothing more.
    fn finish(&self);

    /// Breaks it off.
    fn reset(&self);
}

/// What is told of a stream, and to whom: as events of the kernel are of a descriptor. Clones are the same.
#[derive(Clone)]
pub(crate) struct Marks {
    source: Rc<Source>,
    core: Rc<Core>,
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Marks").field(&self.source.marks.get()).finish()
    }
}

impl Reactor {
    /// Marks of a stream that can be written to.
    pub(crate) fn marks(&self) -> Marks {
        let source = Rc::new(Source { marks: Cell::new(OUT), task: Cell::new(NOBODY) });
        Marks { source, core: self.core.clone() }
    }
}

impl Marks {
    pub(super) fn parts(&self) -> (Rc<Source>, Rc<Core>) {
        (self.source.clone(), self.core.clone())
    }

    fn set(&self, marks: u8) {
        self.source.marks.set(self.source.marks.get() | marks);
        self.core.queue(self.source.task.get());
    }

    /// Something has changed that is neither to be read nor room.
    pub(crate) fn wake(&self) {
        self.set(0);
    }

    /// There is something to read.
    pub(crate) fn readable(&self) {
        self.set(IN);
    }

    /// There is room.
    pub(crate) fn writable(&self) {
        self.set(OUT);
    }

    /// The other side sends nothing more.
    pub(crate) fn ended(&self) {
        self.set(IN | END);
    }

    /// It is gone both ways.
    pub(crate) fn dead(&self) {
        self.set(IN | OUT | END | DEAD);
    }

    /// The current task waits for it.
    pub(crate) fn park<T>(&self) -> Poll<T> {
        self.source.task.set(self.core.current.get());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;
    use crate::reactor::{Buffer, Socket};

    /// Gives back what it is sent, at most four bytes at a time.
    #[derive(Default)]
    struct Echo {
        bytes: RefCell<Vec<u8>>,
        finished: Cell<bool>,
    }

    impl Carried for Echo {
        fn take(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<Came> {
            let mut bytes = self.bytes.borrow_mut();
            if bytes.is_empty() {
                return Ok(if self.finished.get() { Came::End } else { Came::Nothing });
            }
            let used = take(&bytes);
            bytes.drain(..used);
            Ok(Came::Bytes)
        }

        fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
            let mut kept = self.bytes.borrow_mut();
            let count = bytes.len().min(4_usize.saturating_sub(kept.len()));
            kept.extend_from_slice(&bytes[..count]);
            Ok((count > 0).then_some(count))
        }

        fn fill(&self, most: usize, read: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize) -> io::Result<()> {
            let mut kept = self.bytes.borrow_mut();
            let mut place = [0; 4];
            let room = most.min(4_usize.saturating_sub(kept.len()));
            if room > 0 {
                let count = read(&mut [IoSliceMut::new(&mut place[..room])]);
                kept.extend_from_slice(&place[..count]);
            }
            Ok(())
        }

        fn lead(&self, _: Option<Sink>) {}

        fn finish(&self) {
            self.finished.set(true);
        }

        fn reset(&self) {}
    }

    #[test]
    fn a_carried_stream_is_a_socket() {
        let reactor = Reactor::new().unwrap();
        let marks = reactor.marks();
        let socket = Rc::new(Socket::carried(&marks, Box::new(Echo::default())));
        let (writing, told) = (socket.clone(), marks.clone());
        reactor.spawn(async move {
            writing.write(b"0123456789").await.unwrap();
            writing.finish();
            told.ended();
        });
        let (told, reading, turns) = (marks, socket, reactor.clone());
        let read = reactor.run(async move {
            let mut all = Vec::new();
            loop {
                // As whoever carries it does when it has sent some.
                told.readable();
                let mut buffer = Buffer::default();
                match poll_fn(|_| Poll::Ready(reading.poll_read(&mut buffer))).await {
                    Poll::Ready(Ok(0)) => return all,
                    Poll::Ready(read) => {
                        let count = read.unwrap();
                        assert!(count <= 4, "{count}");
                        all.extend_from_slice(buffer.data());
                    }
                    Poll::Pending => {}
                }
                told.writable();
                turns.yield_now().await;
            }
        });
        assert_eq!(read.unwrap(), b"0123456789");
    }
}
