//! What the client sends.

use std::task::Poll;
use std::time::Instant;

use super::super::answer::Answer;
use super::super::mirror::{Copies, Original};
use super::super::rules::Routing;
use super::exchange::{Exchange, Flow};
use super::head::{Way, ask, is_grpc, own};
use super::kept::Kept;
use super::late::PARTING;
use super::tries::Tries;
use super::{Over, Session};
use crate::balance::Went;
use crate::h2::{Code, Event};
use crate::telemetry::{Call, Reason, Request};

impl Session {
    /// Takes what the client has sent; whether there was something.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        // What was left when its answers were too many comes first.
        let mut some = self.take(now);
        // Who does not take answers is not heard until it does.
        if !self.connection.is_full() {
            match self.client.poll_read(&mut self.buffer) {
                Poll::Ready(Ok(1..)) => {
                    self.take(now);
                    some = true;
                }
                Poll::Ready(_) => {
                    self.over = Some(Over::Gone);
                    return true;
                }
                Poll::Pending => {}
            }
        }
        self.note_input(now);
        some
    }

    /// Takes the frames that are there, for as long as there is room for what they ask for; whether there was one.
    fn take(&mut self, now: Instant) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut some = false;
        // What ends the connection is in its output; what has begun ends with it.
        while !self.connection.is_full()
            && let Ok((used @ 1.., event)) = self.connection.receive(now, buffer.data())
        {
            if let Some(event) = event {
                self.told(event, now);
            }
            buffer.consume(used);
            some = true;
            if !self.connection.is_within_head() {
                // What comes behind a frame has its own time.
                self.within = None;
            }
        }
        if self.connection.has_failed() {
            buffer.consume(buffer.data().len());
            let streams: Vec<u32> = self.exchanges.keys().copied().collect();
            streams.into_iter().for_each(|stream| self.left_by_client(stream));
        }
        self.buffer = buffer;
        some
    }

    fn told(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Head { stream, end } => self.begin(stream, end, now),
            Event::TooLarge { stream } => {
                let mut exchange = self.nothing_yet(now);
                if self.proxy.telemetry().is_watched() {
                    // Of what it asks for not all was unpacked.
                    exchange.call.request = Some(Box::new(Request::new(2, "", "", "")));
                    exchange.call.peer = self.origin.inside().map(|inside| inside.who().into());
                }
                self.exchanges.insert(stream, exchange);
                let text = format!("its head is larger than {} bytes", self.limits.fields.size);
                self.answer(stream, &Answer::new(431, format!("the request is refused: {text}")));
            }
            Event::Data { stream, bytes, end } => {
                match self.exchanges.get_mut(&stream) {
                    Some(exchange) if exchange.there.is_some() || !exchange.answered => {
                        exchange.up.comes(now);
                        exchange.up.bytes.extend_from_slice(bytes);
                        exchange.up.end |= end;
                    }
                    // Nobody wants it any more.
                    _ => self.connection.consumed(stream, u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
                }
            }
            Event::Trailers { stream } => {
                let trailers = self.connection.fields().clone();
                if let Some(exchange) = self.exchanges.get_mut(&stream) {
                    exchange.up.comes(now);
                    exchange.up.trailers = Some(trailers);
                    exchange.up.end = true;
                }
            }
            Event::Reset { stream, .. } => self.left_by_client(stream),
            // All that it has sent before is there.
            Event::Pong(PARTING) if self.parting.take().is_some() => self.connection.leave(true),
            Event::Informational { .. } | Event::Window { .. } | Event::GoAway { .. } | Event::Pong(_) => {}
        }
    }

    fn nothing_yet(&self, now: Instant) -> Exchange {
        Exchange {
            name: String::new(),
            service: None,
            head: crate::h2::Fields::default(),
            response: crate::http1::Edits::default(),
            grpc: is_grpc(self.connection.fields()),
            bodyless: self.connection.fields().get(b":method") == Some(b"HEAD"),
            began: now,
            limit: None,
            pick: None,
            avoid: Vec::new(),
            tries: Tries::default(),
            there: None,
            up: Flow::new(now),
            down: Flow::new(now),
            copies: Copies::default(),
            uploading: false,
            answered: false,
            informational: 0,
            call: Call::new(self.origin.counted(), now),
        }
    }

    /// The client does not want an answer any more.
    fn left_by_client(&mut self, stream: u32) {
        if let Some(exchange) = self.exchanges.get(&stream) {
            exchange.call.blame(Reason::ClientGone);
        }
        self.finish(stream);
    }

    /// What the head that was read last asks for, if somebody wants to know.
    fn asked_for(&self) -> Option<Box<Request>> {
        if !self.proxy.telemetry().is_watched() {
            return None;
        }
        let fields = self.connection.fields();
        let [method, path, host] = [b":method".as_slice(), b":path", b":authority"]
            .map(|name| String::from_utf8_lossy(fields.get(name).unwrap_or_default()));
        Some(Box::new(Request::new(2, &method, &path, &host)))
    }

    /// A request's head has come.
    fn begin(&mut self, stream: u32, end: bool, now: Instant) {
        self.proxy.count(|counts| counts.requests += 1);
        let mut exchange = self.nothing_yet(now);
        exchange.call.request = self.asked_for();
        if exchange.call.request.is_some() {
            exchange.call.peer = self.origin.inside().map(|inside| inside.who().into());
        }
        exchange.up.end = end;
        let Some(frontend) = self.proxy.find(self.to, &*self.origin) else {
            self.exchanges.insert(stream, exchange);
            let text = format!("nothing is served at {} any more", self.to);
            self.answer(stream, &Answer::new(503, text).because(Reason::NoRoute));
            return self.connection.leave(true);
        };
        exchange.call.asks(frontend.own);
        let whom = (self.to, self.origin.inside());
        let way = ask(&frontend, whom, self.connection.fields(), &mut self.proxy.dice.borrow_mut());
        match way {
            Way::Answer(answer) => {
                self.exchanges.insert(stream, exchange);
                self.answer(stream, &answer);
                if matches!(frontend.routing, Routing::Connections(_) | Routing::Refused) {
                    // The next connection is not read.
                    self.connection.leave(true);
                }
            }
            Way::To { service, share, rule, from, head } => {
                self.proxy.budget.borrow_mut().request(now);
                exchange.tries = Tries::of(rule, now);
                exchange.up.kept = exchange.tries.are_left().then(|| Kept::new(&self.keeping));
                exchange.name.clone_from(&frontend.name);
                exchange.service = Some(service);
                exchange.call.by(from);
                exchange.call.aims(service);
                exchange.response = share.response.clone();
                exchange.head = head;
                if !share.mirrors.is_empty() {
                    let whom = (&self.origin, exchange.call.subject(), rule);
                    let original = Original::Two(&exchange.head);
                    exchange.copies = self.proxy.mirror(&share.mirrors, whom, original, end);
                }
                self.exchanges.insert(stream, exchange);
                self.dispatch(stream);
            }
        }
    }

    /// Answers a request without a backend.
    pub(super) fn answer(&mut self, stream: u32, answer: &Answer) {
        self.leave_endpoint(stream);
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        self.proxy.count(|counts| counts.answered += 1);
        (exchange.pick, exchange.tries.waits) = (None, None);
        let (head, body) = own(answer, exchange.grpc);
        exchange.call.answers_itself(answer);
        exchange.call.answers_grpc(head.get(b"grpc-status"));
        let body = if exchange.bodyless { String::new() } else { body };
        // That the client is gone is told by itself.
        let _gone = self.connection.respond(stream, head.iter(), body.is_empty());
        if body.is_empty() {
            return self.finish(stream);
        }
        // What came of its body goes nowhere.
        let unwanted = u32::try_from(exchange.up.bytes.len()).unwrap_or(u32::MAX);
        self.connection.consumed(stream, unwanted);
        let now = self.proxy.reactor.now();
        exchange.up = Flow { done: true, ..Flow::new(now) };
        exchange.down = Flow { end: true, bytes: body.into_bytes(), ..Flow::new(now) };
        (exchange.answered, exchange.limit) = (true, None);
    }

    /// A request has taken longer than its route lets it.
    pub(super) fn too_late(&mut self, stream: u32, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        if exchange.answered {
            // The endpoint has answered in time; who is slow with the rest cannot be told.
            return self.abort(stream, Code::CANCEL);
        }
        let name = &exchange.name;
        let backend = exchange.there.and_then(|there| self.backends.get_mut(there.backend)?.as_mut());
        // What can be sent once more, and is there to its end, waits for the endpoint alone.
        let is_there = exchange.up.done || (exchange.up.end && exchange.up.kept.is_some());
        if !is_there && backend.as_ref().is_some_and(|backend| backend.is_open()) {
            // Nor whether it is the client or the endpoint that is slow with a request.
            let text = format!("{name}: the request did not come whole in the time that the route lets it");
            return self.answer(stream, &Answer::new(408, text));
        }
        // All who wait for one connection that is not there yet have one failure.
        let unreached = backend.filter(|backend| !backend.is_open());
        let counts = exchange.pick.as_ref().is_some_and(|pick| pick.counts(now));
        let known = unreached.is_some_and(|backend| {
            let known = backend.blamed;
            backend.blamed |= counts;
            known
        });
        if let Some(pick) = exchange.pick.as_ref().filter(|_| !known) {
            pick.went(Went::Badly(504, now.saturating_duration_since(exchange.began)), now);
        }
        let endpoint = exchange.pick.as_ref().map(|pick| pick.address());
        if !exchange.uploading && exchange.tries.spend(&self.proxy, now) {
            exchange.avoid.extend(endpoint);
            self.leave_endpoint(stream);
            return self.send_again(stream, true, now);
        }
        let endpoint = endpoint.map(|endpoint| format!("{endpoint} ")).unwrap_or_default();
        let text = format!("{name}: {endpoint}took longer than the route lets it");
        self.answer(stream, &Answer::new(504, text));
    }

    /// Ends a request whose answer cannot be completed.
    pub(super) fn abort(&mut self, stream: u32, code: Code) {
        if let Some(exchange) = self.exchanges.get(&stream) {
            exchange.call.blame(Reason::Cut);
        }
        self.connection.reset(stream, code);
        self.finish(stream);
    }
}
