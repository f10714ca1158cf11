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

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::connection::linger;
use super::{Origin, Proxy};
use crate::h2::{Connection, Limits, Side, hpack};
use crate::reactor::{Buffer, Socket};
use backend::{Backend, say};
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
    exchanges: HashMap<u32, Exchange>,
    /// Requests that look for another endpoint.
    again: Vec<u32>,
    /// When something was last read or sent.
    moved: Instant,
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
    let bounds = proxy.settings.bounds;
    let fields = hpack::Bounds { size: bounds.head, count: bounds.headers };
    let limits = Limits { fields, block: bounds.head, ..Limits::default() };
    let now = proxy.reactor.now();
    let ahead = ahead.map(|(address, socket)| Some(Backend::over(socket, address, limits, now)));
    let mut session = Session {
        proxy: proxy.clone(),
        origin,
        to,
        limits,
        client,
        connection: Connection::new(Side::Server, limits),
        buffer: Buffer::default(),
        backends: ahead.into_iter().collect(),
        exchanges: HashMap::new(),
        again: Vec::new(),
        moved: now,
        over: None,
    };
    while session.over.is_none() {
        poll_fn(|_| session.turn()).await;
        proxy.reactor.yield_now().await;
    }
    let Session { client, backends, over, .. } = session;
    backends.into_iter().flatten().for_each(Backend::end);
    match over {
        Some(Over::Stalled) => client.reset(),
        Some(Over::Gone) => {}
        _ => linger(&proxy, &client).await,
    }
}

impl Session {
    /// Does what can be done. It is ready when there is more to do, or the end has come.
    fn turn(&mut self) -> Poll<()> {
        let now = self.proxy.reactor.now();
        if self.proxy.draining.get() {
            self.connection.leave(true);
        }
        for _ in 0..TURNS {
            let mut moved = self.hear(now);
            for place in 0..self.backends.len() {
                moved |= self.hear_backend(place, now);
            }
            while let Some(stream) = self.again.pop() {
                self.dispatch(stream);
                moved = true;
            }
            self.pump();
            match say(&self.client, &mut self.connection) {
                Ok(some) => moved |= some,
                Err(_) => self.over = Some(Over::Gone),
            }
            for backend in self.backends.iter_mut().flatten() {
                moved |= backend.say();
            }
            if moved {
                self.moved = now;
            }
            if self.over.is_some() {
                return Poll::Ready(());
            }
            let quiet = self.exchanges.is_empty() && self.connection.output().is_empty();
            if quiet && self.connection.is_leaving() {
                self.over = Some(Over::Left);
                return Poll::Ready(());
            }
            if !moved {
                if quiet && self.buffer.is_empty() {
                    // Who waits for a request needs no memory for it.
                    self.proxy.reactor.give_back(std::mem::take(&mut self.buffer));
                }
                return self.wait(now);
            }
        }
        Poll::Ready(())
    }

    /// Nothing can be done until something comes, or is late.
    fn wait(&mut self, now: Instant) -> Poll<()> {
        let Some(limit) = self.limit() else { return Poll::Pending };
        if limit <= now {
            self.late(now);
            return Poll::Ready(());
        }
        self.proxy.reactor.wake_at(limit);
        Poll::Pending
    }

    /// When something is late, if nothing comes before.
    fn limit(&self) -> Option<Instant> {
        let settings = &self.proxy.settings;
        let requests = self.exchanges.values().filter_map(|exchange| exchange.limit);
        let backends = self.backends.iter().flatten().filter_map(|backend| {
            backend.limit().or(backend.streams.is_empty().then(|| backend.idle + settings.pool_idle))
        });
        requests.chain(backends).chain(self.own_limit()).min()
    }

    /// How long the client may leave it as it is.
    fn own_limit(&self) -> Option<Instant> {
        let settings = &self.proxy.settings;
        let within = self.connection.is_within_head() || !self.buffer.is_empty();
        let time = match (within, self.connection.output().is_empty(), self.exchanges.is_empty()) {
            (true, ..) => settings.head,
            (_, false, _) => settings.stall,
            (.., true) => settings.idle,
            _ => return None,
        };
        Some(self.moved + time)
    }

