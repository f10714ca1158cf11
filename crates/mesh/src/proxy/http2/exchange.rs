//! A request and its answer, on their way.

use std::net::SocketAddr;
use std::time::Instant;

use super::super::mirror::Copies;
use super::super::rules::Service;
use crate::balance::Pick;
use crate::h2::Fields;
use crate::h2::frame::PAYLOAD;
use crate::http1::Edits;
use crate::telemetry::Call;

/// One direction of a body: what came of it and was not passed on. No more comes than the stream's window lets.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) bytes: Vec<u8>,
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
        Self { bytes: Vec::new(), end: false, trailers: None, done: false, moved: now }
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
        !self.done && (self.end || !self.bytes.is_empty())
    }

    /// What is passed on next, no more than one frame has, and whether that is the end.
    pub(super) fn piece(&self) -> (&[u8], bool) {
        let piece = self.bytes.get(..PAYLOAD).unwrap_or(&self.bytes);
        (piece, self.end && self.trailers.is_none() && piece.len() == self.bytes.len())
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
    pub(super) began: Instant,
    pub(super) limit: Option<Instant>,
    pub(super) pick: Option<Pick>,
    pub(super) avoid: Vec<SocketAddr>,
    /// So often it was sent once more.
    pub(super) tries: u32,
    pub(super) there: Option<There>,
    pub(super) up: Flow,
    pub(super) down: Flow,
    /// Who else gets the request.
    pub(super) copies: Copies,
    /// Some of the body went on: it cannot be sent once more.
    pub(super) uploading: bool,
    /// The client has the head of the answer.
    pub(super) answered: bool,
    /// So many answers of 1xx came before it.
    pub(super) informational: u32,
    /// Where it is counted.
    pub(super) call: Call,
}
