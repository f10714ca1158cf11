//! The connection to a shim of others: calls that are waited for, for as long as they may take, and answers that come when
//! they come.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use prost::Message;
use rustix::event::{PollFd, PollFlags, poll};

use super::super::super::Key;
use super::super::super::connection::{Connection, Refusal};
use crate::protocol::{Code, Exited, Frame, Kind, Response};

/// What an answer is to.
#[derive(Debug, Clone, PartialEq)]
pub(in super::super::super) enum Awaited {
    /// Exec: the process is known, and is to be started.
    Added(Key),
    /// Start of such a process, with the ids of container and process.
    Started(Key, String, String),
    /// Wait: the process has ended.
    Ended(Key),
    /// Delete of a process that ended so: its output is complete.
    Deleted(Key, Exited),
    /// Something that nobody waits for.
    Nothing,
}

/// An answer, and what it is to.
pub(in super::super::super) type Answer = (Awaited, Result<Vec<u8>, Refusal>);

#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    service: &'static str,
    /// The number of the next call's stream.
    next: u32,
    awaited: BTreeMap<u32, Awaited>,
    /// What has come and nobody has taken yet.
    answers: VecDeque<Answer>,
    open: bool,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, service: &'static str) -> std::io::Result<Self> {
        let connection = Connection::new(socket, false)?;
        let (awaited, answers) = (BTreeMap::new(), VecDeque::new());
        Ok(Self { connection, service, next: 1, awaited, answers, open: true })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.connection.fd()
    }

    /// The other side has not gone.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn wants_to_write(&self) -> bool {
        self.open && self.connection.wants_to_write()
    }

    /// The next answer that has come.
    pub(super) fn take(&mut self) -> Option<Answer> {
        self.answers.pop_front()
    }

    /// Asks; the answer is for [`take`](Self::take).
    pub(super) fn ask(&mut self, method: &str, request: &impl Message, awaited: Awaited) {
        if !self.open {
            self.answers.push_back((awaited, Err(gone())));
            return;
        }
        let stream = self.send(method, request);
        self.awaited.insert(stream, awaited);
        self.flush();
    }

    /// Asks and waits for the answer, so long at most.
    pub(super) fn call<A: Message + Default>(
        &mut self,
        method: &str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<A, Refusal> {
        let (stream, end) = (self.send(method, request), Instant::now() + limit);
        loop {
            self.flush();
            if let Some(payload) = self.receive(Some(stream)) {
                return Ok(A::decode(&*payload?)?);
            }
            if !self.open {
                return Err(gone());
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // An answer that comes now is nobody's.
                self.awaited.insert(stream, Awaited::Nothing);
                let message = format!("{method}: no answer within {} s", limit.as_secs());
                return Err(Refusal::internal(message));
            }
            self.wait(left)?;
        }
    }

    fn send(&mut self, method: &str, request: &impl Message) -> u32 {
        let stream = self.next;
        self.next = self.next.wrapping_add(2) | 1;
        self.connection.request(stream, self.service, method, request.encode_to_vec());
        stream
    }

    fn wait(&self, limit: Duration) -> Result<(), Refusal> {
        let limit = rustix::time::Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let wanted = if self.wants_to_write() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let fd = self.connection.fd();
        let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
        rustix::io::retry_on_intr(|| poll(&mut fds, Some(&limit))).map(drop).map_err(Refusal::internal)
    }

    fn flush(&mut self) {
        if self.connection.flush().is_err() {
            self.open = false;
        }
    }

    /// Reads and writes what can be; answers are for [`take`](Self::take).
    pub(super) fn advance(&mut self) {
        self.flush();
        let _ = self.receive(None);
    }

    /// Reads what has come: the answer on stream `wanted` is returned, others are kept.
    fn receive(&mut self, wanted: Option<u32>) -> Option<Result<Vec<u8>, Refusal>> {
        self.open &= self.connection.fill().unwrap_or(false);
        let mut found = None;
        loop {
            match self.connection.frame() {
                Ok(Some(frame)) if frame.kind == Kind::Response => {
                    if Some(frame.stream) == wanted {
                        found = Some(answer(&frame));
                    } else if let Some(awaited) = self.awaited.remove(&frame.stream) {
                        self.answers.push_back((awaited, answer(&frame)));
                    }
                }
                // A shim streams nothing and asks nothing here.
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => {
                    self.open = false;
                    break;
                }
            }
        }
        if !self.open {
            let lost = std::mem::take(&mut self.awaited).into_values();
            self.answers.extend(lost.map(|awaited| (awaited, Err(gone()))));
        }
        found
    }
}

fn gone() -> Refusal {
    Refusal::new(Code::FailedPrecondition, "the shim has closed its connection")
}

fn answer(frame: &Frame) -> Result<Vec<u8>, Refusal> {
    let response = Response::decode(&*frame.payload)
        .map_err(|e| Refusal::internal(format!("cannot read an answer: {e}")))?;
    match response.status {
        Some(status) if status.code != 0 => Err(Refusal::new(known(status.code), status.message)),
        _ => Ok(response.payload),
    }
}

/// The code of others' errors, where it is one that we give, too.
fn known(code: i32) -> Code {
    let all = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::Unimplemented,
    ];
    all.into_iter().find(|known| *known as i32 == code).unwrap_or(Code::Internal)
}
