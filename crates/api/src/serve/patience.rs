//! A connection whose client takes nothing of what is sent is at its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

/// So long a client may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// A stream whose writes fail when none of them gets on for too long.
pub(super) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// Set while a write waits.
    ends: Pin<Box<Sleep>>,
    waits: bool,
    endless: Endless,
    /// Given back with the stream, whoever has it by then: an upgraded connection is one as well.
    _place: Option<OwnedSemaphorePermit>,
}

/// Says that a connection may wait for its client for ever: it is a stream of its own now, whose other end may be a person
/// who looks at what came.
#[derive(Clone, Default)]
pub(super) struct Endless(Arc<AtomicBool>);

impl Endless {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl<S> Patient<S> {
    /// A stream that has a place among the connections.
    pub(super) fn new(stream: S, endless: &Endless, place: OwnedSemaphorePermit) -> Patient<S> {
        Patient { _place: Some(place), ..Patient::of(stream, PATIENCE, endless) }
    }

    fn of(stream: S, patience: Duration, endless: &Endless) -> Patient<S> {
        let ends = Box::pin(tokio::time::sleep(patience));
        Patient { stream, patience, ends, waits: false, endless: endless.clone(), _place: None }
    }

    fn bounded<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() || self.endless.0.load(Ordering::Relaxed) {
            self.waits = false;
            return polled;
        }
        if !std::mem::replace(&mut self.waits, true) {
            self.ends.as_mut().reset(Instant::now() + self.patience);
        }
        match self.ends.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.bounded(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.bounded(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.bounded(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.bounded(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_write_that_nobody_takes_ends() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut ours = Patient::of(ours, Duration::from_millis(20), &Endless::default());
        ours.write_all(b"12345678").await.unwrap();
        let mut taken = [0; 8];
        theirs.read_exact(&mut taken).await.unwrap();
        // What is taken late, but in time for each write, goes on.
        ours.write_all(b"12345678").await.unwrap();
        let refused = ours.write_all(b"9").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
    }
    #[tokio::test]
    async fn what_has_become_a_stream_of_its_own_waits() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let endless = Endless::default();
        let mut ours = Patient::of(ours, Duration::from_millis(1), &endless);
        endless.begin();
        ours.write_all(b"12345678").await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), ours.write_all(b"9")).await.is_err());
    }
}
