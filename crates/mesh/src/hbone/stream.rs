//! A stream of a connection of HBONE, as whoever uses it sees it.

use std::io::{self, IoSliceMut};
use std::rc::Rc;

use super::inner::Inner;
use super::link::Link;
use super::streams::Flow;
use crate::h2::Code;
use crate::h2::frame::HEAD;
use crate::reactor::{Came, Carried, Sink};
use crate::tls::{AT_ONCE, RECORD, RECORDS};

/// The most that is sent in one frame: with its head it fills a record of TLS, so who reads the record has all of the frame.
pub(super) const PIECE: usize = RECORD - HEAD;
/// What is best sent at a time: it is encrypted at once, and no record is left that is not full.
pub(crate) const PIECES: usize = AT_ONCE / RECORD * PIECE;
/// What is read at a time where it is read to where it is sent from.
pub(crate) const FILLED: usize = RECORDS * PIECE;

/// It is released when this is dropped.
pub(super) struct Stream {
    pub(super) link: Rc<Link>,
    pub(super) id: u32,
}

fn broken() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl Stream {
    /// Does something, and has the connection's task send what it is to send by that.
    fn with<T>(&self, act: impl FnOnce(&mut Inner) -> T) -> T {
        let (done, sends) = {
            let mut inner = self.link.inner.borrow_mut();
            let done = act(&mut inner);
            (done, !inner.streams.connection.output().is_empty())
        };
        if sends {
            self.link.wake();
        }
        done
    }
}

impl Carried for Stream {
    fn take(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<Came> {
        self.with(|inner| {
            let streams = &mut inner.streams;
            let flow = streams.flows.get_mut(&self.id).ok_or_else(broken)?;
            if flow.came.is_empty() {
                // What has ended has ended, also if its connection was closed before that was heard.
                return match (flow.ended, flow.broken) {
                    (true, _) => Ok(Came::End),
                    (false, true) => Err(broken()),
                    (false, false) => Ok(Came::Nothing),
                };
            }
            let used = take(flow.came.data());
            flow.came.consume(used);
            if flow.came.is_empty() {
                self.link.give_back(std::mem::take(&mut flow.came));
            }
            if used > 0 {
                streams.connection.consumed(self.id, u32::try_from(used).unwrap_or(u32::MAX));
            }
            Ok(Came::Bytes)
        })
    }

    fn send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        self.with(|inner| {
            let streams = &mut inner.streams;
            let flow = streams.flows.get_mut(&self.id).filter(|flow| !flow.broken && !flow.finished);
            let flow = flow.ok_or_else(broken)?;
            let mut sent = 0;
            while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
                let piece = rest.get(..rest.len().min(PIECE)).unwrap_or_default();
                match streams.connection.data(self.id, piece, false).map_err(|_| broken())? {
                    0 => break,
                    count => sent += count,
                }
            }
            flow.blocked = sent < bytes.len();
            if sent > 0 {
                streams.serve(self.id);
            }
            Ok((sent > 0 || bytes.is_empty()).then_some(sent))
        })
    }

    fn fill(&self, most: usize, read: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize) -> io::Result<()> {
        let (filled, wakes) = {
            let mut inner = self.link.inner.borrow_mut();
            let rested = !inner.holds();
            let filled = inner.fill(self.id, most, read);
            let wakes = filled.is_err() || inner.has_output() || (rested && inner.holds());
            (filled, wakes)
        };
        // What is left, or what there is to be done at its end, is for its own task; and that it rests again.
        if wakes {
            self.link.wake();
        }
        filled
    }

    fn lead(&self, to: Option<Sink>) {
        if let Some(flow) = self.link.inner.borrow_mut().streams.flows.get_mut(&self.id) {
            flow.sink = to;
        }
    }

    fn finish(&self) {
        self.with(|inner| {
            let streams = &mut inner.streams;
            if let Some(flow) = streams.flows.get_mut(&self.id).filter(|flow| !flow.broken && !flow.finished)
            {
                flow.finished = true;
                // Where it has ended already there is nobody to tell.
                let _gone = streams.connection.data(self.id, b"", true);
            }
        });
    }

    fn reset(&self) {
        self.with(|inner| {
            if let Some(flow) = inner.streams.flows.get_mut(&self.id) {
                if !flow.broken {
                    self.link.note_abort();
                }
                flow.broken = true;
            }
            inner.streams.connection.reset(self.id, Code::CONNECT_ERROR);
        });
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = self.link.now();
        self.with(|inner| {
            let streams = &mut inner.streams;
            match streams.flows.remove(&self.id) {
                // What the peer has ended is ended, not broken off.
                Some(Flow { ended: true, broken: false, finished: false, .. }) => {
                    let _gone = streams.connection.data(self.id, b"", true);
                }
                Some(Flow { ended: false, broken: false, .. }) => self.link.note_abort(),
                _ => {}
            }
            streams.connection.release(self.id);
            streams.quiet = now;
        });
        // It may be the last one that the connection was there for.
        self.link.wake();
    }
}
