//! Latencies, in little memory, that can be summed up over processes and asked for their quantiles.
//!
//! A latency falls into one of sixteen equal parts of its power of two, in microseconds: it is known to one part in sixteen, over all lengths
//! there are. Below 32 us it is known exactly.

use std::time::Duration;

/// So many parts has each power of two, and what comes below the first that has so many.
pub const PARTS: usize = 16;
/// What is longer than 71 minutes (2^32 us) is in the last part.
pub const OCTAVES: usize = 29;
/// So many parts are there.
pub const PLACES: usize = PARTS * OCTAVES;

/// The part that a number of microseconds is in; always less than [`PLACES`].
#[must_use]
pub fn place(micros: u64) -> usize {
    // 16 and more have a power of two that is at least the fourth.
    let Some(power) = micros.checked_ilog2().filter(|power| *power >= 4) else {
        return usize::try_from(micros).unwrap_or_default();
    };
    let part = usize::try_from(micros >> (power - 4)).unwrap_or(usize::MAX) % PARTS;
    let octave = usize::try_from(power - 3).unwrap_or(usize::MAX);
    if octave < OCTAVES { octave * PARTS + part } else { PLACES - 1 }
}

/// The least number of microseconds that is in a part.
fn least(place: usize) -> u64 {
    let (octave, part) = (place / PARTS, (place % PARTS) as u64);
    match octave.checked_sub(1) {
        Some(shift) => (PARTS as u64 + part) << shift,
        None => part,
    }
}

/// How long things took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Parts with something in them, in order.
    parts: Vec<(usize, u64)>,
    micros: u64,
}

impl Histogram {
    /// Of parts and their counts, and the sum of all in microseconds, as [`Self::parts`] and [`Self::micros`] give them. What is no part
    /// is left out.
    #[must_use]
    pub fn of(parts: impl IntoIterator<Item = (usize, u64)>, micros: u64) -> Self {
        let mut histogram = Self { parts: Vec::new(), micros };
        let parts = parts.into_iter().filter(|(place, count)| *place < PLACES && *count > 0);
        parts.for_each(|(place, count)| histogram.add(place, count));
        histogram
    }

    /// Each part with something in it, by number, and how often.
    #[must_use]
    pub fn parts(&self) -> &[(usize, u64)] {
        &self.parts
    }

    /// The sum of all in microseconds.
    #[must_use]
    pub fn micros(&self) -> u64 {
        self.micros
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.parts.iter().fold(0_u64, |all, (_, count)| all.saturating_add(*count))
    }

    fn add(&mut self, place: usize, count: u64) {
        match self.parts.binary_search_by_key(&place, |(known, _)| *known) {
            Ok(at) => {
                if let Some((_, known)) = self.parts.get_mut(at) {
                    *known = known.saturating_add(count);
                }
            }
            Err(at) => self.parts.insert(at, (place, count)),
        }
    }

    /// Takes another's to its own.
    pub fn merge(&mut self, other: &Self) {
        other.parts.iter().for_each(|(place, count)| self.add(*place, *count));
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// What came since an earlier look at the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let then = |place: usize| {
            let at = before.parts.binary_search_by_key(&place, |(known, _)| *known).ok();
            at.and_then(|at| before.parts.get(at)).map_or(0, |(_, count)| *count)
        };
        let parts = self.parts.iter().map(|(place, count)| (*place, count.saturating_sub(then(*place))));
        let parts = parts.filter(|(_, count)| *count > 0).collect();
        Self { parts, micros: self.micros.saturating_sub(before.micros) }
    }

    /// The latency that this share of all is not above, 0.5 for the median: the middle of the part that it is in. `None` of nothing.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        // Shares are between 0 and 1, so no more than there are, and counts are far below 2^52.
        let rank = ((share * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0_u64;
        let (place, _) = self.parts.iter().find(|(_, count)| {
            seen = seen.saturating_add(*count);
            seen >= rank
        })?;
        let (from, to) = (least(*place), least(*place + 1));
        Some(Duration::from_micros(from + (to - from) / 2))
    }

    /// How many took less than so many microseconds, where that is a power of two.
    #[must_use]
    pub fn below(&self, micros: u64) -> u64 {
        let end = place(micros);
        let parts = self.parts.iter().take_while(|(place, _)| *place < end);
        parts.fold(0_u64, |all, (_, count)| all.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn histogram(all: &[u64]) -> Histogram {
        Histogram::of(all.iter().map(|micros| (place(*micros), 1)), all.iter().sum())
    }

    #[test]
    fn parts_follow_each_other_without_a_gap() {
        assert_eq!(least(0), 0);
        for number in 0..PLACES {
            assert!(least(number) < least(number + 1), "{number}");
            assert_eq!(place(least(number)), number);
            assert_eq!(place(least(number + 1) - 1), number);
        }
        assert_eq!(place(u64::MAX), PLACES - 1);
        assert_eq!(least(PLACES), 1 << 32);
    }

    #[test]
    fn nothing_has_no_quantile() {
        let none = Histogram::default();
        assert_eq!((none.quantile(0.5), none.count(), none.below(1 << 20)), (None, 0, 0));
    }

    #[test]
    fn what_others_have_counted_can_be_anything() {
        let mut much = Histogram::of([(PLACES - 1, u64::MAX), (0, u64::MAX), (PLACES, 1)], u64::MAX);
        much.merge(&much.clone());
        assert_eq!((much.count(), much.micros(), much.below(1)), (u64::MAX, u64::MAX, u64::MAX));
        assert_eq!(much.quantile(0.5), Some(Duration::ZERO));
        assert_eq!(much.parts().len(), 2, "what is no part is left out");
    }

    /// Latencies of all lengths.
    fn latencies() -> impl Strategy<Value = Vec<u64>> {
        vec((0_u32..32, any::<u64>()).prop_map(|(bits, any)| any >> (63 - bits)), 1..200)
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_a_sixteenth_of_the_exact_one(mut all in latencies(), share in 0.0_f64..=1.0) {
            let told = histogram(&all).quantile(share).unwrap().as_micros() as f64;
            all.sort_unstable();
            let rank = ((share * all.len() as f64).ceil() as usize).clamp(1, all.len());
            let exact = all[rank - 1] as f64;
            prop_assert!((told - exact).abs() <= exact / 16.0, "{told} instead of {exact}");
        }

        #[test]
        fn sums_and_differences_are_those_of_what_was_counted(one in latencies(), other in latencies()) {
            let both: Vec<u64> = one.iter().chain(&other).copied().collect();
            let (whole, mut sum) = (histogram(&both), histogram(&one));
            prop_assert_eq!(whole.since(&sum), histogram(&other));
            sum.merge(&histogram(&other));
            prop_assert_eq!(&sum, &whole);
            prop_assert_eq!(whole.micros(), both.iter().sum::<u64>());
            prop_assert_eq!(Histogram::of(whole.parts().to_vec(), whole.micros()), whole.clone());
            for power in 0..32 {
                let exact = both.iter().filter(|micros| **micros < 1 << power).count() as u64;
                prop_assert_eq!(whole.below(1 << power), exact);
            }
        }
    }
}
