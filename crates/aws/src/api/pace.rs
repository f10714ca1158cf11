//! How fast a service is asked, so that a cluster does not use up what its account may ask.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A bucket of tokens, one for each request: it is full at first, and filled again steadily.
#[derive(Debug)]
pub(crate) struct Pace {
    most: f64,
    a_second: f64,
    held: Mutex<(f64, Instant)>,
}

impl Pace {
    /// `most` requests at once, then so many a second.
    pub(crate) fn new(most: u32, a_second: u32) -> Self {
        Self { most: most.into(), a_second: a_second.into(), held: Mutex::new((most.into(), Instant::now())) }
    }

    /// Waits until one may be sent. Those who wait are served in turn: each takes its token at once, and waits until it is there.
    pub(crate) async fn take(&self) {
        let wait = self.owe(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn owe(&self, now: Instant) -> Duration {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = *held;
        let grown = now.saturating_duration_since(since).as_secs_f64() * self.a_second;
        let left = (tokens + grown).min(self.most) - 1.0;
        *held = (left, now.max(since));
        if left >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-left / self.a_second) }
    }

    /// After a service has said that it was asked too much: what was saved up is gone.
    pub(crate) fn drain(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.0 = held.0.min(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_steadily() {
        let pace = Pace::new(3, 10);
        let now = Instant::now();
        let waits: Vec<u128> = (0..5).map(|_| pace.owe(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        assert_eq!(pace.owe(now + Duration::from_millis(300)).as_millis(), 0);
        assert_eq!(pace.owe(now + Duration::from_secs(60)).as_millis(), 0);
        pace.drain();
        assert_eq!(pace.owe(now + Duration::from_secs(60)).as_millis(), 100);
    }
}
