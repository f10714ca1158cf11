//! What a connection of HBONE has, and what it does when something can be done.

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::task::Poll;
use std::time::{Instant, SystemTime};

use super::IDLE;
use super::link::{Asked, Ended, Expect, Peer};
use super::stream::PIECE;
use crate::h2::frame::write;
use crate::h2::{Code, Connection, Event, message};
use crate::identity::{ALPN, proved};
use crate::reactor::{Buffer, Marks, Reactor, Socket};
use crate::tls::{ADDED, AT_ONCE, RECORD, Tls};

/// After so many looks without a wait the other tasks have their turn.
const TURNS: usize = 8;

/// The most that is read at a time, in bytes: records as they are sent at once, and as many again.
const HEARD: usize = 2 * (AT_ONCE + AT_ONCE / RECORD * ADDED);

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    /// TCP, or the handshake of TLS.
    Reaching,
    Open(Peer),
    Over(Ended),
}

/// What a stream has.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) marks: Marks,
    /// What came and nobody has taken.
    pub(super) came: Buffer,
    /// The status of the answer to our CONNECT.
    pub(super) answer: Option<u16>,
    /// Nothing comes behind it.
    pub(super) ended: bool,
    /// It is gone both ways.
    pub(super) broken: bool,
    /// This side sends nothing more.
    pub(super) finished: bool,
    /// Whoever sends waits for room.
    pub(super) blocked: bool,
    /// When it sent last, among the others.
    pub(super) served: u64,
}

impl Flow {
    pub(super) fn new(marks: Marks) -> Self {
        Self {
            marks,
            came: Buffer::default(),
            answer: None,
            ended: false,
            broken: false,
            finished: false,
            blocked: false,
            served: 0,
        }
    }

    fn tear(&mut self) {
        self.broken = true;
        self.marks.dead();
    }
}

/// HTTP/2 within TLS, and its streams.
#[derive(Debug)]
pub(super) struct Streams {
    reactor: Reactor,
    /// This side opens streams.
    opens: bool,
    pub(super) connection: Connection,
    pub(super) flows: HashMap<u32, Flow>,
    /// Frames that are not whole.
    part: Buffer,
    /// Streams that the peer has opened and nobody has taken.
    pub(super) asked: Vec<(u32, String)>,
    /// When the last stream ended.
    pub(super) quiet: Instant,
    /// So often a stream has sent something.
    served: u64,
    /// Those that wait for room, while they are told that there is some.
    waiting: Vec<(u64, u32)>,
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
}

