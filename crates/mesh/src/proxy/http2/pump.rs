//! Bodies, on their way from one side to the other.

use std::ops::Bound;
use std::time::Instant;

use super::exchange::{Exchange, There};
use super::{Backend, Session};

impl Session {
    /// Passes on what waits and what windows let. Each request has its turn with a frame, behind the one that had it last: one whose body is
    /// long would take all the room there is as often as there is some.
    pub(super) fn pump(&mut self, now: Instant) {
        let waits = |it: &Exchange| it.up.waits() || it.down.waits() || it.down.done;
        let behind = self.exchanges.range((Bound::Excluded(self.served), Bound::Unbounded));
        let all = behind.chain(self.exchanges.range(..=self.served));
        let mut streams: Vec<u32> = all.filter(|(_, it)| waits(it)).map(|(n, _)| *n).collect();
        while !streams.is_empty() {
            streams.retain(|stream| {
                let moved = self.pump_up(*stream, now) | self.pump_down(*stream, now);
                if moved {
                    self.served = *stream;
                }
                moved
            });
        }
    }

    /// The next frame of a request; whether something was passed on.
    fn pump_up(&mut self, stream: u32, now: Instant) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&stream).filter(|exchange| exchange.up.waits()) else {
            return false;
        };
        let backend = there(&mut self.backends, exchange.there).filter(|(backend, _)| backend.takes_bodies());
        let Some((backend, theirs)) = backend else { return false };
        let flow = &mut exchange.up;
        let (piece, last) = flow.piece();
        let sent = backend.connection.data(theirs, piece, last);
        if sent.is_err() {
            // Who takes no more of it may have answered: the rest goes nowhere, and nobody else gets the beginning alone.
            (flow.kept, exchange.uploading) = (None, true);
        }
        let count = sent.unwrap_or(flow.bytes.len());
        exchange.call.sent(count);
        match flow.kept.as_mut().filter(|kept| !kept.rest().is_empty()) {
            // The client has got its window back for it, and the copies have it.
            Some(kept) => kept.passed(count),
            None => {
                let passed = flow.bytes.get(..count).unwrap_or_default();
                exchange.copies.push(passed);
                if count > 0 && !flow.kept.as_mut().is_some_and(|kept| kept.push(passed)) {
                    (flow.kept, exchange.uploading) = (None, true);
                }
                flow.passed(count);
                self.connection.consumed(stream, u32::try_from(count).unwrap_or(u32::MAX));
            }
        }
        if flow.is_through() {
            exchange.copies.end(flow.trailers.as_ref());
            if let Some(trailers) = &flow.trailers {
                let _gone = backend.connection.trailers(theirs, trailers.iter());
                let size = trailers.size();
                if !flow.kept.as_mut().is_some_and(|kept| kept.ends(size)) {
                    (flow.kept, flow.trailers, exchange.uploading) = (None, None, true);
                }
            }
            flow.done = true;
        }
        if exchange.answered {
            flow.forget();
        }
        let moved = count > 0 || flow.done;
        if moved {
            flow.moved = now;
        }
        moved
    }

    /// The next frame of an answer, or its end; whether something was passed on.
    fn pump_down(&mut self, stream: u32, now: Instant) -> bool {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return false };
        let flow = &mut exchange.down;
        let mut moved = false;
        if flow.waits() {
            let (piece, last) = flow.piece();
            let Ok(count) = self.connection.data(stream, piece, last) else { return false };
            flow.passed(count);
            exchange.call.received(count);
            if let Some((backend, theirs)) = there(&mut self.backends, exchange.there) {
                backend.connection.consumed(theirs, u32::try_from(count).unwrap_or(u32::MAX));
            }
            if flow.bytes.is_empty() && flow.end {
                if let Some(trailers) = flow.trailers.take() {
                    let _gone = self.connection.trailers(stream, trailers.iter());
                }
                flow.done = true;
            }
            moved = count > 0 || flow.done;
            if moved {
                // Whose answer waits for the client may have to wait with taking the request: that is no time of its own.
                let waited = now.saturating_duration_since(flow.moved);
                flow.moved = now;
                exchange.up.moved = (exchange.up.moved + waited).min(now);
            }
        }
        if exchange.down.done {
            self.finish(stream);
        }
        moved
    }
}

/// The endpoint's side of a request.
fn there(backends: &mut [Option<Backend>], there: Option<There>) -> Option<(&mut Backend, u32)> {
    let There { backend, stream } = there?;
    Some((backends.get_mut(backend)?.as_mut()?, stream))
}
