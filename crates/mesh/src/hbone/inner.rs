//! What a connection of HBONE has, and what it does when something can be done.

use std::io::{self, IoSliceMut};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::IDLE;
use super::link::{Asked, Ended, Expect, Peer};
use super::stream::PIECE;
use super::streams::{Gathered, Streams};
use crate::h2::frame::write;
use crate::h2::{Code, Connection};
use crate::identity::{ALPN, proved};
use crate::reactor::{Buffer, Reactor, Socket};
use crate::tls::{ADDED, AT_ONCE, RECORD, RECORDS, Tls};

/// After so many looks without a wait the other tasks have their turn.
const TURNS: usize = 8;

/// The most that is read at a time, in bytes: records as they are filled at a time.
const HEARD: usize = RECORDS * (RECORD + ADDED);

/// Streams on which so long nothing moves rest, and so do the buffers of their connection. At once would cost more than it brings: much comes in many
/// pieces.
const REST: Duration = Duration::from_secs(1);

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// TCP, or the handshake of TLS.
    Reaching,
    Open(Peer),
    Over(Ended),
}

/// All of a connection.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) socket: Option<Socket>,
    pub(super) streams: Streams,
    pub(super) stage: Stage,
    /// Tasks that wait for it to be open.
    pub(super) waiting: Vec<u32>,
    tls: Tls,
    expect: Expect,
    came: Buffer,
    reactor: Reactor,
    /// When the handshake is to be over.
    limit: Instant,
    /// When something last came or went.
    moved: Instant,
}

impl Inner {
    pub(super) fn new(
        reactor: &Reactor,
        tls: Tls,
        connection: Connection,
        (expect, limit): (Expect, Instant),
    ) -> Self {
        let streams = Streams::new(reactor, matches!(expect, Expect::Identity(_)), connection);
        Self {
            socket: None,
            streams,
            stage: Stage::Reaching,
            waiting: Vec::new(),
            tls,
            expect,
            came: Buffer::default(),
            reactor: reactor.clone(),
            limit,
            moved: reactor.now(),
        }
    }

    /// Does what can be done. It is ready when the others are to have their turn, and when it is over.
    pub(super) fn turn(&mut self) -> Poll<()> {
        let now = self.reactor.now();
        for _ in 0..TURNS {
            let heard = self.hear(now);
            let said = if heard.is_ok() { self.say(Socket::poll_write) } else { Ok(false) };
            let moved = match (heard, said) {
                (Ok(heard), Ok(said)) => heard || said,
                (Err(ended), _) | (_, Err(ended)) => {
                    self.end(ended);
                    return Poll::Ready(());
                }
            };
            if moved {
                self.moved = now;
            }
            if !self.streams.asked.is_empty() {
                return Poll::Ready(());
            }
            if !moved {
                return self.wait(now);
            }
        }
        Poll::Ready(())
    }

    /// Nothing can be done now.
    fn wait(&mut self, now: Instant) -> Poll<()> {
        let until = match self.stage {
            Stage::Over(_) => return Poll::Ready(()),
            Stage::Reaching => self.limit,
            Stage::Open(_) if self.has_output() => return Poll::Pending,
            Stage::Open(_) if !self.streams.flows.is_empty() => return self.pause(now),
            Stage::Open(_) if self.streams.connection.is_leaving() => now,
            // Whoever opens streams ends it first: one that is opened as the other ends it would be lost.
            Stage::Open(_) if matches!(self.expect, Expect::Member) => self.streams.quiet + 2 * IDLE,
            Stage::Open(_) => self.streams.quiet + IDLE,
        };
        if now < until {
            self.rest();
            self.reactor.wake_at(until);
            return Poll::Pending;
        }
        let ended = match self.stage {
            Stage::Reaching => Ended::new(io::ErrorKind::TimedOut, "its handshake took too long"),
            _ => Ended::new(io::ErrorKind::NotConnected, "it was not needed any more"),
        };
        self.end(ended);
        Poll::Ready(())
    }

