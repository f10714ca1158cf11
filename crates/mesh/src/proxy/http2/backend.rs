//! A connection to an endpoint, of one client's connection.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::super::{Origin, Proxy};
use crate::h2::{Connection, Limits, Side};
use crate::reactor::{Buffer, Socket};

type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>>>>;

enum Link {
    Connecting(Connecting),
    Open(Socket),
}

pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) connection: Connection,
    pub(super) buffer: Buffer,
    /// By its streams those of the client.
    pub(super) streams: HashMap<u32, u32>,
    /// Since when it has no stream.
    pub(super) idle: Instant,
    /// It was sent something.
    pub(super) said: bool,
    /// Since when the endpoint has begun a block of headers, or a frame, that it has not ended.
    pub(super) within: Option<Instant>,
    /// When it was not read last, since the client had too much to take.
    pub(super) paused: Instant,
    /// The endpoint was blamed for it, and has said nothing since.
    pub(super) blamed: bool,
    /// It has stopped in the middle of a request, and the endpoint has said nothing since: new ones go over another.
    pub(super) silent: bool,
    link: Link,
}

impl Backend {
    pub(super) fn connect(
        proxy: &Rc<Proxy>,
        origin: &Rc<dyn Origin>,
        address: SocketAddr,
        limits: Limits,
    ) -> Self {
        let (reaching, origin) = (proxy.clone(), origin.clone());
        let connecting = async move {
            let reached = reaching.reach(&*origin, address).await;
            reached.inspect(|socket| socket.set_patience(reaching.settings.stall))
        };
        Self::new(address, Link::Connecting(Box::pin(connecting)), limits, proxy.reactor.now())
    }

    /// Over a connection that is there.
    pub(super) fn over(proxy: &Proxy, socket: Socket, address: SocketAddr, limits: Limits) -> Self {
        socket.set_patience(proxy.settings.stall);
        Self::new(address, Link::Open(socket), limits, proxy.reactor.now())
    }

    fn new(address: SocketAddr, link: Link, limits: Limits, now: Instant) -> Self {
        Self {
            address,
            connection: Connection::new(Side::Client, limits),
            buffer: Buffer::default(),
            streams: HashMap::new(),
            idle: now,
            said: false,
            within: None,
            paused: now,
            blamed: false,
            silent: false,
            link,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Open(_))
    }

    /// Whether bodies go to it. They wait until something of the heads before them was sent: whoever cannot be reached, or ends before it was
    /// sent anything, has nothing of them, and another endpoint can be asked.
    pub(super) fn takes_bodies(&self) -> bool {
        self.is_open() && self.said
    }

    /// Takes note of whether the endpoint has begun something. What waits since the client has too much to take is not its to end.
    pub(super) fn note_input(&mut self, full: bool, now: Instant) {
        let begun = self.connection.is_within_head() || !self.buffer.is_empty();
        self.within = if begun && !full { self.within.or(Some(now)) } else { None };
        if full {
            self.paused = now;
        }
    }

    /// Looks whether the connection is there. One that is was there before.
    pub(super) fn reach(&mut self) -> Poll<io::Result<()>> {
        let Link::Connecting(connecting) = &mut self.link else { return Poll::Ready(Ok(())) };
        // Futures of the loop go by marks of their sockets: nobody needs a waker.
        let reached = connecting.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        reached.map_ok(|socket| self.link = Link::Open(socket))
    }

    /// Reads what came; 0 is the end.
    pub(super) fn read(&mut self) -> Poll<io::Result<usize>> {
        match &self.link {
            Link::Connecting(_) => Poll::Pending,
            Link::Open(socket) => socket.poll_read(&mut self.buffer),
        }
    }

    /// Sends what is to be sent, as far as it goes; whether some was. That it has ended is heard.
    pub(super) fn say(&mut self) -> bool {
        // Who was never asked anything may speak something else.
        let Link::Open(socket) = &self.link else { return false };
        if !self.connection.has_opened() {
            return false;
        }
        let before = self.connection.output().len();
        let _ended = say(socket, &mut self.connection);
        let some = self.connection.output().len() < before;
        self.said |= some;
        some
    }

    /// Tells the endpoint that nothing more comes.
    pub(super) fn end(mut self) {
        self.connection.leave(true);
        self.say();
    }

    #[cfg(test)]
    pub(super) fn socket(&self) -> Option<&Socket> {
        match &self.link {
            Link::Connecting(_) => None,
            Link::Open(socket) => Some(socket),
        }
    }
}

/// Sends what a connection has to send, as far as it goes; whether some was.
pub(in crate::proxy) fn say(socket: &Socket, connection: &mut Connection) -> io::Result<bool> {
    let mut some = false;
    while !connection.output().is_empty() {
        match socket.poll_write(connection.output()) {
            Poll::Ready(Ok(count)) => {
                connection.sent(count);
                some = true;
            }
            Poll::Ready(Err(e)) => return Err(e),
            Poll::Pending => break,
        }
    }
    Ok(some)
}
