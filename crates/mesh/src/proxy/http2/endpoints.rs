//! What endpoints answer, and who is asked.

use std::fmt::Display;
use std::io;
use std::task::Poll;
use std::time::Instant;

use super::super::answer::Answer;
use super::super::reach::{is_denied, is_own};
use super::Session;
use super::backend::Backend;
use super::exchange::There;
use super::head::answered;
use crate::balance::Went;
use crate::h2::{Code, Event, Failure};
use crate::telemetry::add;

/// So many connections to endpoints one client may have.
pub(super) const CONNECTIONS: usize = 128;
/// So many answers of 1xx may come before the one that counts.
pub(super) const INFORMATIONAL: u32 = 16;

/// Why an endpoint does not answer.
#[derive(Clone, Copy)]
pub(super) enum Lost<'a> {
    NoConnection(&'a io::Error),
    /// It did not look at the request.
    Unseen,
    NoAnswer,
    /// It takes nothing more of the request.
    Stuck,
    Reset(Code),
    /// It has answered with what is tried again, and that was asked for.
    Status(u16),
    Broken(&'a dyn Display),
}

impl Lost<'_> {
    /// Whether it is a failure of the endpoint's.
    fn is_theirs(self) -> bool {
        match self {
            Self::NoConnection(e) => !is_own(e),
            Self::NoAnswer | Self::Stuck | Self::Broken(_) => true,
            Self::Unseen | Self::Reset(_) | Self::Status(_) => false,
        }
    }
}

impl Session {
    /// Sends a request to an endpoint.
    pub(super) fn dispatch(&mut self, stream: u32) {
        let proxy = self.proxy.clone();
        let now = proxy.reactor.now();
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        (exchange.began, exchange.limit) = (now, exchange.tries.limit(now));
        (exchange.informational, exchange.tries.waits) = (0, None);
        let origin = self.origin.clone();
        let balancer = exchange.service.and_then(|service| proxy.balancer(&*origin, service));
        let picked =
            balancer.and_then(|balancer| balancer.pick(&exchange.avoid, &mut proxy.dice.borrow_mut(), now));
        let Some(pick) = picked else {
            let text = format!("{}: the backend has no endpoint that is ready", exchange.name);
            exchange.call.finds_nobody();
            return self.answer(stream, &Answer::new(503, text));
        };
        let address = pick.address();
        exchange.call.tries(address);
        let end = exchange.up.is_through() && exchange.up.trailers.is_none();
        let mut known = self.backends.iter_mut().enumerate();
        let opened = known.find_map(|(place, backend)| {
            let backend = backend.as_mut().filter(|backend| backend.address == address && !backend.silent)?;
            Some((place, backend.connection.open(exchange.head.iter(), end).ok()?))
        });
        let opened = opened.or_else(|| {
            let place = room(&mut self.backends)?;
            let mut backend = Backend::connect(&proxy, &self.origin, address, self.limits);
            let theirs = backend.connection.open(exchange.head.iter(), end).ok()?;
            *self.backends.get_mut(place)? = Some(backend);
            Some((place, theirs))
        });
        let Some((place, theirs)) = opened else {
            let text = format!("{}: no connection to {address} takes a request", exchange.name);
            return self.answer(stream, &Answer::new(503, text));
        };
        if let Some(Some(backend)) = self.backends.get_mut(place) {
            backend.streams.insert(theirs, stream);
        }
        exchange.there = Some(There { backend: place, stream: theirs });
        exchange.pick = Some(pick);
        if end {
            exchange.copies.end(None);
        }
        exchange.up.done = end;
        exchange.up.moved = now;
    }

