//! Bytes from one place to another.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::mux::with_scratch;

/// Copies until `from` ends, then shuts `to` down; gives the number of bytes. It reads no further while `to` takes nothing,
/// and owns no buffer while there is nothing to copy, so thousands of idle ones cost next to nothing.
///
/// # Errors
/// Reading or writing failed; [`Broken`] says which.
pub async fn relay<R, W>(mut from: R, mut to: W) -> Result<u64, Broken>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut relay = Relay { left: Vec::new(), sent: 0, total: 0, ended: false, unflushed: false };
    std::future::poll_fn(|context| relay.step(context, Pin::new(&mut from), Pin::new(&mut to))).await
}

/// Which side of a [`relay`] broke.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The one that is read.
    #[error("cannot read: {0}")]
    Reading(#[source] io::Error),
    /// The one that is written to.
    #[error("cannot write: {0}")]
    Writing(#[source] io::Error),
}

struct Relay {
    /// What was read and is not all taken yet.
    left: Vec<u8>,
    sent: usize,
    total: u64,
    ended: bool,
    unflushed: bool,
}

impl Relay {
    fn step<R, W>(
        &mut self,
        context: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<Result<u64, Broken>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        loop {
            while let Some(rest) = self.left.get(self.sent..).filter(|rest| !rest.is_empty()) {
                self.sent += ready!(write(to.as_mut(), context, rest))?;
            }
            self.left = Vec::new();
            self.sent = 0;
            if self.ended {
                ready!(to.as_mut().poll_shutdown(context)).map_err(Broken::Writing)?;
                return Poll::Ready(Ok(self.total));
            }
            let read = with_scratch(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                let read = from.as_mut().poll_read(context, &mut buffer).map_err(Broken::Reading)?;
                if read.is_pending() {
                    return Poll::Pending;
                }
                let mut rest = buffer.filled();
                self.total += rest.len() as u64;
                self.ended = rest.is_empty();
                while !rest.is_empty() {
                    let Poll::Ready(taken) = write(to.as_mut(), context, rest)? else { break };
                    rest = rest.get(taken..).unwrap_or_default();
                }
                self.left = rest.to_vec();
                self.unflushed = true;
                Poll::Ready(Ok(()))
            });
            match read {
                Poll::Ready(done) => done?,
                Poll::Pending => {
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(context)).map_err(Broken::Writing)?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

fn write<W: AsyncWrite>(
    to: Pin<&mut W>,
    context: &mut Context<'_>,
    bytes: &[u8],
) -> Poll<Result<usize, Broken>> {
    match ready!(to.poll_write(context, bytes)) {
        Ok(0) => Poll::Ready(Err(Broken::Writing(io::ErrorKind::WriteZero.into()))),
        taken => Poll::Ready(taken.map_err(Broken::Writing)),
    }
}
