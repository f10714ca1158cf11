//! How long what fails again and again waits: as a kubelet has it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// Waits by name, each twice as long as the one before.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    waits: BTreeMap<String, (Duration, Timestamp)>,
}

impl Default for Backoff {
    /// 10 seconds, up to 5 minutes; forgotten after twice as long.
    fn default() -> Self {
        Self { first: Duration::from_secs(10), longest: Duration::from_secs(300), waits: BTreeMap::new() }
    }
}

impl Backoff {
    /// The wait that `name` is in, and what is left of it, where the thing happened at `event`.
    pub(crate) fn wait(&self, name: &str, event: Timestamp, now: Timestamp) -> Option<(Duration, Duration)> {
        let (wait, updated) = self.waits.get(name)?;
        if self.is_over(*updated, event) {
            return None;
        }
        let left = wait.saturating_sub(since(event, now));
        (!left.is_zero()).then_some((*wait, left))
    }

    /// It is tried again: the next wait is longer.
    pub(crate) fn next(&mut self, name: &str, event: Timestamp, now: Timestamp) {
        let wait = match self.waits.get(name) {
            Some((wait, updated)) if !self.is_over(*updated, event) => (*wait * 2).min(self.longest),
            _ => self.first,
        };
        self.waits.insert(name.into(), (wait, now));
    }

    fn is_over(&self, updated: Timestamp, event: Timestamp) -> bool {
        since(updated, event) > self.longest * 2
    }
}

/// How long before `until` that was; nothing where it was not before.
pub(crate) fn since(from: Timestamp, until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_are_forgotten_after_ten() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut backoff = Backoff::default();
        assert_eq!(backoff.wait("a", at(0), at(0)), None, "the first time nobody waits");
        let mut waits = Vec::new();
        for second in 0..7 {
            backoff.next("a", at(second), at(second));
            waits.push(backoff.wait("a", at(second), at(second)).unwrap().0.as_secs());
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.wait("a", at(6), at(206)).unwrap().1.as_secs(), 100);
        assert_eq!(backoff.wait("a", at(6), at(306)), None);
        assert_eq!(backoff.wait("a", at(700), at(700)), None, "it ran for long enough");
        backoff.next("a", at(700), at(700));
        assert_eq!(backoff.wait("a", at(700), at(701)).unwrap().0.as_secs(), 10);
    }
}