    /// Nothing can be done for the streams that there are now, and if that has been so for long nothing is held for them.
    fn pause(&mut self, now: Instant) -> Poll<()> {
        let until = self.moved + REST;
        if now >= until {
            self.rest();
        } else if self.holds() {
            self.reactor.wake_at(until);
        }
        Poll::Pending
    }

    /// Holds no buffer but for what has come in part.
    fn rest(&mut self) {
        if self.came.is_empty() {
            self.reactor.give_back(std::mem::take(&mut self.came));
        }
        self.tls.rest();
    }

    /// Whether it has a buffer.
    pub(super) fn holds(&self) -> bool {
        !self.came.is_unused() || self.tls.holds()
    }

    /// Whether something is still to be sent.
    pub(super) fn has_output(&self) -> bool {
        !self.tls.output().is_empty() || !self.streams.connection.output().is_empty()
    }

    /// Reads what came; whether there was something.
    fn hear(&mut self, now: Instant) -> Result<bool, Ended> {
        // Whoever does not take what was asked for is not heard until it does.
        if self.streams.connection.is_full() {
            return Ok(false);
        }
        let Some(socket) = &self.socket else { return Ok(false) };
        match socket.poll_read(&mut self.came) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(0)) => {
                return Err(Ended::new(io::ErrorKind::ConnectionReset, "the peer has ended it"));
            }
            Poll::Ready(Err(e)) => return Err(Ended::new(e.kind(), e.to_string())),
            Poll::Ready(Ok(_)) => {}
        }
        if self.came.is_full() && matches!(self.stage, Stage::Open(_)) {
            // More has come, and is read in larger pieces; of nobody who has not proved who it is.
            self.came.widen(HEARD);
        }
        let Self { tls, streams, came, .. } = self;
        let mut gathered = Gathered::default();
        let taken = tls.receive(came.data_mut(), &mut |record| streams.record(now, record, &mut gathered));
        streams.pass_on(&mut gathered);
        let taken = taken.map_err(|e| {
            Ended::new(io::ErrorKind::PermissionDenied, format!("TLS with the peer has failed: {e}"))
        })?;
        came.consume(taken);
        if matches!(self.stage, Stage::Reaching) && self.tls.is_ready() {
            let peer = self.peer()?;
            self.stage = Stage::Open(peer);
            self.wake();
        }
        if self.streams.connection.has_failed() {
            return Err(Ended::new(io::ErrorKind::InvalidData, "the peer breaks the rules of HTTP/2"));
        }
        if self.tls.is_closed() {
            return Err(Ended::new(io::ErrorKind::ConnectionReset, "the peer has ended it"));
        }
        Ok(true)
    }

    /// Who the peer is, which is known once the handshake is over.
    fn peer(&self) -> Result<Peer, Ended> {
        let denied = |why: String| Ended::new(io::ErrorKind::PermissionDenied, why);
        if self.tls.protocol() != Some(ALPN) {
            return Err(denied("the peer does not speak HTTP/2 within TLS".into()));
        }
        let certificate =
            self.tls.peer().ok_or_else(|| denied("the peer has shown no certificate".into()))?;
        let proved = proved(certificate).map_err(|e| denied(format!("the peer's certificate: {e}")))?;
        if let Expect::Identity(wanted) = &self.expect
            && proved.identity.as_str() != &**wanted
        {
            return Err(denied(format!("{} answers where {wanted} should be", proved.identity)));
        }
        Ok(Peer { identity: proved.identity, not_after: proved.not_after })
    }

    /// Has bytes read to where they are encrypted for a stream, and sends them at once. Whatever waits to be sent goes first: where not all of it does,
    /// or the windows let nothing go, nothing is read, and the stream is told when there is room.
    pub(super) fn fill(
        &mut self,
        stream: u32,
        most: usize,
        read: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize,
    ) -> io::Result<()> {
        let broken = || io::Error::from(io::ErrorKind::ConnectionReset);
        if !self.streams.flows.get(&stream).is_some_and(|flow| !flow.broken && !flow.finished) {
            return Err(broken());
        }
        let window = self.streams.connection.window(stream).map_err(|_| broken())?;
        self.pass(stream, most.min(window), read).map_err(|ended| {
            self.end(ended);
            broken()
        })
    }

    fn pass(
        &mut self,
        stream: u32,
        most: usize,
        read: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> usize,
    ) -> Result<(), Ended> {
        // By the task that the socket is not waited for by: the connection's own is woken if something is left.
        if self.has_output() {
            self.say(Socket::write_at_once)?;
        }
        if most == 0 || self.has_output() {
            if let Some(flow) = self.streams.flows.get_mut(&stream) {
                flow.blocked = true;
            }
            return Ok(());
        }
        let filled = self.tls.fill(most, |length| write::data_head(stream, length), read);
        let mut left = filled
            .map_err(|e| Ended::new(io::ErrorKind::Other, format!("cannot encrypt what is sent: {e}")))?;
        if left > 0 {
            self.streams.serve(stream);
            self.moved = self.reactor.now();
        }
        while left > 0 {
            let piece = left.min(PIECE);
            self.streams.connection.passed(stream, piece);
            left -= piece;
        }
        self.say(Socket::write_at_once)?;
        Ok(())
    }

    /// Sends what is to be sent, as far as it goes; whether some was.
    fn say(&mut self, write: fn(&Socket, &[u8]) -> Poll<io::Result<usize>>) -> Result<bool, Ended> {
        let Self { socket, streams, tls, stage, .. } = self;
        let Some(socket) = socket else { return Ok(false) };
        let mut some = false;
        loop {
            while !tls.output().is_empty() {
                match write(socket, tls.output()) {
                    Poll::Ready(Ok(count)) => {
                        tls.sent(count);
                        some = true;
                    }
                    Poll::Ready(Err(e)) => return Err(Ended::new(e.kind(), e.to_string())),
                    Poll::Pending => return Ok(some),
                }
            }
            let output = streams.connection.output();
            if output.is_empty() || !matches!(stage, Stage::Open(_)) {
                break;
            }
            let piece = output.get(..output.len().min(AT_ONCE)).unwrap_or_default();
            let count = piece.len();
            tls.send(piece).map_err(|e| Ended::new(io::ErrorKind::Other, format!("cannot encrypt: {e}")))?;
            streams.connection.sent(count);
            streams.unblock();
        }
        if some {
            streams.unblock();
            if streams.flows.is_empty() {
                tls.rest();
            }
        }
        Ok(some)
    }

    /// It is over, and so are its streams.
    pub(super) fn end(&mut self, ended: Ended) {
        for flow in self.streams.flows.values_mut() {
            flow.tear();
        }
        self.streams.asked.clear();
        if let Some(socket) = self.socket.take() {
            // The last word, if the peer still listens: why, or that nothing more comes.
            if self.tls.is_ready() {
                self.streams.connection.leave(true);
                let output = self.streams.connection.output();
                let last = output.get(..output.len().min(AT_ONCE)).unwrap_or_default();
                if self.tls.send(last).is_ok() {
                    self.tls.finish();
                }
            }
            if !self.tls.output().is_empty() {
                let _gone = socket.poll_write(self.tls.output());
            }
            socket.finish();
        }
        if !matches!(self.stage, Stage::Over(_)) {
            self.stage = Stage::Over(ended);
        }
        self.wake();
    }

    /// Those who wait look again.
    fn wake(&mut self) {
        for task in self.waiting.drain(..) {
            self.reactor.wake(task);
        }
    }

    /// Streams that the peer has opened and nobody has taken yet, once it is known who it is and unless its certificate has expired.
    pub(super) fn take_asked(&mut self) -> Vec<Asked> {
        let Stage::Open(peer) = &self.stage else { return Vec::new() };
        if SystemTime::now() >= peer.not_after {
            // It has to prove anew who it is. Streams that are open go on.
            self.streams.connection.leave(true);
            for (stream, _) in std::mem::take(&mut self.streams.asked) {
                self.streams.flows.remove(&stream);
                self.streams.connection.reset(stream, Code::REFUSED_STREAM);
                self.streams.connection.release(stream);
            }
            return Vec::new();
        }
        let asked = std::mem::take(&mut self.streams.asked);
        let asked =
            asked.into_iter().map(|(stream, authority)| Asked { stream, authority, peer: peer.clone() });
        asked.collect()
    }
}
