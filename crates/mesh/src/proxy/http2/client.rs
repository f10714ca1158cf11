//! What the client sends.

use std::task::Poll;
use std::time::{Duration, Instant};

use super::super::answer::Answer;
use super::exchange::{Exchange, Flow};
use super::head::{Way, ask, is_grpc, own};
use super::{Over, Session};
use crate::balance::Went;
use crate::h2::{Code, Event};

impl Session {
    /// Reads what came of the client; whether something did.
    pub(super) fn hear(&mut self, now: Instant) -> bool {
        if self.connection.is_full() {
            // Who does not take answers is not heard until it does.
            return false;
        }
        match self.client.poll_read(&mut self.buffer) {
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(_) => {
                self.over = Some(Over::Gone);
                return true;
            }
            Poll::Pending => return false,
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        // What ends the connection is in its output; what has begun ends with it.
        while let Ok((used @ 1.., event)) = self.connection.receive(now, buffer.data()) {
            if let Some(event) = event {
                self.told(event, now);
            }
            buffer.consume(used);
        }
        if self.connection.has_failed() {
            buffer.consume(buffer.data().len());
            let streams: Vec<u32> = self.exchanges.keys().copied().collect();
            streams.into_iter().for_each(|stream| self.finish(stream));
        }
        self.buffer = buffer;
        true
    }

    fn told(&mut self, event: Event<'_>, now: Instant) {
        match event {
            Event::Head { stream, end } => self.begin(stream, end, now),
            Event::TooLarge { stream } => {
                self.exchanges.insert(stream, self.nothing_yet(now));
                let text = format!("its head is larger than {} bytes", self.limits.fields.size);
                self.answer(stream, &Answer::new(431, format!("the request is refused: {text}")));
            }
            Event::Data { stream, bytes, end } => {
                match self.exchanges.get_mut(&stream) {
                    Some(exchange) if exchange.there.is_some() || !exchange.answered => {
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
                    exchange.up.trailers = Some(trailers);
                    exchange.up.end = true;
                }
            }
            Event::Reset { stream, .. } => self.finish(stream),
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
            tries: 0,
            there: None,
            up: Flow::default(),
            down: Flow::default(),
            uploading: false,
            answered: false,
        }
    }

    /// A request's head has come.
    fn begin(&mut self, stream: u32, end: bool, now: Instant) {
        self.proxy.count(|counts| counts.requests += 1);
        let mut exchange = self.nothing_yet(now);
        exchange.up.end = end;
        let Some(frontend) = self.proxy.find(self.to, self.origin.namespace()) else {
            self.exchanges.insert(stream, exchange);
            let text = format!("nothing is served at {} any more", self.to);
            return self.answer(stream, &Answer::new(503, text));
        };
        let way = ask(&frontend, self.to, self.connection.fields(), &mut self.proxy.dice.borrow_mut());
        match way {
            Way::Answer(answer) => {
                self.exchanges.insert(stream, exchange);
                self.answer(stream, &answer);
            }
            Way::To { service, share, rule, head } => {
                self.proxy.budget.borrow_mut().request(now);
                let times = rule.map_or([None; 2], |rule| [rule.request, rule.backend]);
                exchange.limit = times.into_iter().flatten().min().map(|time: Duration| now + time);
                exchange.name.clone_from(&frontend.name);
                exchange.service = Some(service);
                exchange.response = share.response.clone();
                exchange.head = head;
                self.exchanges.insert(stream, exchange);
                self.dispatch(stream);
            }
        }
    }

    /// Answers a request without a backend.
    pub(super) fn answer(&mut self, stream: u32, answer: &Answer) {
        let Some(mut exchange) = self.exchanges.remove(&stream) else { return };
        self.proxy.count(|counts| counts.answered += 1);
        self.leave_backend(&mut exchange);
        exchange.pick = None;
        let (head, body) = own(answer, exchange.grpc);
        let body = if exchange.bodyless { String::new() } else { body };
        // That the client is gone is told by itself.
        let _gone = self.connection.respond(stream, head.iter(), body.is_empty());
        if body.is_empty() {
            return self.connection.release(stream);
        }
        // What came of its body goes nowhere.
        let unwanted = u32::try_from(exchange.up.bytes.len()).unwrap_or(u32::MAX);
        self.connection.consumed(stream, unwanted);
        exchange.up = Flow { done: true, ..Flow::default() };
        exchange.down = Flow { done: false, end: true, bytes: body.into_bytes(), trailers: None };
        (exchange.answered, exchange.limit) = (true, None);
        self.exchanges.insert(stream, exchange);
    }

    /// A request has taken longer than its route lets it.
    pub(super) fn too_late(&mut self, stream: u32, now: Instant) {
        let Some(exchange) = self.exchanges.get(&stream) else { return };
        if let Some(pick) = &exchange.pick {
            pick.went(Went::Badly(504, now.saturating_duration_since(exchange.began)), now);
        }
        if exchange.answered {
            return self.abort(stream, Code::CANCEL);
        }
        let endpoint = exchange.pick.as_ref().map(|pick| format!("{} ", pick.address())).unwrap_or_default();
        let text = format!("{}: {endpoint}took longer than the route lets it", exchange.name);
        self.answer(stream, &Answer::new(504, text));
    }

    /// Ends a request whose answer cannot be completed.
    pub(super) fn abort(&mut self, stream: u32, code: Code) {
        self.connection.reset(stream, code);
        self.finish(stream);
    }
}
