//! Bytes through a WebSocket: each binary message carries a piece of them. Newer clients send a port-forward's SPDY so.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, Parser, Piece, Side, opcode};
use crate::mux::{Malformed, Transport};

/// What a message carries at most.
const LONGEST: usize = 64 * 1024;

/// Answers to pings that may wait for a flush.
const OUTGOING_MAX: usize = 256 * 1024;

/// A transport that goes through the messages of another.
pub(crate) struct Tunnel {
    inner: Box<dyn Transport>,
    side: Side,
    parser: Parser,
    /// The rest of a message, and control frames, that go before anything else.
    outgoing: BytesMut,
    peer_closed: bool,
    said_goodbye: bool,
}

impl Tunnel {
    pub(crate) fn new(inner: Box<dyn Transport>, side: Side) -> Tunnel {
        let (parser, outgoing) = (Parser::new(side), BytesMut::new());
        Tunnel { inner, side, parser, outgoing, peer_closed: false, said_goodbye: false }
    }

    fn drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let taken = ready!(Pin::new(&mut self.inner).poll_write(context, &self.outgoing))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(taken);
        }
        self.outgoing = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Unpacks the messages in `bytes`, moving what they carry to the front, and says how much that is.
    fn unpack(&mut self, bytes: &mut [u8]) -> Result<usize, Malformed> {
        let (mut read, mut written) = (0, 0);
        while read < bytes.len() && !self.peer_closed {
            let (used, piece) = self.parser.next(bytes.get_mut(read..).unwrap_or_default())?;
            read += used;
            match piece {
                None | Some(Piece::Pong) => {}
                Some(Piece::Data { text: true, .. }) => {
                    return Err(Malformed {
                        what: "a WebSocket message",
                        why: "a tunnel carries bytes, and this is text",
                    });
                }
                Some(Piece::Data { bytes: payload, .. }) => {
                    // It ends where the parser stopped.
                    let length = payload.len();
                    bytes.copy_within(read - length..read, written);
                    written += length;
                }
                Some(Piece::Ping(payload)) => {
                    frame::write(self.side, opcode::PONG, &[&payload], &mut self.outgoing)
                }
                Some(Piece::Close { .. }) => self.peer_closed = true,
            }
        }
        Ok(written)
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.peer_closed {
                return Poll::Ready(Ok(()));
            }
            let before = into.filled().len();
            ready!(Pin::new(&mut this.inner).poll_read(context, into))?;
            let bytes = into.filled_mut().get_mut(before..).unwrap_or_default();
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let written =
                this.unpack(bytes).map_err(|wrong| io::Error::new(io::ErrorKind::InvalidData, wrong))?;
            into.set_filled(before + written);
            // Answers to pings go with the next flush: here the socket would learn of the wrong waker.
            if this.outgoing.len() > OUTGOING_MAX {
                return Poll::Ready(Err(io::Error::other("cannot answer a peer that only sends pings")));
            }
            if written > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.drain(context))?;
        // A message is what one call brings, as far as it fits; the callers' are a frame's header and what it carries.
        let [first, second] = match slices {
            [] => [&[][..]; 2],
            [only] => [&**only, &[]],
            [first, second, ..] => [&**first, &**second],
        };
        let first = first.get(..first.len().min(LONGEST)).unwrap_or_default();
        let second = second.get(..second.len().min(LONGEST - first.len())).unwrap_or_default();
        let length = first.len() + second.len();
        if length == 0 {
            return Poll::Ready(Ok(0));
        }
        if this.side == Side::Client {
            frame::write(this.side, opcode::BINARY, &[first, second], &mut this.outgoing);
        } else {
            let header = frame::header(opcode::BINARY, length, None);
            let all = [header.as_slice(), first, second];
            let taken =
                ready!(Pin::new(&mut this.inner).poll_write_vectored(context, &all.map(IoSlice::new)))?;
            let mut skip = taken;
            for part in all {
                this.outgoing.extend_from_slice(part.get(skip.min(part.len())..).unwrap_or_default());
                skip = skip.saturating_sub(part.len());
            }
        }
        // The whole message counts as taken: the rest goes before anything else, with the next write or flush.
        match this.drain(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(length)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.drain(context))?;
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.said_goodbye, true) {
            let this = &mut *self;
            frame::close(this.side, 1000, "", &mut this.outgoing);
        }
        ready!(self.drain(context))?;
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
