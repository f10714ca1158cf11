//! What a connection knows, and what becomes of it when something arrives.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::AsyncWrite;

use super::protocol::{Event, Protocol, Reset};
use super::{Incoming, STREAMS_MAX, Transport, WINDOW};

/// Why a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The peer said so, and what it sent is all it wanted to send.
    Orderly,
    /// It vanished, was idle for too long or broke the rules; or the connection was closed here.
    Cut,
}

pub(super) struct State {
    /// Let go of when the connection is gone, whoever still holds a stream.
    pub(super) transport: Option<Box<dyn Transport>>,
    pub(super) protocol: Box<dyn Protocol>,
    /// Control frames, and the rest of a frame that the socket took a part of.
    pub(super) outgoing: BytesMut,
    /// Whether the transport may hold back what it was given.
    pub(super) unflushed: bool,
    pub(super) streams: HashMap<u32, StreamState>,
    pub(super) incoming: VecDeque<Incoming>,
    pub(super) sealed: bool,
    pub(super) accepting: Option<Waker>,
    pub(super) waiting_for_end: Vec<Waker>,
    /// Set once the farewell is on its way: how long to wait for the peer's after that.
    pub(super) closing: Option<Duration>,
    pub(super) gone: Option<End>,
    /// The stream whose full buffer keeps the connection from being read.
    pub(super) stalled: Option<u32>,
    /// What was read and cannot be dealt out while that lasts.
    pub(super) unparsed: Vec<u8>,
    /// What the peer grants a new stream; `None` for a peer without flow control.
    pub(super) peer_window: Option<u32>,
    /// Bytes sent on all streams, against the whole connection's window if the peer has one.
    pub(super) session_sent: u64,
    pub(super) session_granted: Option<u64>,
    pub(super) last_received: Instant,
    pub(super) last_sent: Instant,
}

/// What comes of a stream's other direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receiving {
    Open,
    /// The peer has closed its side.
    Ended,
    /// The peer has cut the stream off.
    Reset,
}

pub(super) struct StreamState {
    pub(super) received: BytesMut,
    pub(super) receiving: Receiving,
    /// Nobody reads any more: what comes is dropped.
    pub(super) unread: bool,
    /// Read, and not granted anew yet.
    pub(super) uncredited: u32,
    /// Whether more may be written.
    pub(super) sending: bool,
    /// The peer has consented to the stream.
    pub(super) replied: bool,
    pub(super) sent: u64,
    /// `None` for a peer without flow control.
    pub(super) granted: Option<u64>,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl StreamState {
    pub(super) fn new(window: Option<u32>) -> StreamState {
        StreamState {
            received: BytesMut::new(),
            receiving: Receiving::Open,
            unread: false,
            uncredited: 0,
            sending: true,
            replied: true,
            sent: 0,
            granted: window.map(u64::from),
            reader: None,
            writer: None,
        }
    }

    fn is_over(&self) -> bool {
        self.unread && !self.sending && self.receiving != Receiving::Open
    }

    pub(super) fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }
}

