//! What may take how long.

use std::task::Poll;
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::endpoints::Lost;
use super::exchange::{Exchange, There};
use super::{Over, Session};
use crate::h2::Code;
use crate::telemetry::Reason;

/// How long the client of a proxy that is drained may take to answer, until nothing more is taken of it.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(1);
/// What it answers.
pub(super) const PARTING: [u8; 8] = *b"the last";

/// What of a request does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// The client takes nothing more of the answer.
    Taking,
    /// The endpoint takes nothing more of the request.
    Sending,
    /// The endpoint sends nothing more of an answer whose length it has told.
    Answering,
}

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
        let requests = self.exchanges.values().flat_map(|exchange| [exchange.limit, exchange.tries.waits]);
        let bodies = self.exchanges.values().filter_map(|exchange| Some(self.rest(exchange)?.0));
        let backends = self.backends.iter().flatten();
        let backends =
            backends.flat_map(|backend| [self.idle_limit(backend), self.frame_limit(backend)]).flatten();
        let own = [self.client_limit(), self.quiet_limit(), self.parting];
        requests.flatten().chain(bodies).chain(backends).chain(own.into_iter().flatten()).min()
    }

    /// What of a request waits until the other side does something, and how long it may. A call in which nobody says anything does not, nor
    /// what waits for a connection: that has its own time.
    pub(super) fn rest(&self, exchange: &Exchange) -> Option<(Instant, Rest)> {
        let (up, down, stall) = (&exchange.up, &exchange.down, self.proxy.settings.stall);
        if down.waits() {
            return Some((down.moved + stall, Rest::Taking));
        }
        let There { backend, stream } = exchange.there?;
        let backend = self.backends.get(backend)?.as_ref().filter(|backend| backend.is_open())?;
        let sending = up.waits().then(|| (up.moved + stall, Rest::Sending));
        // While the client has too much to take nothing is read, and what takes more of the request may need all of it.
        let answering = backend.connection.lacks(stream).then(|| {
            let since = down.moved.max(up.moved).max(backend.paused);
            (since + stall, Rest::Answering)
        });
        [sending, answering].into_iter().flatten().min_by_key(|(limit, _)| *limit)
    }

    /// How long an endpoint may take for a frame, or a block of headers, that it has begun.
    pub(super) fn frame_limit(&self, backend: &Backend) -> Option<Instant> {
        Some(backend.within? + self.proxy.settings.stall)
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
        for stream in self.those(|exchange| is_past(exchange.tries.waits)) {
            self.dispatch(stream);
        }
        for stream in self.those(|exchange| is_past(self.rest(exchange).map(|(limit, _)| limit))) {
            self.rests(stream);
        }
        for place in 0..self.backends.len() {
            let Some(backend) = self.backends.get(place).and_then(Option::as_ref) else { continue };
            let broken = is_past(self.frame_limit(backend));
            if !broken && !is_past(self.idle_limit(backend)) {
                continue;
            }
            let Some(backend) = self.backends.get_mut(place).and_then(Option::take) else { continue };
            if broken {
                self.lost_all(&backend, Lost::Broken(&"a frame that does not end"));
            }
            backend.end();
        }
    }

    fn those(&self, are: impl Fn(&Exchange) -> bool) -> Vec<u32> {
        self.exchanges.iter().filter(|(_, exchange)| are(exchange)).map(|(stream, _)| *stream).collect()
    }

    /// A request has rested for too long.
    fn rests(&mut self, stream: u32) {
        let Some(exchange) = self.exchanges.get(&stream) else { return };
        let Some((_, rest)) = self.rest(exchange) else { return };
        let (lost, theirs) = match rest {
            Rest::Taking => {
                exchange.call.blame(Reason::ClientGone);
                return self.abort(stream, Code::CANCEL);
            }
            // Who has begun to answer may have its reason not to take the rest.
            Rest::Sending => (Lost::Stuck, !exchange.answered),
            // Nor who may need the rest of the request for that of its answer.
            Rest::Answering => (Lost::Broken(&"it stops before its end"), exchange.up.done),
        };
        let place = exchange.there.map(|there| there.backend);
        // What stops on one connection is one failure, until something comes of it again.
        let known = self.backend(place).is_some_and(|backend| backend.blamed);
        self.leave_endpoint(stream);
        let blamed = self.lost(stream, lost, theirs && !known);
        if let Some(backend) = self.backend(place).filter(|_| theirs) {
            backend.silent = true;
            backend.blamed |= blamed;
        }
    }

    fn backend(&mut self, place: Option<usize>) -> Option<&mut Backend> {
        self.backends.get_mut(place?)?.as_mut()
    }
}
