//! A connection of HBONE, of either side.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::inner::{Inner, Stage};
use super::stream::Stream;
use super::streams::Flow;
use super::{ABORTS, ABORTS_A_SECOND, STREAMS};
use crate::h2::{Code, Connection, Field, Limits, Side};
use crate::identity::{Held, Identity};
use crate::reactor::{Buffer, Reactor, Socket};
use crate::tls::Tls;

/// No task.
const NOBODY: u32 = u32::MAX;
/// What may come of a stream before some of it was taken, in bytes: what is on its way within a cluster, and no more memory than that for whom nobody
/// takes it.
const WINDOW: u32 = 1 << 20;

/// Who the peer has proved to be.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    /// Its certificate holds until then.
    pub(crate) not_after: SystemTime,
}

/// Whom the peer has to prove to be.
#[derive(Debug)]
pub(super) enum Expect {
    /// This one.
    Identity(Arc<str>),
    /// Whoever it is: a member of the mesh.
    Member,
}

/// A CONNECT that came.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) stream: u32,
    /// Where to; empty if it was none.
    pub(crate) authority: String,
    pub(crate) peer: Peer,
}

/// Why a connection is over.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    kind: io::ErrorKind,
    why: Arc<str>,
}

impl Ended {
    pub(super) fn new(kind: io::ErrorKind, why: impl Into<Arc<str>>) -> Self {
        Self { kind, why: why.into() }
    }

    fn error(&self) -> io::Error {
        io::Error::new(self.kind, &*self.why)
    }
}

/// The peer lets nobody of this identity do what was asked for: its policies say so.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the peer's policies do not let this pod connect there")]
pub(crate) struct Denied;

/// Why there is no stream.
#[derive(Debug)]
pub(crate) enum NoStream {
    /// This connection takes no more: another is needed.
    Leaving,
    /// There is none to the peer, or to where it was to lead.
    Failed(io::Error),
}

/// A connection, which its task, its streams and whoever opens streams share.
pub(crate) struct Link {
    reactor: Reactor,
    pub(super) inner: RefCell<Inner>,
    task: Cell<u32>,
    /// Which certificate of ours it was made with, and whom it leads to.
    pub(crate) serial: u64,
    pub(crate) identity: Arc<str>,
    /// Ours holds until then.
    not_after: SystemTime,
    /// Nobody opens streams on it any more.
    retired: Cell<bool>,
    /// Nobody listens there.
    refused: Cell<bool>,
    /// So many streams were broken off, less those that time has let pass, and until when it has.
    aborts: Cell<(u32, Instant)>,
    /// It was asked about that the peer has parted.
    parted: Cell<bool>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn limits() -> Limits {
    let bounds = crate::h2::hpack::Bounds { size: 8 << 10, count: 32 };
    let all = STREAMS * WINDOW;
    Limits { streams: STREAMS, window: WINDOW, all, fields: bounds, block: 8 << 10, ..Limits::default() }
}

impl Link {
    /// One to a member, with what proves who we are. Its task is [`Link::reach`].
    ///
    /// # Errors
    /// Those of TLS.
    pub(crate) fn client(
        reactor: &Reactor,
        held: &Held,
        (to, identity): (SocketAddr, Arc<str>),
        patience: Duration,
    ) -> Result<Rc<Self>, rustls::Error> {
        let tls = Tls::client(held.client.clone(), to.ip())?;
        let expect = Expect::Identity(identity.clone());
        Ok(Self::new(reactor, (tls, Side::Client), (expect, patience), (held, identity)))
    }

    /// One that a member has made. Its task is [`Link::serve`].
    ///
    /// # Errors
    /// Those of TLS.
    pub(crate) fn server(
        reactor: &Reactor,
        held: &Held,
        socket: Socket,
        patience: Duration,
    ) -> Result<Rc<Self>, rustls::Error> {
        let tls = Tls::server(held.server.clone())?;
        let link = Self::new(reactor, (tls, Side::Server), (Expect::Member, patience), (held, "".into()));
        link.inner.borrow_mut().socket = Some(socket);
        Ok(link)
    }

