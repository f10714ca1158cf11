//! Endpoints that do nothing but fail.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// When an endpoint is left out, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// After so many answers of 500 and more in a row. 0 is never.
    pub bad_answers: u32,
    /// After so many times without a connection or an answer in a row. 0 is never.
    pub no_answers: u32,
    /// For so long the first time; twice as long each time that it fails again before it has been well.
    pub base: Duration,
    /// For so long at most.
    pub most: Duration,
    /// So many of a hundred endpoints at a time; the share is rounded down, so of one endpoint none is left out unless this is 100.
    pub share: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            bad_answers: 5,
            no_answers: 3,
            base: Duration::from_secs(10),
            most: Duration::from_secs(300),
            share: 50,
        }
    }
}

impl Ejection {
    /// Whether one more may be left out.
    pub(super) fn allows(&self, out: usize, all: usize) -> bool {
        let share = usize::try_from(self.share).unwrap_or(usize::MAX);
        (out + 1).saturating_mul(100) <= all.saturating_mul(share)
    }
}

/// How an endpoint has been doing.
#[derive(Debug, Default)]
pub(super) struct Record {
    bad_answers: Cell<u32>,
    no_answers: Cell<u32>,
    times: Cell<u32>,
    /// So often it was left out since it is known.
    ejections: Cell<u32>,
    until: Cell<Option<Instant>>,
}

impl Record {
    pub(super) fn well(&self) {
        self.begin_anew();
        self.times.set(0);
    }

    /// Whether that is once too often.
    pub(super) fn badly(&self, ejection: &Ejection) -> bool {
        self.no_answers.set(0);
        once_more(&self.bad_answers, ejection.bad_answers)
    }

    /// Whether that is once too often.
    pub(super) fn not_at_all(&self, ejection: &Ejection) -> bool {
        once_more(&self.no_answers, ejection.no_answers)
    }

    pub(super) fn leave_out(&self, ejection: &Ejection, now: Instant) {
        let factor = 1_u32.checked_shl(self.times.get()).unwrap_or(u32::MAX);
        self.until.set(Some(now + ejection.base.saturating_mul(factor).min(ejection.most)));
        self.times.set(self.times.get() + 1);
        self.ejections.set(self.ejections.get().wrapping_add(1));
    }

    /// How often it was left out: what was asked of it before the last time says nothing about it after that.
    pub(super) fn ejections(&self) -> u32 {
        self.ejections.get()
    }

    /// It has to fail as often again: when it is back, or when there is room for one more that is left out.
    pub(super) fn begin_anew(&self) {
        self.bad_answers.set(0);
        self.no_answers.set(0);
    }

    pub(super) fn out_until(&self, now: Instant) -> Option<Instant> {
        self.until.get().filter(|until| now < *until)
    }

    pub(super) fn is_out(&self, now: Instant) -> bool {
        self.out_until(now).is_some()
    }
}

fn once_more(count: &Cell<u32>, most: u32) -> bool {
    count.set(count.get().saturating_add(1));
    most != 0 && count.get() >= most
}
