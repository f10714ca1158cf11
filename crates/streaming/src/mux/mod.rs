//! Many streams over one connection, whatever the protocol frames them with.
//!
//! One [`Driver`] reads the connection and deals out what arrives; whoever writes to a stream writes to the socket
//! itself, a frame at a time, without a queue in between. What the socket does not take of a frame once begun is kept
//! (at most one frame, and answers to pings) and goes first. Nothing is read from the socket while a stream that the
//! peer cannot be held back on has a full buffer.

mod driver;
mod protocol;
mod scratch;
mod state;
mod stream;
mod wakers;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use driver::Driver;
pub use protocol::Malformed;
pub(crate) use protocol::{Event, Framing, Header, Protocol, Reset};
pub(crate) use scratch::with_scratch;
pub use stream::{Input, Output};

use crate::spdy::Headers;
use state::{State, StreamState};
use wakers::Wakers;

/// How much may wait for a stream's reader: what a peer with flow control is granted, and where reading stops for one
/// without.
pub(crate) const WINDOW: usize = 256 * 1024;

/// Streams a peer may have open at a time.
const STREAMS_MAX: usize = 1024;

/// A connection's bytes.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

/// A connection with streams; clones are the same connection.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    wakers: Arc<Wakers>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

/// A stream that the peer has opened and nobody has taken yet.
pub(crate) struct Incoming {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
}

impl Connection {
    /// A connection over `transport`, and what must be polled for it to live.
    pub(crate) fn new(
        transport: Box<dyn Transport>,
        mut protocol: Box<dyn Protocol>,
    ) -> (Connection, Driver) {
        let mut outgoing = BytesMut::new();
        protocol.begin(&mut outgoing);
        let state = State {
            transport: Some(transport),
            protocol,
            outgoing,
            unflushed: false,
            streams: HashMap::new(),
            incoming: VecDeque::new(),
            sealed: false,
            accepting: None,
            waiting_for_end: Vec::new(),
            closing: None,
            gone: None,
            stalled: None,
            unparsed: Vec::new(),
            peer_window: None,
            session_sent: 0,
            session_granted: None,
            last_received: Instant::now(),
            last_sent: Instant::now(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), wakers: Arc::new(Wakers::default()) });
        (Connection { shared: Arc::clone(&shared) }, Driver::new(shared))
    }

    /// The next stream the peer opens; `None` once the connection is gone.
    pub(crate) async fn incoming(&self) -> Option<Incoming> {
        std::future::poll_fn(|context| {
            let mut state = self.shared.lock();
            if let Some(incoming) = state.incoming.pop_front() {
                return Poll::Ready(Some(incoming));
            }
            if state.gone.is_some() {
                return Poll::Ready(None);
            }
            state.accepting = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Takes a stream that the peer opened: it is told so, and may send.
    pub(crate) fn accept(&self, id: u32) -> (Input, Output) {
        self.with_protocol(|protocol, outgoing| protocol.reply(id, outgoing));
        self.halves(id)
    }

    /// Refuses a stream that the peer opened.
    pub(crate) fn refuse(&self, id: u32, why: Reset) {
        let mut state = self.shared.lock();
        state.reset(id, why);
        // Nobody has its halves, whose drop would make it forgotten: it would count among the peer's for good.
        state.streams.remove(&id);
        drop(state);
        self.shared.wakers.wake_driver();
    }

    /// Opens a stream towards the peer; writing to it waits for the peer's consent.
    pub(crate) fn open(&self, headers: &Headers) -> (Input, Output) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let id = state.protocol.open(headers, &mut state.outgoing);
        let stream = StreamState { replied: false, ..StreamState::new(state.peer_window) };
        state.streams.insert(id, stream);
        drop(guard);
        self.shared.wakers.wake_driver();
        self.halves(id)
    }

    /// A stream that is there from the start, by its number: a WebSocket's channel.
    pub(crate) fn channel(&self, id: u32) -> (Input, Output) {
        let mut state = self.shared.lock();
        let stream = StreamState::new(state.peer_window);
        state.streams.insert(id, stream);
        drop(state);
        self.halves(id)
    }

    /// Takes no further streams: those that come are refused unread, and what reading their headers needed is let go.
    pub(crate) fn seal(&self) {
        let mut state = self.shared.lock();
        state.sealed = true;
        state.protocol.seal();
    }

    /// Sends the peer a farewell and ends the connection once all is sent and the peer has closed, or has had its time.
    pub(crate) fn close(&self, linger: Duration) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.closing.is_none() && state.gone.is_none() {
            state.protocol.bye(&mut state.outgoing);
            state.closing = Some(linger);
        }
        drop(guard);
        self.shared.wakers.wake_driver();
    }

    /// Tells when the connection is gone.
    pub(crate) fn gone(&self) -> Gone {
        Gone { shared: Arc::clone(&self.shared) }
    }

    /// Writes a control frame.
    pub(crate) fn with_protocol(&self, act: impl FnOnce(&mut dyn Protocol, &mut BytesMut)) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        act(&mut *state.protocol, &mut state.outgoing);
        drop(guard);
        self.shared.wakers.wake_driver();
    }

    fn halves(&self, id: u32) -> (Input, Output) {
        (Input::new(Arc::clone(&self.shared), id), Output::new(Arc::clone(&self.shared), id))
    }
}

/// To learn that a connection is gone.
#[derive(Debug, Clone)]
pub(crate) struct Gone {
    shared: Arc<Shared>,
}

impl Gone {
    pub(crate) fn is_set(&self) -> bool {
        self.shared.lock().gone.is_some()
    }

    pub(crate) async fn wait(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.shared.lock();
            if state.gone.is_some() {
                return Poll::Ready(());
            }
            if !state.waiting_for_end.iter().any(|waker| waker.will_wake(context.waker())) {
                state.waiting_for_end.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}
