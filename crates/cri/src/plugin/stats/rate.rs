//! CPU use per second, from two readings.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Two readings that are closer than this tell more of the clock than of the use. Nanoseconds.
const APART: i64 = 100_000_000;
/// Readings older than this are of no use any more. Nanoseconds.
const OLD: i64 = 600_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Reading {
    cpu: u64,
    at: i64,
    rate: Option<u64>,
}

/// The last reading of each cgroup.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: Mutex<HashMap<PathBuf, Reading>>,
}

impl Rates {
    /// Nanoseconds of CPU time per second since the last reading; `None` at the first.
    pub(crate) fn rate(&self, cgroup: &Path, cpu: u64, at: i64) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, reading| at - reading.at < OLD);
        let Some(before) = last.get(cgroup).copied() else {
            last.insert(cgroup.to_owned(), Reading { cpu, at, rate: None });
            return None;
        };
        let passed = at - before.at;
        if passed < APART {
            return before.rate;
        }
        let used = u128::from(cpu.saturating_sub(before.cpu)) * 1_000_000_000;
        let rate = u64::try_from(used / u128::from(passed.unsigned_abs())).ok();
        last.insert(cgroup.to_owned(), Reading { cpu, at, rate });
        rate
    }

    /// The cgroup is gone.
    pub(crate) fn forget(&self, cgroup: &Path) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).remove(cgroup);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_readings_and_some_time() {
        let (rates, cgroup) = (Rates::default(), Path::new("a"));
        assert_eq!(rates.rate(cgroup, 5_000_000_000, 1_000_000_000), None);
        assert_eq!(rates.rate(cgroup, 5_500_000_000, 2_000_000_000), Some(500_000_000));
        assert_eq!(rates.rate(cgroup, 9_000_000_000, 2_000_000_001), Some(500_000_000));
        // A cgroup that was made anew counts from 0.
        assert_eq!(rates.rate(cgroup, 7, 3_000_000_000), Some(0));
        rates.forget(cgroup);
        assert_eq!(rates.rate(cgroup, 9, 4_000_000_000), None);
    }
}
