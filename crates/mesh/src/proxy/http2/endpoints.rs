//! What endpoints answer, and who is asked.

use std::fmt::Display;
use std::time::Instant;

use super::super::answer::Answer;
use super::Session;
use super::backend::{Backend, Heard};
use super::exchange::There;
use super::head::answered;
use crate::balance::Went;
use crate::h2::{Code, Event};

/// So many connections to endpoints one client may have.
const CONNECTIONS: usize = 128;

/// Why an endpoint does not answer.
enum Lost<'a> {
    NoConnection(&'a dyn Display),
    /// It has said that it did not look at the request.
    Unseen,
    NoAnswer,
    Reset(Code),
    Broken(&'a dyn Display),
}

impl Session {
    /// Sends a request to an endpoint.
    pub(super) fn dispatch(&mut self, stream: u32) {
        let proxy = self.proxy.clone();
        let now = proxy.reactor.now();
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        let balancer = exchange.service.and_then(|service| proxy.balancer(service));
        let picked =
            balancer.and_then(|balancer| balancer.pick(&exchange.avoid, &mut proxy.dice.borrow_mut(), now));
        let Some(pick) = picked else {
            let text = format!("{}: the backend has no endpoint that is ready", exchange.name);
            return self.answer(stream, &Answer::new(503, text));
        };
        let address = pick.address();
        let end = exchange.up.end && exchange.up.bytes.is_empty() && exchange.up.trailers.is_none();
        let mut known = self.backends.iter_mut().enumerate();
        let opened = known.find_map(|(place, backend)| {
            let backend = backend.as_mut().filter(|backend| backend.address == address)?;
            Some((place, backend.connection.open(exchange.head.iter(), end).ok()?))
        });
        let opened = opened.or_else(|| {
            if self.backends.iter().flatten().count() >= CONNECTIONS {
                return None;
            }
            let mut backend = Backend::connect(&proxy, address, self.limits);
            let theirs = backend.connection.open(exchange.head.iter(), end).ok()?;
            let free = self.backends.iter().position(Option::is_none);
            let place = free.unwrap_or(self.backends.len());
            self.backends.resize_with(self.backends.len().max(place + 1), || None);
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
        exchange.up.done = end;
    }

    /// Looks what came from an endpoint; whether something did.
    pub(super) fn hear_backend(&mut self, place: usize, now: Instant) -> bool {
        let Some(mut backend) = self.backends.get_mut(place).and_then(Option::take) else { return false };
        let heard = backend.hear(now);
        let streams = |backend: &Backend| backend.streams.values().copied().collect::<Vec<u32>>();
        match heard {
            Heard::Nothing | Heard::Connected => {
                let connected = matches!(heard, Heard::Connected);
                if connected {
                    self.proxy.count(|counts| counts.connected += 1);
                }
                self.put_back(place, backend);
                connected
            }
            Heard::NoConnection(e) => {
                for stream in streams(&backend) {
                    self.lost(stream, &Lost::NoConnection(&e));
                }
                true
            }
            Heard::Ended => {
                for stream in streams(&backend) {
                    self.lost(stream, &Lost::NoAnswer);
                }
                true
            }
            Heard::Bytes => {
                let mut buffer = std::mem::take(&mut backend.buffer);
                let failed = loop {
                    match backend.connection.receive(now, buffer.data()) {
                        Ok((0, _)) => break None,
                        Ok((used, event)) => {
                            if let Some(event) = event {
                                self.heard(&mut backend, event, now);
                            }
                            buffer.consume(used);
                        }
                        Err(failed) => break Some(failed),
                    }
                };
                if let Some(failed) = failed {
                    for stream in streams(&backend) {
                        self.lost(stream, &Lost::Broken(&failed));
                    }
                    backend.end();
                } else {
                    if !buffer.is_empty() {
                        backend.buffer = buffer;
                    } else {
                        self.proxy.reactor.give_back(buffer);
                    }
                    self.put_back(place, backend);
                }
                true
            }
        }
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
                unseen.into_iter().for_each(|theirs| self.gone(backend, theirs, &Lost::Unseen, now));
            }
            return;
        };
        let Some(stream) = backend.streams.get(&theirs).copied() else { return };
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        match event {
            Event::Informational { .. } => {
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
                let head = answered(fields, &exchange.response);
                exchange.answered = true;
                // It is not sent again.
                exchange.head.clear();
                (exchange.down.end, exchange.down.done) = (end, end);
                let _gone = self.connection.respond(stream, head.iter(), end);
            }
            Event::Data { bytes, end, .. } => {
                exchange.down.bytes.extend_from_slice(bytes);
                exchange.down.end |= end;
            }
            Event::Trailers { .. } => {
                exchange.down.trailers = Some(backend.connection.fields().clone());
                exchange.down.end = true;
            }
            // All of the answer is there: the endpoint does not want the rest of the request.
            Event::Reset { .. } if exchange.down.end => {}
            Event::Reset { code: Code::REFUSED_STREAM, why: None, .. } => {
                self.gone(backend, theirs, &Lost::Unseen, now);
            }
            Event::Reset { code, why: None, .. } => self.gone(backend, theirs, &Lost::Reset(code), now),
            Event::Reset { why: Some(why), .. } => self.gone(backend, theirs, &Lost::Broken(&why), now),
            Event::TooLarge { .. } | Event::Window { .. } | Event::GoAway { .. } | Event::Pong(_) => {}
        }
    }

    /// A stream of an endpoint's connection has ended, and the connection goes on.
    fn gone(&mut self, backend: &mut Backend, theirs: u32, lost: &Lost<'_>, now: Instant) {
        backend.connection.release(theirs);
        backend.idle = now;
        if let Some(stream) = backend.streams.remove(&theirs) {
            self.lost(stream, lost);
        }
    }

    /// There is no answer from this endpoint: another is asked, or the client is told.
    fn lost(&mut self, stream: u32, lost: &Lost<'_>) {
        let now = self.proxy.reactor.now();
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        exchange.there = None;
        // An answer that is whole needs nobody any more.
        if exchange.down.end {
            return;
        }
        let pick = exchange.pick.take();
        let endpoint = pick.as_ref().map(|pick| pick.address());
        if let Some(pick) = &pick
            && !matches!(lost, Lost::Unseen | Lost::Reset(_))
        {
            pick.went(Went::NotAtAll, now);
        }
        drop(pick);
        if exchange.answered {
            let code = if let Lost::Reset(code) = lost { *code } else { Code::INTERNAL_ERROR };
            return self.abort(stream, code);
        }
        let unseen = matches!(lost, Lost::NoConnection(_) | Lost::Unseen) && !exchange.uploading;
        if unseen
            && exchange.tries < self.proxy.settings.other_endpoints
            && self.proxy.budget.borrow_mut().retry(now)
        {
            exchange.tries += 1;
            exchange.up.done = false;
            // Whoever ends a connection in good order may be asked over another.
            if matches!(lost, Lost::NoConnection(_)) {
                exchange.avoid.extend(endpoint);
            }
            self.proxy.count(|counts| counts.retried += 1);
            return self.again.push(stream);
        }
        let endpoint = endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default();
        let name = &exchange.name;
        let (status, text) = match lost {
            Lost::NoConnection(e) => (503, format!("{name}: cannot connect to {endpoint}: {e}")),
            Lost::Unseen => (503, format!("{name}: {endpoint} takes no requests over this connection")),
            Lost::NoAnswer => (502, format!("{name}: {endpoint} ended the connection without an answer")),
            Lost::Reset(code) => {
                (502, format!("{name}: {endpoint} ended the request without an answer ({code})"))
            }
            Lost::Broken(why) => (502, format!("{name}: the answer of {endpoint} is refused: {why}")),
        };
        self.answer(stream, &Answer::new(status, text));
    }
}
