//! Parts of a range, each given out once.

use std::collections::BTreeMap;

use cpi::contract::Cidr;

use super::super::metrics::Parts;

/// So many bits may number the parts, as in Kubernetes: 65,536 nodes.
const NUMBERS: u8 = 16;

/// A range, and how many use each of its parts.
#[derive(Debug)]
pub(super) struct Ranges {
    range: Cidr,
    /// How long a part is.
    length: u8,
    used: BTreeMap<u128, u32>,
    /// Where looking for a free one begins: what was given back is not given out again at once.
    next: u128,
    /// What was counted of it until now.
    counted: Parts,
}

impl Ranges {
    /// None in use.
    ///
    /// # Errors
    /// A part would be larger than the range, or there would be too many.
    pub(super) fn new(range: Cidr, length: u8) -> Result<Self, String> {
        let option = if range.is_v6() { "--node-cidr-mask-size-ipv6" } else { "--node-cidr-mask-size-ipv4" };
        if length > range.bits() || length < range.length() {
            return Err(format!(
                "cannot give parts of /{length} ({option}) of --cluster-cidr {range}: name one that is within it"
            ));
        }
        if length - range.length() > NUMBERS {
            let most = range.length() + NUMBERS;
            return Err(format!(
                "cannot give parts of /{length} ({option}) of --cluster-cidr {range}: /{most} is the smallest that can be"
            ));
        }
        Ok(Self { range, length, used: BTreeMap::new(), next: 0, counted: Parts::default() })
    }

    /// How many parts there are.
    fn count(&self) -> u128 {
        1 << (self.length - self.range.length())
    }

    /// Whether another range is of its family.
    pub(super) fn is_like(&self, other: &Cidr) -> bool {
        self.range.is_v6() == other.is_v6()
    }

    /// Whether all of another range is in it.
    pub(super) fn covers(&self, other: &Cidr) -> bool {
        self.range.covers(other)
    }

    /// A free part, in use from now on; `None` where there is none.
    pub(super) fn take(&mut self) -> Option<Cidr> {
        let count = self.count();
        let number = |step: u128| (self.next + step) % count;
        let passed = (0..count).find(|step| !self.used.contains_key(&number(*step)))?;
        let number = number(passed);
        self.used.insert(number, 1);
        self.counted.taken += 1;
        self.counted.found(short(passed));
        self.next = (number + 1) % count;
        self.range.part(self.length, number)
    }

    /// All parts that have an address in common with another range.
    pub(super) fn touched(&self, other: &Cidr) -> std::ops::Range<u128> {
        if other.covers(&self.range) {
            return 0..self.count();
        }
        let part = |address| self.range.part_of(self.length, address);
        match (part(other.first()), part(other.last())) {
            (Some(first), Some(last)) => first..last + 1,
            _ => 0..0,
        }
    }

    /// Notes that one more uses a range, which may be larger or smaller than a part.
    pub(super) fn occupy(&mut self, other: &Cidr) {
        for number in self.touched(other) {
            let users = self.used.entry(number).or_default();
            *users += 1;
            self.counted.taken += u64::from(*users == 1);
        }
    }

    /// One of them uses it no more. What of it nobody uses is free.
    pub(super) fn release(&mut self, other: &Cidr) {
        for number in self.touched(other) {
            if let Some(users) = self.used.get_mut(&number) {
                *users -= 1;
                if *users == 0 {
                    self.used.remove(&number);
                    self.counted.released += 1;
                }
            }
        }
    }
}

impl Ranges {
    /// The range, and what is counted of its parts.
    pub(super) fn counted(&self) -> (String, Parts) {
        let used = u32::try_from(self.used.len()).unwrap_or(u32::MAX);
        (self.range.to_string(), Parts { all: short(self.count()), used, ..self.counted.clone() })
    }
}

/// A number of parts. There are never more than that holds.
fn short(count: u128) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn each_part_is_given_once_and_what_is_given_back_comes_last() {
        let mut ranges = Ranges::new(cidr("10.0.0.0/22"), 24).unwrap();
        ranges.occupy(&cidr("10.0.1.0/24"));
        assert_eq!(ranges.take(), Some(cidr("10.0.0.0/24")));
        assert_eq!(ranges.take(), Some(cidr("10.0.2.0/24")));
        ranges.release(&cidr("10.0.0.0/24"));
        assert_eq!(ranges.take(), Some(cidr("10.0.3.0/24")));
        assert_eq!(ranges.take(), Some(cidr("10.0.0.0/24")));
        assert_eq!(ranges.take(), None, "full");
        ranges.release(&cidr("10.0.1.0/24"));
        assert_eq!(ranges.take(), Some(cidr("10.0.1.0/24")));
    }

    #[test]
    fn ranges_of_other_sizes_take_what_they_touch() {
        let mut ranges = Ranges::new(cidr("10.0.0.0/22"), 24).unwrap();
        ranges.occupy(&cidr("10.0.1.128/25"));
        ranges.occupy(&cidr("10.0.2.0/23"));
        ranges.occupy(&cidr("10.9.0.0/16"));
        assert_eq!((ranges.take(), ranges.take()), (Some(cidr("10.0.0.0/24")), None));
        let mut ranges = Ranges::new(cidr("10.0.0.0/22"), 24).unwrap();
        ranges.occupy(&cidr("10.0.0.0/8"));
        assert_eq!(ranges.take(), None);
        let mut ranges = Ranges::new(cidr("fd00::/48"), 64).unwrap();
        ranges.occupy(&cidr("fd00::/64"));
        assert_eq!(ranges.take(), Some(cidr("fd00:0:0:1::/64")));
    }

    #[test]
    fn sizes_that_cannot_be_are_told() {
        for (range, length, says) in [
            ("10.0.0.0/16", 15, "name one that is within it"),
            ("10.0.0.0/16", 33, "name one that is within it"),
            ("fd00::/32", 64, "/48 is the smallest that can be"),
        ] {
            let error = Ranges::new(cidr(range), length).unwrap_err();
            assert!(error.contains(says) && error.contains(range), "{error}");
        }
        assert!(Ranges::new(cidr("10.0.0.0/8"), 24).is_ok());
        assert!(Ranges::new(cidr("10.0.0.0/24"), 24).is_ok());
    }
}
