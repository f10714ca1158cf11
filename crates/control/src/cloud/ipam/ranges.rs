//! Parts of a range, each given out once.

use std::collections::BTreeMap;

use cpi::contract::Cidr;

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
        Ok(Self { range, length, used: BTreeMap::new(), next: 0 })
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
        let number = (0..count)
            .map(|step| (self.next + step) % count)
            .find(|number| !self.used.contains_key(number))?;
        self.used.insert(number, 1);
        self.next = (number + 1) % count;
        self.range.part(self.length, number)
    }

    /// All parts that have an address in common with another range.
    fn touched(&self, other: &Cidr) -> std::ops::Range<u128> {
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
            *self.used.entry(number).or_default() += 1;
        }
    }

    /// One of them uses it no more. What of it nobody uses is free.
    pub(super) fn release(&mut self, other: &Cidr) {
        for number in self.touched(other) {
            if let Some(users) = self.used.get_mut(&number) {
                *users -= 1;
                if *users == 0 {
                    self.used.remove(&number);
                }
            }
        }
    }
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
