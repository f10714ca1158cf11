//! A request and its answer, on their way.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::Proxy;
use super::super::mirror::Copies;
use super::super::rules::Service;
use super::kept::Kept;
use super::tries::Tries;
use crate::balance::Pick;
use crate::h2::Fields;
use crate::h2::frame::PAYLOAD;
use crate::http1::{Edits, Method};
use crate::telemetry::Call;

/// One direction of a body: what came of it and was not passed on. No more comes than the stream's window lets.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) bytes: Vec<u8>,
    /// What was before them, of a request that can be sent once more.
    pub(super) kept: Option<Kept>,
    /// Nothing comes behind these bytes, but the trailers.
    pub(super) end: bool,
    pub(super) trailers: Option<Fields>,
    /// All of it was passed on.
    pub(super) done: bool,
    /// When something of it was passed on last, or began to wait for that.
    pub(super) moved: Instant,
}

impl Flow {
    /// Nothing has come yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { bytes: Vec::new(), kept: None, end: false, trailers: None, done: false, moved: now }
    }

    /// Something more comes.
    pub(super) fn comes(&mut self, now: Instant) {
        // What waits already has its time.
        if !self.waits() {
            self.moved = now;
        }
    }

    /// So many bytes were passed on.
    pub(super) fn passed(&mut self, count: usize) {
        self.bytes.drain(..count);
        if self.bytes.is_empty() {
            // A body of which nothing waits needs no memory.
            self.bytes = Vec::new();
        }
    }

    /// Whether something can be passed on.
    pub(super) fn waits(&self) -> bool {
        !self.done && (self.end || !self.bytes.is_empty() || self.replays())
    }

    /// What is passed on next, no more than one frame has, and whether that is the end.
    pub(super) fn piece(&self) -> (&[u8], bool) {
        let kept = self.kept.as_ref().map(Kept::rest).unwrap_or_default();
        let (bytes, is_last) =
            if kept.is_empty() { (self.bytes.as_slice(), true) } else { (kept, self.bytes.is_empty()) };
        let piece = bytes.get(..PAYLOAD).unwrap_or(bytes);
        (piece, is_last && self.end && self.trailers.is_none() && piece.len() == bytes.len())
    }

    /// Whether what comes next was passed on before, to another endpoint.
    pub(super) fn replays(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.rest().is_empty())
    }

    /// All of it that there is was passed on, and nothing but trailers comes behind it.
    pub(super) fn is_through(&self) -> bool {
        self.end && self.bytes.is_empty() && !self.replays()
    }

    /// It is passed on from its beginning.
    pub(super) fn rewind(&mut self) {
        if let Some(kept) = &mut self.kept {
            kept.rewind();
        }
        self.done = false;
    }

    /// It is not passed on once more: what is kept of it for that is not, as far as it has gone on this time.
    pub(super) fn forget(&mut self) {
        if !self.replays() {
            self.kept = None;
        }
        if self.done {
            self.trailers = None;
        }
    }
}

/// Where a request is at an endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct There {
    pub(super) backend: usize,
    pub(super) stream: u32,
}

pub(super) struct Exchange {
    /// Of whom it asks, for people.
    pub(super) name: String,
    pub(super) service: Option<Service>,
    /// The head as it goes on.
    pub(super) head: Fields,
    pub(super) response: Edits,
    pub(super) grpc: bool,
    /// A HEAD: its answer has no body.
    pub(super) bodyless: bool,
    /// When it was sent last.
    pub(super) began: Instant,
    /// When that is late, or all of it while it waits to be sent once more.
    pub(super) limit: Option<Instant>,
    pub(super) pick: Option<Pick>,
    pub(super) avoid: Vec<SocketAddr>,
    /// What may be tried where this one does not answer.
    pub(super) tries: Tries,
    pub(super) there: Option<There>,
    pub(super) up: Flow,
    pub(super) down: Flow,
    /// Who else gets the request.
    pub(super) copies: Copies,
    /// More of the body went on than is kept: it cannot be sent once more.
    pub(super) uploading: bool,
    /// The client has the head of the answer.
    pub(super) answered: bool,
    /// So many answers of 1xx came before it.
    pub(super) informational: u32,
    /// Where it is counted.
    pub(super) call: Call,
}

impl Exchange {
    /// Whether an answer with this status is thrown away, since the request is sent once more. If so all that this needs was asked for.
    pub(super) fn swallows(&mut self, proxy: &Proxy, status: u16, now: Instant) -> bool {
        !self.uploading && self.tries.names(status) && self.tries.spend(proxy, now)
    }

    /// Whether it may be sent once more though somebody may have worked on it.
    pub(super) fn is_idempotent(&self) -> bool {
        self.head.get(b":method").is_some_and(|method| Method::of(method).is_idempotent())
    }
}
