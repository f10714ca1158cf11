//! How much an endpoint has to do.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How fast a latency of the past is forgotten: to a third in this time.
const DECAY: Duration = Duration::from_secs(10);
/// No latency is taken to be less, in seconds: what was not asked for hours would have none at last, whatever it has to do, and nobody beside
/// it would be asked.
const LEAST: f64 = 1e-5;
/// What nothing is known of is taken to have.
const UNKNOWN: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct Load {
    /// Seconds.
    pub(super) latency: Cell<f64>,
    seen: Cell<Instant>,
    known: Cell<bool>,
    in_flight: Cell<u32>,
}

impl Load {
    pub(super) fn new(average: Option<Duration>, now: Instant) -> Self {
        Self {
            latency: Cell::new(average.unwrap_or(UNKNOWN).as_secs_f64()),
            seen: Cell::new(now),
            known: Cell::new(false),
            in_flight: Cell::new(0),
        }
    }

    pub(super) fn begin(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    pub(super) fn end(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
    }

    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// What is known of its latency.
    pub(super) fn latency(&self) -> Option<Duration> {
        self.known.get().then(|| Duration::from_secs_f64(self.latency.get()))
    }

    /// A latency that was seen: more than the average is the average from now on, less draws it down.
    pub(super) fn observe(&self, took: Duration, now: Instant) {
        let (before, kept, took) = (self.latency.get(), self.kept(now), took.as_secs_f64());
        let latency = if !self.known.get() || took > before * kept {
            took
        } else {
            before * kept + took * (1.0 - kept)
        };
        self.latency.set(latency);
        self.seen.set(now);
        self.known.set(true);
    }

    /// The load. What was not asked for long is taken to have become faster, or nobody would ever see that it has.
    pub(super) fn at(&self, now: Instant) -> f64 {
        (self.latency.get() * self.kept(now)).max(LEAST) * (f64::from(self.in_flight.get()) + 1.0)
    }

    fn kept(&self, now: Instant) -> f64 {
        (-now.saturating_duration_since(self.seen.get()).as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}