impl Inner {
    pub(super) fn new(
        reactor: &Reactor,
        tls: Tls,
        connection: Connection,
        (expect, limit): (Expect, Instant),
    ) -> Self {
        let streams = Streams {
            reactor: reactor.clone(),
            opens: matches!(expect, Expect::Identity(_)),
            connection,
            flows: HashMap::new(),
            part: Buffer::default(),
            asked: Vec::new(),
            quiet: reactor.now(),
            served: 0,
            waiting: Vec::new(),
        };
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
            Stage::Open(_) if !self.streams.flows.is_empty() || self.has_output() => return Poll::Pending,
            Stage::Open(_) if self.streams.connection.is_leaving() => now,
            // Whoever opens streams ends it first: one that is opened as the other ends it would be lost.
            Stage::Open(_) if matches!(self.expect, Expect::Member) => self.streams.quiet + 2 * IDLE,
            Stage::Open(_) => self.streams.quiet + IDLE,
        };
        if now < until {
            if self.came.is_empty() {
                self.reactor.give_back(std::mem::take(&mut self.came));
            }
            self.tls.rest();
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
        if self.came.is_full() {
            // More has come, and is read in larger pieces.
            self.came.widen(HEARD);
        }
        let Self { tls, streams, came, .. } = self;
        let taken = tls.receive(came.data_mut(), &mut |record| streams.record(now, record));
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

impl Streams {
    /// Takes what one record says.
    fn record(&mut self, now: Instant, bytes: &[u8]) {
        if self.part.is_empty() {
            let used = self.frames(now, bytes);
            let rest = bytes.get(used..).unwrap_or_default();
            if !rest.is_empty() {
                if self.part.is_unused() {
                    self.part = self.reactor.buffer();
                }
                self.part.push(rest);
            }
            return;
        }
        self.part.push(bytes);
        let mut part = std::mem::take(&mut self.part);
        let used = self.frames(now, part.data());
        part.consume(used);
        if part.is_empty() {
            self.reactor.give_back(part);
        } else {
            self.part = part;
        }
    }

    /// Takes the frames that are whole; how many bytes they have.
    fn frames(&mut self, now: Instant, bytes: &[u8]) -> usize {
        let mut taken = 0;
        // What breaks the rules is remembered by the connection.
        while let Some(rest) = bytes.get(taken..)
            && let Ok((used @ 1.., event)) = self.connection.receive(now, rest)
        {
            taken += used;
            if let Some(event) = event {
                self.told(event);
            }
        }
        taken
    }

    fn told(&mut self, event: Event<'_>) {
        match event {
            Event::Head { stream, end } => self.head(stream, end),
            Event::TooLarge { stream } => {
                self.connection.reset(stream, Code::PROTOCOL_ERROR);
                self.connection.release(stream);
            }
            Event::Data { stream, bytes, end } => {
                match self.flows.get_mut(&stream).filter(|flow| !flow.broken) {
                    Some(flow) => {
                        if flow.came.is_unused() && !bytes.is_empty() {
                            flow.came = self.reactor.buffer();
                        }
                        flow.came.push(bytes);
                        flow.ended |= end;
                        if end {
                            flow.marks.ended();
                        } else {
                            flow.marks.readable();
                        }
                    }
                    None => self.connection.consumed(stream, u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
                }
            }
            Event::Trailers { stream } => {
                if let Some(flow) = self.flows.get_mut(&stream) {
                    flow.ended = true;
                    flow.marks.ended();
                }
            }
            Event::Reset { stream, .. } => {
                if let Some(place) = self.asked.iter().position(|(asked, _)| *asked == stream) {
                    // Nobody has it yet who would release it.
                    self.asked.remove(place);
                    self.flows.remove(&stream);
                    self.connection.release(stream);
                } else if let Some(flow) = self.flows.get_mut(&stream) {
                    flow.tear();
                }
            }
            Event::Window { .. } => self.unblock(),
            // Whoever opens streams is told which are not looked at; of those that come, none are.
            Event::GoAway { .. } if !self.opens => {}
            Event::GoAway { last, .. } => {
                for flow in self.flows.iter_mut().filter(|(stream, _)| **stream > last).map(|(_, flow)| flow)
                {
                    flow.tear();
                }
            }
            Event::Informational { .. } | Event::Pong(_) => {}
        }
    }

    /// A CONNECT, or the answer to one.
    fn head(&mut self, stream: u32, end: bool) {
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.answer = message::response(self.connection.fields()).ok().map(|response| response.status);
            flow.ended |= end;
            if end {
                flow.marks.ended();
            } else {
                flow.marks.wake();
            }
            return;
        }
        let request = message::request(self.connection.fields());
        let authority = match &request {
            Ok(request) if request.method == "CONNECT" => request.authority.unwrap_or_default().to_owned(),
            // Answered as an address that is none: nothing else is served here.
            _ => String::new(),
        };
        let mut flow = Flow::new(self.reactor.marks());
        flow.ended = end;
        if end {
            flow.marks.ended();
        }
        self.flows.insert(stream, flow);
        self.asked.push((stream, authority));
    }

    /// Tells those that wait for room that there is some.
    fn unblock(&mut self) {
        let Self { flows, connection, waiting, .. } = self;
        let blocked = flows.iter().filter(|(stream, flow)| flow.blocked && connection.room(**stream) > 0);
        waiting.extend(blocked.map(|(stream, flow)| (flow.served, *stream)));
        // Whoever has sent last is the last to send again.
        waiting.sort_unstable();
        for (_, stream) in waiting.drain(..) {
            if let Some(flow) = flows.get_mut(&stream) {
                flow.blocked = false;
                flow.marks.writable();
            }
        }
    }

    /// Takes note that a stream has sent something.
    pub(super) fn serve(&mut self, stream: u32) {
        self.served += 1;
        if let Some(flow) = self.flows.get_mut(&stream) {
            flow.served = self.served;
        }
    }
}
