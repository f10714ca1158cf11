//! How much is said in how little time: a node that takes over the addresses of another has more to say than the queue of a card holds.

use std::time::{Duration, Instant};

/// As many addresses are asked for, or said to be here, at once: three frames each.
pub(crate) const BURST: usize = 64;
/// And as many more after that.
pub(crate) const PAUSE: Duration = Duration::from_millis(4);

/// Counts what was said a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When more may be said, and how much was until then.
    turn: Option<(Instant, usize)>,
}

impl Pace {
    /// Whether one more address is to be spoken of now; then it is counted.
    pub(crate) fn affords(&mut self, now: Instant) -> bool {
        match &mut self.turn {
            Some((until, count)) if *until > now => {
                let is_free = *count < BURST;
                *count += usize::from(is_free);
                is_free
            }
            turn => {
                *turn = Some((now + PAUSE, 1));
                true
            }
        }
    }

    /// When that may be done which is due at `due`.
    pub(crate) fn not_before(&self, due: Instant) -> Instant {
        self.turn.filter(|(_, count)| *count >= BURST).map_or(due, |(until, _)| due.max(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_as_many_after_a_pause() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for at in [now, now + PAUSE, now + PAUSE * 7] {
            assert_eq!((0..BURST * 2).filter(|_| pace.affords(at)).count(), BURST);
            assert_eq!(pace.not_before(at), at + PAUSE);
            assert_eq!(pace.not_before(at + PAUSE * 2), at + PAUSE * 2);
        }
        assert!(pace.affords(now + PAUSE * 9));
        assert_eq!(pace.not_before(now), now, "there is room");
    }
}
