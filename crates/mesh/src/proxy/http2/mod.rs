//! A client's connection of HTTP/2, whose requests go to endpoints over HTTP/2.
//!
//! One task has all of it: the client's connection, and those to endpoints, which no other client shares, so no client waits for a window that
//! another has used up. Nothing is read ahead of what the next hop takes: what came of a body is given back to its sender's window when
//! it was passed on.

mod backend;
mod client;
mod endpoints;
mod exchange;
mod head;
mod kept;
mod late;
mod pump;
mod tries;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::connection::linger;
use super::{Origin, Proxy};
use crate::h2::{Connection, Limits, Side, hpack};
use crate::reactor::{Buffer, Socket};
use crate::telemetry::Reason;
use backend::Backend;
pub(super) use backend::say;
use exchange::{Exchange, There};

/// After so many looks at everything without a wait the other tasks have their turn.
const TURNS: usize = 8;

/// How the client's connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// As either side has said.
    Left,
    /// The client is gone.
    Gone,
    /// It does not take what it was sent, or does not end what it began.
    Stalled,
}

struct Session {
    proxy: Rc<Proxy>,
    origin: Rc<dyn Origin>,
    to: SocketAddr,
    limits: Limits,
    client: Socket,
    connection: Connection,
    buffer: Buffer,
    backends: Vec<Option<Backend>>,
    /// By the client's streams.
    exchanges: BTreeMap<u32, Exchange>,
    /// Requests that look for another endpoint.
    again: Vec<u32>,
    /// What is kept of bodies that may have to be sent once more, in bytes.
    keeping: Rc<Cell<usize>>,
    /// The stream of which something was passed on last: the next one is first.
    served: u32,
    /// Since when the client has begun a head, or a frame, that it has not ended.
    within: Option<Instant>,
    /// Since when there is something for the client of which it has taken nothing.
    untaken: Option<Instant>,
    /// When its last request ended.
    quiet: Instant,
    /// When the client of a proxy that is drained is told the last stream, whether or not it answers.
    parting: Option<Instant>,
    over: Option<Over>,
}

/// Serves a client that begins as HTTP/2 does. `ahead` is a connection to an endpoint that was made before that was known.
pub(super) async fn serve(
    proxy: Rc<Proxy>,
    client: Socket,
    to: SocketAddr,
    origin: Rc<dyn Origin>,
    ahead: Option<(SocketAddr, Socket)>,
) {
    let _listed = proxy.session();
    let mut session = Session::new(&proxy, client, to, origin, ahead);
    while session.over.is_none() {
        poll_fn(|_| session.turn()).await;
        proxy.reactor.yield_now().await;
    }
    let Session { client, backends, exchanges, over, .. } = session;
    for exchange in exchanges.values() {
        exchange.call.blame(Reason::ClientGone);
        proxy.ended(&exchange.call);
    }
    backends.into_iter().flatten().for_each(Backend::end);
    match over {
        Some(Over::Stalled) => client.reset(),
        Some(Over::Gone) => {}
        _ => linger(&proxy, &client).await,
    }
}

impl Session {
    fn new(
        proxy: &Rc<Proxy>,
        client: Socket,
        to: SocketAddr,
        origin: Rc<dyn Origin>,
        ahead: Option<(SocketAddr, Socket)>,
    ) -> Self {
        let bounds = proxy.settings.bounds;
        let fields = hpack::Bounds { size: bounds.head, count: bounds.headers };
        let limits = Limits { fields, block: bounds.head, ..Limits::default() };
        let ahead = ahead.map(|(address, socket)| Some(Backend::over(proxy, socket, address, limits)));
        Self {
            proxy: proxy.clone(),
            origin,
            to,
            limits,
            client,
            connection: Connection::new(Side::Server, limits),
            buffer: Buffer::default(),
            backends: ahead.into_iter().collect(),
            exchanges: BTreeMap::new(),
            again: Vec::new(),
            keeping: Rc::default(),
            served: 0,
            within: None,
            untaken: None,
            quiet: proxy.reactor.now(),
            parting: None,
            over: None,
        }
    }

    /// Does what can be done. It is ready when there is more to do, or the end has come.
    fn turn(&mut self) -> Poll<()> {
        let now = self.proxy.reactor.now();
        if self.proxy.draining.get() {
            self.part(now);
        }
        for _ in 0..TURNS {
            let mut moved = false;
            // Endpoints first: whoever has said that it takes no more is not asked.
            for place in 0..self.backends.len() {
                moved |= self.hear_backend(place, now);
            }
            moved |= self.hear(now);
            while let Some(stream) = self.again.pop() {
                self.dispatch(stream);
                moved = true;
            }
            self.pump(now);
            match say(&self.client, &mut self.connection) {
                Ok(some) => {
                    moved |= some;
                    self.note_output(some, now);
                }
                Err(_) => self.over = Some(Over::Gone),
            }
            for backend in self.backends.iter_mut().flatten() {
                moved |= backend.say();
            }
            if self.over.is_some() {
                return Poll::Ready(());
            }
            let quiet = self.exchanges.is_empty() && self.connection.output().is_empty();
            if quiet && self.connection.has_left() {
                self.over = Some(Over::Left);
                return Poll::Ready(());
            }
            if !moved {
                self.forsake();
                if quiet && self.buffer.is_empty() {
                    // Who waits for a request needs no memory for it.
                    self.proxy.reactor.give_back(std::mem::take(&mut self.buffer));
                }
                return self.wait(now);
            }
        }
        Poll::Ready(())
    }

    /// Ends connections to endpoints that nobody needs: those without a request that take none, have stopped, or whose endpoint no Service has any more.
    fn forsake(&mut self) {
        let pool = &self.proxy.pool;
        let needless = |backend: &Backend| {
            let takes_none = backend.connection.is_leaving() || backend.silent;
            backend.streams.is_empty() && (takes_none || !pool.has(backend.address))
        };
        for place in &mut self.backends {
            if place.as_ref().is_some_and(needless)
                && let Some(backend) = place.take()
            {
                backend.end();
            }
        }
    }

    /// Nothing more is done for a request.
    fn finish(&mut self, stream: u32) {
        self.leave_endpoint(stream);
        if let Some(exchange) = self.exchanges.remove(&stream) {
            self.proxy.ended(&exchange.call);
        }
        self.quiet = self.proxy.reactor.now();
        self.connection.release(stream);
    }

    /// Nothing more is wanted of the endpoint.
    fn leave_endpoint(&mut self, stream: u32) {
        if let Some(exchange) = self.exchanges.get_mut(&stream)
            && let Some(There { backend, stream }) = exchange.there.take()
            && let Some(Some(backend)) = self.backends.get_mut(backend)
        {
            backend.connection.release(stream);
            backend.streams.remove(&stream);
            backend.idle = self.proxy.reactor.now();
        }
    }
}
