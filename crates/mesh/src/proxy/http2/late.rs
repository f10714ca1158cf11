//! What may take how long.

use std::task::Poll;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::endpoints::Lost;
use super::exchange::Exchange;
use super::{Over, Session};
use crate::h2::Code;

/// How long the client of a proxy that is drained may take to answer, until nothing more is taken of it.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(1);
/// What it answers.
pub(super) const PARTING: [u8; 8] = *b"the last";

impl Session {
    /// The proxy is drained: the client is told to ask elsewhere, and a round trip later, when all that it has sent before is there, which of
    /// its requests was the last that is answered.
    pub(super) fn part(&mut self, now: Instant) {
        if !self.connection.is_leaving() {
            self.connection.leave(false);
            self.connection.ping(PARTING);
            self.parting = Some(now + ROUND_TRIP);
        }
    }

    /// Whether the client has begun something. What waits since its answers are too many is not its to end.
    pub(super) fn note_input(&mut self, now: Instant) {
        let begun = self.connection.is_within_head() || !self.buffer.is_empty();
        self.within = if begun && !self.connection.is_full() { self.within.or(Some(now)) } else { None };
    }

    /// Whether the client takes what there is for it, of which it has taken `some`.
    pub(super) fn note_output(&mut self, some: bool, now: Instant) {
        self.untaken = match self.untaken {
            _ if self.connection.output().is_empty() => None,
            Some(since) if !some => Some(since),
            _ => Some(now),
        };
    }

    /// Nothing can be done until something comes, or is late.
    pub(super) fn wait(&mut self, now: Instant) -> Poll<()> {
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
        let requests = self.exchanges.values().filter_map(|exchange| exchange.limit);
        let bodies = self.exchanges.values().filter_map(|exchange| self.rest_limit(exchange));
        let backends = self.backends.iter().flatten().filter_map(|backend| self.idle_limit(backend));
        let own = [self.client_limit(), self.quiet_limit(), self.parting];
        requests.chain(bodies).chain(backends).chain(own.into_iter().flatten()).min()
    }

    /// How long what waits of a request may rest.
    fn rest_limit(&self, exchange: &Exchange) -> Option<Instant> {
        exchange.rests().then(|| exchange.moved + self.proxy.settings.stall)
    }

    /// How long a connection to an endpoint is kept without a request.
    fn idle_limit(&self, backend: &Backend) -> Option<Instant> {
        backend.streams.is_empty().then(|| backend.idle + self.proxy.settings.pool_idle)
    }

    /// How long the client may take for what it has begun, and to take what there is for it.
    pub(super) fn client_limit(&self) -> Option<Instant> {
        let settings = &self.proxy.settings;
        let head = self.within.map(|since| since + settings.head);
        let output = self.untaken.map(|since| since + settings.stall);
        [head, output].into_iter().flatten().min()
    }

    /// How long it may ask nothing.
    fn quiet_limit(&self) -> Option<Instant> {
        let is_quiet = self.exchanges.is_empty() && self.within.is_none() && self.untaken.is_none();
        is_quiet.then(|| self.quiet + self.proxy.settings.idle)
    }

    /// Ends what is late.
    fn late(&mut self, now: Instant) {
        let is_past = |limit: Option<Instant>| limit.is_some_and(|limit| limit <= now);
        if is_past(self.client_limit()) {
            self.over = Some(Over::Stalled);
            return;
        }
        if is_past(self.parting) || is_past(self.quiet_limit()) {
            self.parting = None;
            self.connection.leave(true);
        }
        for stream in self.those(|exchange| is_past(exchange.limit)) {
            self.too_late(stream, now);
        }
        for stream in self.those(|exchange| is_past(self.rest_limit(exchange))) {
            self.rests(stream);
        }
        for place in 0..self.backends.len() {
            let backend = self.backends.get(place).and_then(Option::as_ref);
            if is_past(backend.and_then(|backend| self.idle_limit(backend)))
                && let Some(backend) = self.backends.get_mut(place).and_then(Option::take)
            {
                backend.end();
            }
        }
    }

    fn those(&self, are: impl Fn(&Exchange) -> bool) -> Vec<u32> {
        self.exchanges.iter().filter(|(_, exchange)| are(exchange)).map(|(stream, _)| *stream).collect()
    }

    /// Nothing of what waits of a request was taken for too long.
    fn rests(&mut self, stream: u32) {
        let Some(exchange) = self.exchanges.get(&stream) else { return };
        if exchange.down.waits() {
            // The client does not take its answer.
            return self.abort(stream, Code::CANCEL);
        }
        // Who has begun to answer may have its reason not to take the rest.
        let blame = !exchange.answered;
        self.leave_endpoint(stream);
        self.lost(stream, Lost::Stuck, blame);
    }
}