    /// Looks what came from an endpoint; whether something did.
    pub(super) fn hear_backend(&mut self, place: usize, now: Instant) -> bool {
        let Some(mut backend) = self.backends.get_mut(place).and_then(Option::take) else { return false };
        let was_open = backend.is_open();
        match backend.reach() {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(e)) => {
                self.lost_all(&backend, Lost::NoConnection(&e));
                return true;
            }
            Poll::Pending => {
                self.put_back(place, backend);
                return false;
            }
        }
        if !was_open {
            // Its requests wait for it from now on.
            for stream in backend.streams.values() {
                if let Some(exchange) = self.exchanges.get_mut(stream) {
                    exchange.up.moved = now;
                }
            }
            self.put_back(place, backend);
            return true;
        }
        // What was left when the client had too much to take comes first. Until it takes some, no more is read.
        let mut heard = self.take_of(&mut backend, now);
        if heard.is_ok() && !self.connection.is_full() {
            match backend.read() {
                Poll::Ready(Ok(1..)) => heard = self.take_of(&mut backend, now).map(|_| true),
                Poll::Ready(_) => {
                    // What was never sent was not looked at.
                    let lost = if backend.said { Lost::NoAnswer } else { Lost::Unseen };
                    self.lost_all(&backend, lost);
                    return true;
                }
                Poll::Pending => {}
            }
        }
        match heard {
            Ok(some) => {
                backend.note_input(self.connection.is_full(), now);
                if backend.buffer.is_empty() {
                    self.proxy.reactor.give_back(std::mem::take(&mut backend.buffer));
                }
                self.put_back(place, backend);
                some
            }
            Err(failed) => {
                self.lost_all(&backend, Lost::Broken(&failed));
                backend.end();
                true
            }
        }
    }

    /// Takes the frames of an endpoint that are there, for as long as the client has room for what they bring; whether there was one.
    fn take_of(&mut self, backend: &mut Backend, now: Instant) -> Result<bool, Failure> {
        let mut buffer = std::mem::take(&mut backend.buffer);
        let mut some = false;
        let taken = loop {
            if self.connection.is_full() {
                break Ok(some);
            }
            match backend.connection.receive(now, buffer.data()) {
                Ok((0, _)) => break Ok(some),
                Ok((used, event)) => {
                    if let Some(event) = event {
                        self.heard(backend, event, now);
                    }
                    buffer.consume(used);
                    some = true;
                    (backend.blamed, backend.silent) = (false, false);
                    if !backend.connection.is_within_head() {
                        // What comes behind a frame has its own time.
                        backend.within = None;
                    }
                }
                Err(failed) => break Err(failed),
            }
        };
        backend.buffer = buffer;
        taken
    }

    fn put_back(&mut self, place: usize, backend: Backend) {
        if let Some(free) = self.backends.get_mut(place) {
            *free = Some(backend);
        }
    }

    fn heard(&mut self, backend: &mut Backend, event: Event<'_>, now: Instant) {
        let (Event::Head { stream: theirs, .. }
        | Event::Informational { stream: theirs }
        | Event::Data { stream: theirs, .. }
        | Event::Trailers { stream: theirs }
        | Event::Reset { stream: theirs, .. }) = event
        else {
            if let Event::GoAway { last, .. } = event {
                let mut unseen: Vec<u32> = backend.streams.keys().copied().collect();
                unseen.retain(|theirs| *theirs > last);
                unseen.into_iter().for_each(|theirs| self.gone(backend, theirs, Lost::Unseen, now));
            }
            return;
        };
        let Some(stream) = backend.streams.get(&theirs).copied() else { return };
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        match event {
            Event::Informational { .. } => {
                exchange.informational += 1;
                if exchange.informational > INFORMATIONAL {
                    let why = format!("more than {INFORMATIONAL} of 1xx come before it");
                    return self.gone(backend, theirs, Lost::Broken(&why), now);
                }
                let _gone = self.connection.respond(stream, backend.connection.fields().iter(), false);
            }
            Event::Head { end, .. } => {
                let fields = backend.connection.fields();
                let status = fields.get(b":status").and_then(|status| str::from_utf8(status).ok());
                let status: u16 = status.and_then(|status| status.parse().ok()).unwrap_or_default();
                let took = now.saturating_duration_since(exchange.began);
                if let Some(pick) = &exchange.pick {
                    pick.went(if status < 500 { Went::Well(took) } else { Went::Badly(status, took) }, now);
                }
                exchange.call.answers(status);
                if exchange.swallows(&self.proxy, status, now) {
                    return self.gone(backend, theirs, Lost::Status(status), now);
                }
                exchange.call.answers_grpc(fields.get(b"grpc-status"));
                let head = answered(fields, &exchange.response);
                exchange.down.comes(now);
                exchange.answered = true;
                // It is not sent again.
                exchange.head.clear();
                exchange.up.forget();
                (exchange.down.end, exchange.down.done) = (end, end);
                let _gone = self.connection.respond(stream, head.iter(), end);
            }
            Event::Data { bytes, end, .. } => {
                exchange.down.comes(now);
                exchange.down.bytes.extend_from_slice(bytes);
                exchange.down.end |= end;
            }
            Event::Trailers { .. } => {
                exchange.down.comes(now);
                let trailers = backend.connection.fields();
                exchange.call.answers_grpc(trailers.get(b"grpc-status"));
                exchange.down.trailers = Some(trailers.clone());
                exchange.down.end = true;
            }
            // All of the answer is there: the endpoint does not want the rest of the request.
            Event::Reset { .. } if exchange.down.end => {}
            Event::Reset { code: Code::REFUSED_STREAM, why: None, .. } => {
                self.gone(backend, theirs, Lost::Unseen, now);
            }
            Event::Reset { code, why: None, .. } => self.gone(backend, theirs, Lost::Reset(code), now),
            Event::Reset { why: Some(why), .. } => self.gone(backend, theirs, Lost::Broken(&why), now),
            Event::TooLarge { .. } | Event::Window { .. } | Event::GoAway { .. } | Event::Pong(_) => {}
        }
    }

    /// A stream of an endpoint's connection has ended, and the connection goes on.
    fn gone(&mut self, backend: &mut Backend, theirs: u32, lost: Lost<'_>, now: Instant) {
        backend.connection.release(theirs);
        backend.idle = now;
        if let Some(stream) = backend.streams.remove(&theirs) {
            self.lost(stream, lost, true);
        }
    }

    /// A connection to an endpoint is over, and what was asked over it. That is one failure, however many requests there were, and none if it
    /// had one since it last said something.
    pub(super) fn lost_all(&mut self, backend: &Backend, lost: Lost<'_>) {
        let mut streams: Vec<u32> = backend.streams.values().copied().collect();
        streams.sort_unstable();
        let mut blame = !backend.blamed;
        for stream in streams {
            blame &= !self.lost(stream, lost, blame);
        }
    }

    /// There is no answer from this endpoint: another is asked, or the client is told. Gives whether the endpoint was blamed for it, which it is
    /// only if it should be.
    pub(super) fn lost(&mut self, stream: u32, lost: Lost<'_>, blame: bool) -> bool {
        let now = self.proxy.reactor.now();
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return false };
        exchange.there = None;
        // An answer that is whole needs nobody any more.
        if exchange.down.end {
            return false;
        }
        let pick = exchange.pick.take();
        let endpoint = pick.as_ref().map(|pick| pick.address());
        let mut blamed = false;
        if let Some(pick) = pick.filter(|_| blame && lost.is_theirs()) {
            // What was asked before the endpoint was left out is not the failure that counts: the next one may be.
            blamed = pick.counts(now);
            pick.went(Went::NotAtAll, now);
        }
        if exchange.answered {
            let code = if let Lost::Reset(code) = lost { code } else { Code::INTERNAL_ERROR };
            self.abort(stream, code);
            return blamed;
        }
        // Whoever ends a connection in good order may be asked over another.
        if !matches!(lost, Lost::Unseen) {
            exchange.avoid.extend(endpoint);
        }
        if matches!(lost, Lost::NoConnection(_)) {
            add(&self.proxy.series(exchange.call.subject()).failed, 1);
        }
        let balancer = exchange.service.and_then(|service| self.proxy.balancer(&*self.origin, service));
        let denied = matches!(lost, Lost::NoConnection(e) if is_denied(e));
        let again = matches!(lost, Lost::NoConnection(_) | Lost::Unseen)
            && !denied
            && !exchange.uploading
            && exchange.tries.others < self.proxy.settings.other_endpoints
            && balancer.is_some_and(|balancer| balancer.has_another(&exchange.avoid, now))
            && self.proxy.budget.borrow_mut().retry(now);
        if again {
            exchange.tries.others += 1;
            self.send_again(stream, false, now);
            return blamed;
        }
        // Nobody can tell what became of what was looked at: only what may be done twice is sent once more.
        let by_route = !exchange.uploading
            && match lost {
                Lost::Status(_) => true,
                Lost::NoConnection(_) => false,
                Lost::Unseen => exchange.tries.spend(&self.proxy, now),
                Lost::NoAnswer | Lost::Stuck | Lost::Reset(_) | Lost::Broken(_) => {
                    exchange.is_idempotent() && exchange.tries.spend(&self.proxy, now)
                }
            };
        if by_route {
            if matches!(lost, Lost::Unseen) {
                exchange.avoid.extend(endpoint);
            }
            self.send_again(stream, true, now);
            return blamed;
        }
        let endpoint = endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default();
        let name = &exchange.name;
        let (status, text) = match lost {
            Lost::NoConnection(e) if denied => (403, format!("{name}: {endpoint}: {e}")),
            Lost::NoConnection(e) => (503, format!("{name}: cannot connect to {endpoint}: {e}")),
            Lost::Unseen => (503, format!("{name}: {endpoint} takes no requests over this connection")),
            Lost::NoAnswer => (502, format!("{name}: {endpoint} ended the connection without an answer")),
            Lost::Stuck => (502, format!("{name}: {endpoint} takes nothing more of the request")),
            Lost::Reset(code) => {
                (502, format!("{name}: {endpoint} ended the request without an answer ({code})"))
            }
            Lost::Status(status) => (status, format!("{name}: {endpoint} answered {status}")),
            Lost::Broken(why) => (502, format!("{name}: the answer of {endpoint} is refused: {why}")),
        };
        self.answer(stream, &Answer::new(status, text));
        blamed
    }

    /// A request that is at no endpoint is sent once more, after some time if it `rests` and its route says so.
    pub(super) fn send_again(&mut self, stream: u32, rests: bool, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        add(&self.proxy.series(exchange.call.subject()).retried, 1);
        exchange.call.again();
        self.proxy.count(|counts| counts.retried += 1);
        exchange.up.rewind();
        (exchange.pick, exchange.limit) = (None, exchange.tries.end());
        if !rests || !exchange.tries.back_off(now) {
            self.again.push(stream);
        }
    }
}

/// A place for another connection. Where there are as many as may be, the one that has had no request for the longest makes room; if each has
/// one, there is none.
fn room(backends: &mut Vec<Option<Backend>>) -> Option<usize> {
    if let Some(free) = backends.iter().position(Option::is_none) {
        return Some(free);
    }
    if backends.len() < CONNECTIONS {
        backends.push(None);
        return Some(backends.len() - 1);
    }
    let idle = backends.iter().enumerate().filter_map(|(place, backend)| {
        let backend = backend.as_ref().filter(|backend| backend.streams.is_empty())?;
        Some((backend.idle, place))
    });
    let (_, place) = idle.min()?;
    backends.get_mut(place)?.take()?.end();
    Some(place)
}
