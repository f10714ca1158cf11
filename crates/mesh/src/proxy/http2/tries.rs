//! How often, and for how long, a request is tried.

use std::time::{Duration, Instant};

use super::super::Proxy;
use super::super::forward::BACKOFF;
use super::super::rules::Rule;

/// What may still be tried of a request, as its rule says.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Answers with one of these are tried again.
    codes: Vec<u16>,
    /// So many times.
    left: u32,
    /// So often another connection was asked where one did not look at it.
    pub(super) others: u32,
    /// The time before the next of them.
    backoff: Duration,
    /// When the time for all of them is over.
    whole: Option<Instant>,
    /// How long each may take.
    one: Option<Duration>,
    /// When it is sent once more, if that has to wait.
    pub(super) waits: Option<Instant>,
}

impl Tries {
    /// Of a request that comes now.
    pub(super) fn of(rule: Option<&Rule>, now: Instant) -> Self {
        let Some(rule) = rule else { return Self::default() };
        let retry = rule.retry.as_ref();
        Self {
            codes: retry.map(|retry| retry.codes.clone()).unwrap_or_default(),
            left: retry.map_or(0, |retry| retry.attempts),
            others: 0,
            backoff: Duration::from_millis(retry.and_then(|retry| retry.backoff_ms).unwrap_or(0))
                .min(BACKOFF),
            whole: rule.request.map(|time| now + time),
            one: rule.backend,
            waits: None,
        }
    }

    /// Whether there is another try if this one fails.
    pub(super) fn are_left(&self) -> bool {
        self.left > 0
    }

    /// Whether an answer with this status is one that is tried again.
    pub(super) fn names(&self, status: u16) -> bool {
        self.codes.contains(&status)
    }

    /// Takes another try, if there is one, and the time and the budget for it.
    pub(super) fn spend(&mut self, proxy: &Proxy, now: Instant) -> bool {
        let fits = self.whole.is_none_or(|whole| now + self.backoff < whole);
        if self.left == 0 || !fits || !proxy.budget.borrow_mut().retry(now) {
            return false;
        }
        self.left -= 1;
        true
    }

    /// When the try that begins now is late.
    pub(super) fn limit(&self, now: Instant) -> Option<Instant> {
        [self.whole, self.one.map(|one| now + one)].into_iter().flatten().min()
    }

    /// When all of them are.
    pub(super) fn end(&self) -> Option<Instant> {
        self.whole
    }

    /// Has the next one wait, twice as long each time; whether there is anything to wait for.
    pub(super) fn back_off(&mut self, now: Instant) -> bool {
        if self.backoff.is_zero() {
            return false;
        }
        self.waits = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(BACKOFF);
        true
    }
}