    fn new(
        reactor: &Reactor,
        (tls, side): (Tls, Side),
        (expect, patience): (Expect, Duration),
        (held, identity): (&Held, Arc<str>),
    ) -> Rc<Self> {
        let connection = Connection::new(side, limits());
        let inner = Inner::new(reactor, tls, connection, (expect, reactor.now() + patience));
        Rc::new(Self {
            reactor: reactor.clone(),
            inner: RefCell::new(inner),
            task: Cell::new(NOBODY),
            serial: held.serial,
            identity,
            not_after: held.not_after,
            retired: Cell::new(false),
            refused: Cell::new(false),
            aborts: Cell::new((0, reactor.now())),
            parted: Cell::new(false),
        })
    }

    /// Connects, over a socket of TCP that is not connected yet, and does all that there is to be done until it is over. It may take `patience`
    /// until there is a connection, and a peer that is silent is given up after `stall`.
    pub(crate) async fn reach(
        self: Rc<Self>,
        fd: OwnedFd,
        to: SocketAddr,
        (patience, stall): (Duration, Duration),
    ) {
        self.task.set(self.reactor.current());
        let limit = self.reactor.now() + patience;
        let connecting = Socket::connect_over(&self.reactor, fd, to);
        let connected = self.reactor.before(Some(limit), connecting).await;
        match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(socket) if !self.is_over() => {
                socket.set_patience(stall);
                self.inner.borrow_mut().socket = Some(socket);
            }
            Ok(_) => return,
            Err(e) => {
                self.refused.set(e.kind() == io::ErrorKind::ConnectionRefused);
                return self.inner.borrow_mut().end(Ended::new(e.kind(), e.to_string()));
            }
        }
        self.serve(|_, _| {}).await;
    }

    /// Does all that there is to be done until it is over, and gives each stream that the peer opens to somebody, who answers it.
    pub(crate) async fn serve(self: Rc<Self>, mut give: impl FnMut(&Rc<Self>, Asked)) {
        self.task.set(self.reactor.current());
        loop {
            poll_fn(|_| self.inner.borrow_mut().turn()).await;
            let asked = self.inner.borrow_mut().take_asked();
            asked.into_iter().for_each(|asked| give(&self, asked));
            if self.is_over() {
                return;
            }
            self.reactor.yield_now().await;
        }
    }

    /// Its task looks what is to be done.
    pub(super) fn wake(&self) {
        self.reactor.wake(self.task.get());
    }

    pub(super) fn now(&self) -> Instant {
        self.reactor.now()
    }

