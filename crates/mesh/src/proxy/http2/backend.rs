//! A connection to an endpoint, of one client's connection.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::super::Proxy;
use crate::h2::{Connection, Limits, Side};
use crate::reactor::{Buffer, Reactor, Socket};

type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>>>>;

enum Link {
    /// No longer than until then.
    Connecting(Connecting, Instant),
    Open(Socket),
}

/// What came of a look at one.
pub(super) enum Heard {
    /// Nothing.
    Nothing,
    /// It is there.
    Connected,
    /// Bytes, in its buffer.
    Bytes,
    /// There never was a connection.
    NoConnection(io::Error),
    /// It has ended.
    Ended,
}

pub(super) struct Backend {
    pub(super) address: SocketAddr,
    pub(super) connection: Connection,
    pub(super) buffer: Buffer,
    /// By its streams those of the client.
    pub(super) streams: HashMap<u32, u32>,
    /// Since when it has no stream.
    pub(super) idle: Instant,
    link: Link,
}

impl Backend {
    pub(super) fn connect(proxy: &Proxy, address: SocketAddr, limits: Limits) -> Self {
        let reactor = proxy.reactor.clone();
        let now = reactor.now();
        let connecting = Box::pin(connect(reactor, address));
        let link = Link::Connecting(connecting, now + proxy.settings.connect);
        Self::new(address, link, limits, now)
    }

    /// Over a connection that is there.
    pub(super) fn over(socket: Socket, address: SocketAddr, limits: Limits, now: Instant) -> Self {
        Self::new(address, Link::Open(socket), limits, now)
    }

    fn new(address: SocketAddr, link: Link, limits: Limits, now: Instant) -> Self {
        let connection = Connection::new(Side::Client, limits);
        Self { address, connection, buffer: Buffer::default(), streams: HashMap::new(), idle: now, link }
    }

    /// Until when it may take to connect.
    pub(super) fn limit(&self) -> Option<Instant> {
        match &self.link {
            Link::Connecting(_, limit) => Some(*limit),
            Link::Open(_) => None,
        }
    }

    /// Looks what came.
    pub(super) fn hear(&mut self, now: Instant) -> Heard {
        match &mut self.link {
            Link::Connecting(connecting, limit) => {
                // Futures of the loop go by marks of their sockets: nobody needs a waker.
                match connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Ok(socket)) => {
                        self.link = Link::Open(socket);
                        Heard::Connected
                    }
                    Poll::Ready(Err(e)) => Heard::NoConnection(e),
                    Poll::Pending if now >= *limit => Heard::NoConnection(io::ErrorKind::TimedOut.into()),
                    Poll::Pending => Heard::Nothing,
                }
            }
            Link::Open(socket) => match socket.poll_read(&mut self.buffer) {
                Poll::Ready(Ok(1..)) => Heard::Bytes,
                Poll::Ready(_) => Heard::Ended,
                Poll::Pending => Heard::Nothing,
            },
        }
    }

    /// Sends what is to be sent, as far as it goes; whether some was. That it has ended is heard.
    pub(super) fn say(&mut self) -> bool {
        // Who was never asked anything may speak something else.
        let Link::Open(socket) = &self.link else { return false };
        if !self.connection.has_opened() {
            return false;
        }
        say(socket, &mut self.connection).unwrap_or(false)
    }

    /// Tells the endpoint that nothing more comes.
    pub(super) fn end(mut self) {
        self.connection.leave(true);
        self.say();
    }
}

async fn connect(reactor: Reactor, address: SocketAddr) -> io::Result<Socket> {
    Socket::connect(&reactor, address).await
}

/// Sends what a connection has to send, as far as it goes; whether some was.
pub(super) fn say(socket: &Socket, connection: &mut Connection) -> io::Result<bool> {
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