impl State {
    /// Sends what is to go first. Ready once nothing is left, and the transport holds nothing back.
    pub(super) fn flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(transport) = &mut self.transport else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        while !self.outgoing.is_empty() {
            let taken = ready!(Pin::new(&mut *transport).poll_write(context, &self.outgoing))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(taken);
            self.unflushed = true;
        }
        // An idle connection keeps no buffer.
        self.outgoing = BytesMut::new();
        if self.unflushed {
            ready!(Pin::new(transport).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// What an event means for the streams.
    pub(super) fn take(&mut self, event: Event<'_>) {
        match event {
            Event::Nothing => {}
            Event::Open { stream, headers, fin } => self.opened(stream, headers, fin),
            Event::Reply { stream, fin } => {
                if let Some(state) = self.streams.get_mut(&stream) {
                    state.replied = true;
                    state.wake();
                }
                if fin {
                    self.received(stream, &[], true);
                }
            }
            Event::Data { stream, bytes, fin } => self.received(stream, &bytes, fin),
            Event::Reset { stream } => {
                if let Some(state) = self.streams.get_mut(&stream) {
                    state.receiving = Receiving::Reset;
                    state.sending = false;
                    state.wake();
                }
                self.forget_if_over(stream);
            }
            Event::Window { initial } => self.window(initial),
            Event::Credit { stream: 0, bytes } => {
                self.session_granted =
                    Some(self.session_granted.unwrap_or(65_536).saturating_add(u64::from(bytes)));
                self.streams.values_mut().filter_map(|stream| stream.writer.take()).for_each(Waker::wake);
            }
            Event::Credit { stream, bytes } => {
                // A peer that grants without having announced it began with the protocol's own window.
                if self.peer_window.is_none() {
                    self.window(65_536);
                }
                if let Some(state) = self.streams.get_mut(&stream) {
                    state.granted = Some(state.granted.unwrap_or(65_536).saturating_add(u64::from(bytes)));
                    state.writer.take().into_iter().for_each(Waker::wake);
                }
            }
            Event::Bye { orderly } => self.go(if orderly { End::Orderly } else { End::Cut }),
        }
    }

    fn opened(&mut self, stream: u32, headers: Option<crate::spdy::Headers>, fin: bool) {
        let refused = self.sealed || self.streams.len() >= STREAMS_MAX;
        let Some(headers) = headers.filter(|_| !refused) else {
            self.protocol.reset(stream, Reset::Refused, &mut self.outgoing);
            return;
        };
        let mut state = StreamState::new(self.peer_window);
        if fin {
            state.receiving = Receiving::Ended;
        }
        self.streams.insert(stream, state);
        self.incoming.push_back(Incoming { id: stream, headers });
        self.accepting.take().into_iter().for_each(Waker::wake);
    }

    fn received(&mut self, stream: u32, bytes: &[u8], fin: bool) {
        // A stream that is over here, of which the peer does not know yet.
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if state.receiving != Receiving::Open {
            return;
        }
        if state.unread {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            state.uncredited = state.uncredited.saturating_add(length);
        } else {
            state.received.extend_from_slice(bytes);
        }
        if fin {
            state.receiving = Receiving::Ended;
        }
        state.reader.take().into_iter().for_each(Waker::wake);
        let length = state.received.len();
        match self.peer_window {
            Some(_) if length > WINDOW => self.reset(stream, Reset::FlowControl),
            None if length >= WINDOW => self.stalled = Some(stream),
            _ => {}
        }
        self.grant(stream);
        self.forget_if_over(stream);
    }

    /// Grants a peer with flow control what was read, in large steps.
    pub(super) fn grant(&mut self, stream: u32) {
        let Some(state) = self.streams.get_mut(&stream) else { return };
        if self.peer_window.is_some()
            && state.receiving == Receiving::Open
            && state.uncredited as usize >= WINDOW / 2
        {
            self.protocol.credit(stream, std::mem::take(&mut state.uncredited), &mut self.outgoing);
        }
    }

    fn window(&mut self, initial: u32) {
        let before = self.peer_window.replace(initial);
        for stream in self.streams.values_mut() {
            let granted = stream.granted.unwrap_or(0);
            let more = u64::from(initial).saturating_sub(u64::from(before.unwrap_or(0)));
            stream.granted = Some(granted.saturating_add(more));
            stream.writer.take().into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the buffer that kept the connection from being read has room again.
    pub(super) fn resume(&mut self) -> bool {
        let full = |id: &u32| self.streams.get(id).is_some_and(|stream| stream.received.len() > WINDOW / 2);
        if self.stalled.as_ref().is_some_and(full) {
            return false;
        }
        self.stalled = None;
        true
    }

    /// Cuts a stream off, towards the peer and here.
    pub(super) fn reset(&mut self, stream: u32, why: Reset) {
        self.protocol.reset(stream, why, &mut self.outgoing);
        if let Some(state) = self.streams.get_mut(&stream) {
            state.receiving = Receiving::Reset;
            state.sending = false;
            state.received = BytesMut::new();
            state.wake();
        }
        self.forget_if_over(stream);
    }

    pub(super) fn forget_if_over(&mut self, stream: u32) {
        if self.streams.get(&stream).is_some_and(StreamState::is_over) {
            self.streams.remove(&stream);
        }
    }

    /// The connection is gone: everybody who waits is told.
    pub(super) fn go(&mut self, end: End) {
        if self.gone.is_none() {
            self.gone = Some(end);
        }
        self.streams.values_mut().for_each(StreamState::wake);
        self.accepting.take().into_iter().chain(self.waiting_for_end.drain(..)).for_each(Waker::wake);
    }
}