    pub(super) fn give_back(&self, buffer: Buffer) {
        self.reactor.give_back(buffer);
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.inner.borrow().stage, Stage::Over(_))
    }

    /// Whether nobody listens for it: there never was a connection, and that was told by the peer, or in its name.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.get()
    }

    /// Whether the peer has proved who it is, so that something was asked of it.
    pub(crate) fn has_asked(&self) -> bool {
        self.inner.borrow().streams.connection.has_opened()
    }

    /// A stream was broken off here.
    pub(super) fn note_abort(&self) {
        let (mut count, mut since) = self.aborts.get();
        let now = self.reactor.now();
        let passed = now.saturating_duration_since(since).as_millis() * u128::from(ABORTS_A_SECOND) / 1000;
        if passed > 0 {
            count = count.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
            since = now;
        }
        self.aborts.set((count + 1, since));
    }

    /// Whether so many streams were broken off that the peer may soon bear no more.
    pub(crate) fn is_weary(&self) -> bool {
        self.aborts.get().0 >= ABORTS
    }

    /// Whether it takes another stream now, as far as is known.
    pub(crate) fn has_room(&self, now: SystemTime) -> bool {
        let inner = self.inner.borrow();
        let valid = match &inner.stage {
            Stage::Over(_) => false,
            Stage::Reaching => now < self.not_after,
            Stage::Open(peer) => now < self.not_after && now < peer.not_after,
        };
        let connection = &inner.streams.connection;
        let count = u32::try_from(connection.streams() + inner.waiting.len()).unwrap_or(u32::MAX);
        valid && !self.retired.get() && !self.is_weary() && !connection.is_leaving() && count < STREAMS
    }

    /// No stream is opened on it any more; it ends with the last that it has.
    pub(crate) fn retire(&self) {
        if self.retired.replace(true) {
            return;
        }
        let mut inner = self.inner.borrow_mut();
        if matches!(inner.stage, Stage::Open(_)) {
            inner.streams.connection.leave(true);
        } else {
            // Whoever waits for it asks another.
            inner.end(Ended::new(io::ErrorKind::NotConnected, "it was not needed any more"));
        }
        drop(inner);
        self.wake();
    }

    /// Nothing came in time of what was asked: it may lead to somebody who is not there any more, so others ask over another.
    pub(crate) fn doubt(&self) {
        if self.has_asked() && !self.is_over() {
            self.retire();
        }
    }

    /// Opens a stream to an address and port of the peer.
    ///
    /// # Errors
    /// There is none. One that the peer's policies refuse has [`Denied`] in it.
    pub(crate) async fn open(self: &Rc<Self>, to: SocketAddr) -> Result<Socket, NoStream> {
        poll_fn(|_| self.poll_open()).await?;
        let (stream, socket) = self.ask(to)?;
        let status = poll_fn(|_| self.poll_answer(stream)).await;
        match status.map_err(NoStream::Failed)? {
            200..=299 => Ok(socket),
            403 => Err(NoStream::Failed(io::Error::new(io::ErrorKind::PermissionDenied, Denied))),
            status => {
                let why = format!("the peer's mesh has no connection to {to} (status {status})");
                Err(NoStream::Failed(io::Error::new(io::ErrorKind::ConnectionRefused, why)))
            }
        }
    }

    fn poll_open(&self) -> Poll<Result<(), NoStream>> {
        let mut inner = self.inner.borrow_mut();
        match &inner.stage {
            Stage::Open(_) => Poll::Ready(Ok(())),
            Stage::Over(_) if self.retired.get() => Poll::Ready(Err(NoStream::Leaving)),
            Stage::Over(ended) => Poll::Ready(Err(NoStream::Failed(ended.error()))),
            Stage::Reaching => {
                let task = self.reactor.current();
                if !inner.waiting.contains(&task) {
                    inner.waiting.push(task);
                }
                Poll::Pending
            }
        }
    }

    fn ask(self: &Rc<Self>, to: SocketAddr) -> Result<(u32, Socket), NoStream> {
        let authority = to.to_string();
        let fields = [Field::new(":method", "CONNECT"), Field::new(":authority", &authority)];
        let mut inner = self.inner.borrow_mut();
        let opened = inner.streams.connection.open(fields.iter().copied(), false);
        let stream = opened.map_err(|_| NoStream::Leaving)?;
        let marks = self.reactor.marks();
        let socket = Socket::carried(&marks, Box::new(Stream { link: self.clone(), id: stream }));
        inner.streams.flows.insert(stream, Flow::new(marks));
        drop(inner);
        self.wake();
        Ok((stream, socket))
    }

    fn poll_answer(&self, stream: u32) -> Poll<io::Result<u16>> {
        let inner = self.inner.borrow();
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        match inner.streams.flows.get(&stream) {
            None => Poll::Ready(Err(reset())),
            Some(Flow { answer: Some(status), .. }) => Poll::Ready(Ok(*status)),
            Some(flow) if flow.broken || flow.ended => {
                let why = if let Stage::Over(ended) = &inner.stage { ended.error() } else { reset() };
                Poll::Ready(Err(why))
            }
            Some(flow) => flow.marks.park(),
        }
    }

    /// The stream that a CONNECT has opened: it ends with this.
    pub(crate) fn stream(self: &Rc<Self>, asked: &Asked) -> Option<Socket> {
        let inner = self.inner.borrow();
        let marks = inner.streams.flows.get(&asked.stream)?.marks.clone();
        drop(inner);
        Some(Socket::carried(&marks, Box::new(Stream { link: self.clone(), id: asked.stream })))
    }

    /// Answers a CONNECT; what is none of 2xx is its end.
    pub(crate) fn answer(&self, stream: u32, status: u16) {
        let text = status.to_string();
        let fields = [Field::new(":status", &text)];
        let mut inner = self.inner.borrow_mut();
        let end = !(200..300).contains(&status);
        let answered = inner.streams.connection.respond(stream, fields.iter().copied(), end);
        if answered.is_err() {
            inner.streams.connection.reset(stream, Code::CANCEL);
        }
        drop(inner);
        self.wake();
    }

    /// Tells the peer to open no more streams, here or over another connection: nobody serves this pod any more.
    pub(crate) fn leave(&self) {
        self.inner.borrow_mut().streams.connection.part();
        self.wake();
    }

    /// Whether the peer has said so, if this was not asked since.
    pub(crate) fn take_parted(&self) -> bool {
        self.inner.borrow().streams.connection.has_parted() && !self.parted.replace(true)
    }
}