    /// Ends what is late.
    fn late(&mut self, now: Instant) {
        let is_late = |exchange: &Exchange| exchange.limit.is_some_and(|limit| limit <= now);
        let late: Vec<u32> = self.exchanges.iter().filter(|(_, it)| is_late(it)).map(|(n, _)| *n).collect();
        late.into_iter().for_each(|stream| self.too_late(stream, now));
        let idle = self.proxy.settings.pool_idle;
        for place in &mut self.backends {
            let is_old = |backend: &Backend| backend.streams.is_empty() && backend.idle + idle <= now;
            if place.as_ref().is_some_and(is_old)
                && let Some(backend) = place.take()
            {
                backend.end();
            }
        }
        if self.own_limit().is_some_and(|limit| limit <= now) {
            if self.exchanges.is_empty() && self.connection.output().is_empty() && self.buffer.is_empty() {
                self.connection.leave(true);
                self.moved = now;
            } else {
                self.over = Some(Over::Stalled);
            }
        }
    }

    /// Passes on what waits and what windows let.
    fn pump(&mut self) {
        let waits = |it: &Exchange| it.up.waits() || it.down.waits() || it.down.done;
        let streams: Vec<u32> = self.exchanges.iter().filter(|(_, it)| waits(it)).map(|(n, _)| *n).collect();
        for stream in streams {
            self.pump_up(stream);
            self.pump_down(stream);
        }
    }

    fn pump_up(&mut self, stream: u32) {
        let Some(exchange) = self.exchanges.get_mut(&stream).filter(|exchange| exchange.up.waits()) else {
            return;
        };
        let Some(There { backend, stream: theirs }) = exchange.there else { return };
        let Some(Some(backend)) = self.backends.get_mut(backend) else { return };
        let flow = &mut exchange.up;
        let last = flow.end && flow.trailers.is_none();
        let sent = backend.connection.data(theirs, &flow.bytes, last);
        // Who takes no more of it may have answered: the rest goes nowhere.
        let count = sent.unwrap_or(flow.bytes.len());
        flow.bytes.drain(..count);
        exchange.uploading |= count > 0;
        self.connection.consumed(stream, u32::try_from(count).unwrap_or(u32::MAX));
        if flow.bytes.is_empty() && flow.end {
            if let Some(trailers) = flow.trailers.take() {
                let _gone = backend.connection.trailers(theirs, trailers.iter());
                exchange.uploading = true;
            }
            flow.done = true;
        }
    }

    fn pump_down(&mut self, stream: u32) {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        let flow = &mut exchange.down;
        if flow.waits() {
            let last = flow.end && flow.trailers.is_none();
            let Ok(count) = self.connection.data(stream, &flow.bytes, last) else { return };
            flow.bytes.drain(..count);
            if let Some(There { backend, stream: theirs }) = exchange.there
                && let Some(Some(backend)) = self.backends.get_mut(backend)
            {
                backend.connection.consumed(theirs, u32::try_from(count).unwrap_or(u32::MAX));
            }
            if flow.bytes.is_empty() && flow.end {
                if let Some(trailers) = flow.trailers.take() {
                    let _gone = self.connection.trailers(stream, trailers.iter());
                }
                flow.done = true;
            }
        }
        if flow.done {
            self.finish(stream);
        }
    }

    /// Nothing more is done for a request.
    fn finish(&mut self, stream: u32) {
        if let Some(mut exchange) = self.exchanges.remove(&stream) {
            self.leave_backend(&mut exchange);
        }
        self.connection.release(stream);
    }

    /// Nothing more is wanted of the endpoint.
    fn leave_backend(&mut self, exchange: &mut Exchange) {
        let now = self.proxy.reactor.now();
        if let Some(There { backend, stream }) = exchange.there.take()
            && let Some(Some(backend)) = self.backends.get_mut(backend)
        {
            backend.connection.release(stream);
            backend.streams.remove(&stream);
            backend.idle = now;
        }
    }
}
