/// A seeded sequence of numbers (splitmix64): the same seed gives the same kills.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence that differs from run to run, and its seed, to be printed.
    pub fn fresh() -> (Self, u64) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let seed = now.as_nanos() as u64 ^ u64::from(std::process::id());
        (Self::new(seed), seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end` (0 if `end` is 0).
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.number() % end }
    }

    /// A duration up to `longest`.
    pub fn duration(&mut self, longest: std::time::Duration) -> std::time::Duration {
        std::time::Duration::from_nanos(self.below(longest.as_nanos().min(u128::from(u64::MAX)) as u64))
    }

    /// `count` of `0..end`, in order; all of them if there are no more.
    pub fn sample(&mut self, count: u64, end: u64) -> Vec<u64> {
        if count >= end {
            return (0..end).collect();
        }
        let mut taken = std::collections::BTreeSet::new();
        while (taken.len() as u64) < count {
            taken.insert(self.below(end));
        }
        taken.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sample() {
        let sample = |seed| Random::new(seed).sample(5, 100);
        assert_eq!(sample(1), sample(1));
        assert_ne!(sample(1), sample(2));
        assert_eq!(Random::new(1).sample(5, 3), [0, 1, 2]);
        assert_eq!(Random::new(1).below(0), 0);
    }
}
