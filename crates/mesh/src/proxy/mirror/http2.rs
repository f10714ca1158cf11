//! A copy over HTTP/2. It has a connection for itself, which waits for the next one then: copies of one client do not share windows with each other, nor with
//! requests.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use super::super::http2::say;
use super::super::{Origin, Proxy, Service};
use super::feed::Feed;
use super::{connected, note};
use crate::h2::{Connection, Event, Fields, Limits, Side, hpack};
use crate::reactor::{Buffer, Socket};
use crate::telemetry::Unmirrored;

/// A connection to an endpoint.
pub(super) struct Wire {
    socket: Socket,
    connection: Connection,
    buffer: Buffer,
}

/// How far a copy has come.
#[derive(Default)]
struct Asking {
    /// Its stream; 0 is none.
    stream: u32,
    /// All of it was sent, or nobody takes the rest.
    sent: bool,
    status: u16,
    /// All of its answer came.
    done: bool,
}

/// As [`super::http1::ask`], of a copy with this head, behind which nothing comes if it is `bodyless`.
///
/// # Errors
/// There is no answer.
pub(super) async fn ask(
    proxy: &Rc<Proxy>,
    origin: &Rc<dyn Origin>,
    service: Service,
    feed: &Feed,
    (head, bodyless): (&Fields, bool),
) -> Result<u16, Unmirrored> {
    let bounds = proxy.settings.bounds;
    let fields = hpack::Bounds { size: bounds.head, count: bounds.headers };
    let limits = Limits { fields, block: bounds.head, ..Limits::default() };
    let there = |place| proxy.mirrors.take(place, proxy.reactor.now(), proxy.settings.pool_idle);
    let new = |socket| Wire {
        socket,
        connection: Connection::new(Side::Client, limits),
        buffer: Buffer::default(),
    };
    let (pick, mut wire) = connected(proxy, origin, service, there, new).await?;
    let began = proxy.reactor.now();
    let opened = wire.connection.open(head.iter(), bodyless);
    let stream = opened.map_err(|_| Unmirrored::NoConnection)?;
    let mut asking = Asking { stream, sent: bodyless, ..Asking::default() };
    let answered = poll_fn(|_| {
        loop {
            match wire.turn(&mut asking, feed, proxy.reactor.now()) {
                Ok(_) if asking.done => return Poll::Ready(Ok(asking.status)),
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(lost) => return Poll::Ready(Err(lost)),
            }
        }
    })
    .await;
    let now = proxy.reactor.now();
    note(&pick, answered, now.saturating_duration_since(began), now);
    let status = answered?;
    // What of the copy was not sent yet nobody wants.
    wire.connection.release(stream);
    let place = (origin.network(), pick.address());
    if wire.say().is_ok() && wire.is_quiet() && proxy.pool.has(place.1) {
        proxy.reactor.give_back(std::mem::take(&mut wire.buffer));
        wire.socket.rest();
        proxy.mirrors.put(place, wire, now);
    }
    Ok(status)
}

impl Wire {
    /// Does what can be done; whether something was.
    fn turn(&mut self, asking: &mut Asking, feed: &Feed, now: Instant) -> Result<bool, Unmirrored> {
        let mut moved = false;
        match self.socket.poll_read(&mut self.buffer) {
            Poll::Ready(Ok(1..)) => {
                self.hear(asking, now)?;
                moved = true;
            }
            Poll::Ready(_) => return Err(Unmirrored::NoAnswer),
            Poll::Pending => {}
        }
        if asking.done {
            return Ok(true);
        }
        moved |= self.pass(asking, feed)?;
        moved |= self.say().map_err(|_| Unmirrored::NoAnswer)?;
        Ok(moved)
    }

    /// Takes the frames that are there.
    fn hear(&mut self, asking: &mut Asking, now: Instant) -> Result<(), Unmirrored> {
        loop {
            let received = self.connection.receive(now, self.buffer.data());
            let (used, event) = received.map_err(|_| Unmirrored::NoAnswer)?;
            if used == 0 {
                return Ok(());
            }
            if let Some(event) = event {
                asking.told(&mut self.connection, event)?;
            }
            self.buffer.consume(used);
        }
    }

    /// Sends what of the body windows let; whether some was.
    fn pass(&mut self, asking: &mut Asking, feed: &Feed) -> Result<bool, Unmirrored> {
        if asking.sent {
            return Ok(false);
        }
        let (connection, stream) = (&mut self.connection, asking.stream);
        let (moved, sent, gone) = feed.look(|bytes, whole, trailers| {
            if bytes.is_empty() && !whole {
                return (0, (false, false, false));
            }
            let Ok(count) = connection.data(stream, bytes, whole && trailers.is_none()) else {
                return (0, (true, true, true));
            };
            let sent = whole && count == bytes.len();
            if sent && let Some(trailers) = trailers.take() {
                let _gone = connection.trailers(stream, trailers.iter());
            }
            (count, (count > 0 || sent, sent, false))
        })?;
        asking.sent = sent;
        if gone {
            // Who takes no more of it may have answered.
            feed.close();
        }
        Ok(moved)
    }

    /// Sends what is to be sent, as far as it goes; whether some was.
    fn say(&mut self) -> io::Result<bool> {
        say(&self.socket, &mut self.connection)
    }

    /// Whether nothing of it is left over, and the peer takes another request.
    fn is_quiet(&self) -> bool {
        self.connection.output().is_empty() && self.buffer.is_empty() && !self.connection.is_leaving()
    }

    /// Whether one that has waited takes another request. What the peer has sent meanwhile is answered.
    pub(super) fn is_good(&mut self, now: Instant) -> bool {
        loop {
            match self.socket.poll_read(&mut self.buffer) {
                Poll::Ready(Ok(1..)) => {
                    if self.hear(&mut Asking::default(), now).is_err() {
                        return false;
                    }
                }
                Poll::Ready(_) => return false,
                Poll::Pending => return !self.connection.is_leaving(),
            }
        }
    }
}

impl Asking {
    fn told(&mut self, connection: &mut Connection, event: Event<'_>) -> Result<(), Unmirrored> {
        match event {
            Event::Head { stream, end } if stream == self.stream => {
                let status = connection.fields().get(b":status").and_then(|text| str::from_utf8(text).ok());
                self.status = status.and_then(|status| status.parse().ok()).unwrap_or_default();
                self.done = end;
            }
            Event::Data { stream, bytes, end } => {
                connection.consumed(stream, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                self.done |= end && stream == self.stream;
            }
            Event::Trailers { stream } if stream == self.stream => self.done = true,
            Event::Reset { stream, .. } if stream == self.stream && !self.done => {
                return Err(Unmirrored::NoAnswer);
            }
            // It does not look at this one.
            Event::GoAway { last, .. } if last < self.stream && !self.done => {
                return Err(Unmirrored::NoAnswer);
            }
            _ => {}
        }
        Ok(())
    }
}
