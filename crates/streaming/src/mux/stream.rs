//! The two directions of a stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::protocol::{Framing, Reset};
use super::state::{End, Receiving, State};
use super::{Shared, WINDOW};

/// What the peer sends on a stream.
///
/// Reading 0 bytes means that the peer closed its side. An error of the kind
/// [`ConnectionReset`](io::ErrorKind::ConnectionReset) means that it cut the stream off or is gone.
#[derive(Debug)]
pub struct Input {
    shared: Arc<Shared>,
    id: u32,
    /// The other direction, where nothing is ever sent but the news that nobody reads any more.
    other: Option<Output>,
}

/// What is sent to the peer on a stream. Dropping it, or shutting it down, tells the peer that nothing more comes.
///
/// A write waits until the socket, and the peer's window if it has one, takes at least a part. An error of the kind
/// [`BrokenPipe`](io::ErrorKind::BrokenPipe) means that the peer cut the stream off or is gone.
#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    id: u32,
}

impl Input {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Input {
        Input { shared, id, other: None }
    }

    /// Keeps the other direction open for as long as this one is read.
    pub(crate) fn with(mut self, other: Output) -> Input {
        self.other = Some(other);
        self
    }
}

impl AsyncRead for Input {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let gone = state.gone;
        let Some(stream) = state.streams.get_mut(&self.id) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if stream.received.is_empty() {
            return match (stream.receiving, gone) {
                (Receiving::Ended, _) | (Receiving::Open, Some(End::Orderly)) => Poll::Ready(Ok(())),
                (Receiving::Reset, _) | (_, Some(_)) => {
                    Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
                }
                (Receiving::Open, None) => {
                    stream.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            };
        }
        let length = stream.received.len().min(into.remaining());
        into.put_slice(stream.received.get(..length).unwrap_or_default());
        stream.received.advance(length);
        if stream.received.is_empty() {
            stream.received = BytesMut::new();
        }
        stream.uncredited = stream.uncredited.saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        let resumes = state.stalled == Some(self.id) && stream.received.len() <= WINDOW / 2;
        state.grant(self.id);
        let wake = resumes || !state.outgoing.is_empty();
        drop(guard);
        if wake {
            self.shared.wakers.wake_driver();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(stream) = state.streams.get_mut(&self.id) {
            stream.unread = true;
            let dropped = u32::try_from(stream.received.len()).unwrap_or(u32::MAX);
            stream.uncredited = stream.uncredited.saturating_add(dropped);
            stream.received = BytesMut::new();
        }
        state.grant(self.id);
        state.forget_if_over(self.id);
        drop(state);
        self.shared.wakers.wake_driver();
    }
}

impl Output {
    pub(super) fn new(shared: Arc<Shared>, id: u32) -> Output {
        Output { shared, id }
    }

    /// Cuts the stream off in both directions.
    pub(crate) fn reset(self) {
        self.shared.lock().reset(self.id, Reset::Cancel);
    }

    /// Waits until the peer has consented to the stream.
    pub(crate) async fn accepted(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            let mut guard = self.shared.lock();
            let state = &mut *guard;
            match state.streams.get_mut(&self.id) {
                // It may have ended since.
                Some(stream) if stream.replied => Poll::Ready(Ok(())),
                Some(stream) if stream.sending && state.gone.is_none() => {
                    stream.writer = Some(context.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            }
        })
        .await
    }

    /// Ends this direction, and says so to the peer. Nothing happens the second time.
    fn end(&self) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(stream) = state.streams.get_mut(&self.id)
            && std::mem::replace(&mut stream.sending, false)
            && state.gone.is_none()
        {
            state.protocol.end(self.id, &mut state.outgoing);
        }
        state.forget_if_over(self.id);
        drop(guard);
        self.shared.wakers.wake_driver();
    }
}

/// How much the peer lets be written to a stream now.
fn room(state: &mut State, id: u32, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let closed = state.gone.is_some() || state.closing.is_some();
    let session = state.session_granted.map(|granted| granted.saturating_sub(state.session_sent));
    let stream = state.streams.get_mut(&id).filter(|stream| stream.sending && !closed);
    let Some(stream) = stream else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
    let own = stream.granted.map(|granted| granted.saturating_sub(stream.sent));
    // A connection's window counts only for a peer that has windows at all.
    let most = own.map_or(u64::MAX, |own| own.min(session.unwrap_or(u64::MAX)));
    if !stream.replied || most == 0 {
        stream.writer = Some(context.waker().clone());
        return Poll::Pending;
    }
    Poll::Ready(Ok(usize::try_from(most).unwrap_or(usize::MAX)))
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let most = ready!(room(state, self.id, context))?;
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let waker = self.shared.wakers.waker();
        let mut socket = Context::from_waker(&waker);
        let length = bytes.len().min(most).min(state.protocol.longest());
        let payload = bytes.get(..length).unwrap_or_default();
        let mut sent = send(state, self.id, payload, &mut socket);
        if sent.is_pending() {
            // Once more, for the socket may have got room before it was known who waits.
            self.shared.wakers.wait(context.waker());
            sent = send(state, self.id, payload, &mut socket);
        }
        ready!(sent)?;
        if let Some(stream) = state.streams.get_mut(&self.id) {
            stream.sent += length as u64;
        }
        state.session_sent += length as u64;
        state.last_sent = Instant::now();
        // What the socket does not take at once, the driver sends: it is woken when there is room.
        if let Poll::Ready(Err(error)) = state.flush(&mut socket) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if state.gone.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let waker = self.shared.wakers.waker();
        let mut socket = Context::from_waker(&waker);
        if let Poll::Ready(flushed) = state.flush(&mut socket) {
            return Poll::Ready(flushed);
        }
        self.shared.wakers.wait(context.waker());
        state.flush(&mut socket)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        self.poll_flush(context)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.end();
    }
}

/// Sends one frame: what the socket takes of it directly, the rest by way of a buffer.
/// Pending means that nothing of it has gone.
fn send(state: &mut State, id: u32, payload: &[u8], context: &mut Context<'_>) -> Poll<io::Result<()>> {
    ready!(state.flush(context))?;
    let Framing::Plain(header) = state.protocol.data(id, payload, &mut state.outgoing) else {
        return Poll::Ready(Ok(()));
    };
    let Some(transport) = &mut state.transport else {
        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
    };
    let header = header.as_slice();
    let slices = [IoSlice::new(header), IoSlice::new(payload)];
    let taken = match Pin::new(transport).poll_write_vectored(context, &slices) {
        Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(Ok(taken)) => taken,
        Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        Poll::Pending => return Poll::Pending,
    };
    state.unflushed = true;
    state.outgoing.extend_from_slice(header.get(taken..).unwrap_or_default());
    let rest = payload.get(taken.saturating_sub(header.len())..).unwrap_or_default();
    state.outgoing.extend_from_slice(rest);
    Poll::Ready(Ok(()))
}
