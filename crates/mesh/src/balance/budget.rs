//! How much may be asked again.

use std::time::Instant;

/// So many seconds are looked back on.
const WINDOW: usize = 10;

/// A share of the requests of the last ten seconds: what is beyond it is not tried again, so that those who try again do not keep down who
/// cannot answer.
#[derive(Debug)]
pub struct Budget {
    seconds: [(u32, u32); WINDOW],
    /// The second that is counted now, since `began`.
    second: u64,
    began: Instant,
    requests: u32,
    retries: u32,
    percent: u32,
    least: u32,
}

impl Budget {
    /// So many of a hundred requests may be tried again, and `least` in ten seconds in any case.
    #[must_use]
    pub fn new(percent: u32, least: u32, now: Instant) -> Self {
        Self { seconds: [(0, 0); WINDOW], second: 0, began: now, requests: 0, retries: 0, percent, least }
    }

    /// Counts a request, retries not among them.
    pub fn request(&mut self, now: Instant) {
        if let Some((requests, _)) = self.turn(now) {
            *requests = requests.saturating_add(1);
            self.requests = self.requests.saturating_add(1);
        }
    }

    /// Whether something may be tried again now; if so it is counted.
    pub fn retry(&mut self, now: Instant) -> bool {
        self.turn(now);
        let share = u64::from(self.requests) * u64::from(self.percent) / 100;
        if u64::from(self.retries) >= share.max(u64::from(self.least)) {
            return false;
        }
        if let Some((_, retries)) = self.turn(now) {
            *retries += 1;
            self.retries += 1;
        }
        true
    }

    /// Forgets the seconds that are too long ago, and gives what this one has.
    fn turn(&mut self, now: Instant) -> Option<&mut (u32, u32)> {
        let second = now.saturating_duration_since(self.began).as_secs().max(self.second);
        let gone = second - self.second;
        for n in 1..=gone.min(WINDOW as u64) {
            if let Some(place) = self.seconds.get_mut(place(self.second + n)) {
                self.requests = self.requests.saturating_sub(place.0);
                self.retries = self.retries.saturating_sub(place.1);
                *place = (0, 0);
            }
        }
        self.second = second;
        self.seconds.get_mut(place(second))
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % WINDOW as u64).unwrap_or_default()
}

/// The default: one of five, and a hundred in ten seconds in any case.
impl Default for Budget {
    fn default() -> Self {
        Self::new(20, 100, Instant::now())
    }
}
