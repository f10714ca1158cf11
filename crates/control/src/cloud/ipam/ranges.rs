//! Parts of a range, each given out once.

use std::collections::BTreeMap;
use std::ops::Range;

use cpi::contract::Cidr;

use super::super::metrics::Parts;

/// So many bits may number the parts of IPv6, as in Kubernetes, which has no such limit for IPv4.
const NUMBERS: u8 = 16;

/// Parts that lie together and have as many users, from one on.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first that is none of them.
    end: u128,
    users: u32,
}

/// A range, and how many use each of its parts.
#[derive(Debug)]
pub(super) struct Ranges {
    range: Cidr,
    /// How long a part is.
    length: u8,
    /// Parts that somebody uses, by the first of each run. Two that touch have not as many users: who has very many has one.
    used: BTreeMap<u128, Run>,
    /// How many parts these are.
    in_use: u128,
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
        if range.is_v6() && length - range.length() > NUMBERS {
            let most = range.length() + NUMBERS;
            return Err(format!(
                "cannot give parts of /{length} ({option}) of --cluster-cidr {range}: /{most} is the smallest that can be"
            ));
        }
        Ok(Self { range, length, used: BTreeMap::new(), in_use: 0, next: 0, counted: Parts::default() })
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
        let number = self.free(self.next, count).or_else(|| self.free(0, self.next))?;
        let passed = (number + count - self.next) % count;
        self.add(number..number + 1);
        self.counted.found(short(passed));
        self.next = (number + 1) % count;
        self.range.part(self.length, number)
    }

    /// The first free part from one on, below another.
    fn free(&self, from: u128, end: u128) -> Option<u128> {
        let mut first = from;
        // One that begins before may reach beyond it.
        let before = self.used.range(..from).next_back();
        for (start, run) in before.into_iter().chain(self.used.range(from..)) {
            if *start > first {
                break;
            }
            first = first.max(run.end);
        }
        (first < end).then_some(first)
    }

    /// Has no run reach over this part's beginning.
    fn cut(&mut self, at: u128) {
        let before = self.used.range(..at).next_back().map(|(start, run)| (*start, *run));
        if let Some((start, run)) = before.filter(|(_, run)| run.end > at) {
            self.used.insert(start, Run { end: at, ..run });
            self.used.insert(at, run);
        }
    }

    /// Has two runs be one that touch each other here and have as many users.
    fn join(&mut self, at: u128) {
        let before = self.used.range(..at).next_back().map(|(start, run)| (*start, *run));
        if let (Some((start, before)), Some(after)) = (before, self.used.get(&at).copied())
            && before.end == at
            && before.users == after.users
        {
            self.used.remove(&at);
            self.used.insert(start, after);
        }
    }

    /// Notes one user more of these parts.
    fn add(&mut self, parts: Range<u128>) {
        if parts.is_empty() {
            return;
        }
        self.cut(parts.start);
        self.cut(parts.end);
        let (mut free, mut at) = (Vec::new(), parts.start);
        for (start, run) in self.used.range_mut(parts.clone()) {
            free.push(at..*start);
            run.users = run.users.saturating_add(1);
            at = run.end;
        }
        free.push(at..parts.end);
        for Range { start, end } in free.into_iter().filter(|parts| !parts.is_empty()) {
            self.used.insert(start, Run { end, users: 1 });
            self.in_use += end - start;
            self.counted.taken += long(end - start);
        }
        self.join(parts.start);
        self.join(parts.end);
    }

    /// Notes one user less of those of these parts that have any.
    fn remove(&mut self, parts: Range<u128>) {
        if parts.is_empty() {
            return;
        }
        self.cut(parts.start);
        self.cut(parts.end);
        let runs: Vec<(u128, Run)> =
            self.used.range(parts.clone()).map(|(start, run)| (*start, *run)).collect();
        for (start, run) in runs {
            if run.users > 1 {
                self.used.insert(start, Run { users: run.users - 1, ..run });
            } else {
                self.used.remove(&start);
                self.in_use -= run.end - start;
                self.counted.released += long(run.end - start);
            }
        }
        self.join(parts.start);
        self.join(parts.end);
    }

    /// All parts that have an address in common with another range.
    pub(super) fn touched(&self, other: &Cidr) -> Range<u128> {
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
        self.add(self.touched(other));
    }

    /// One of them uses it no more. What of it nobody uses is free.
    pub(super) fn release(&mut self, other: &Cidr) {
        self.remove(self.touched(other));
    }
}

impl Ranges {
    /// The range, and what is counted of its parts.
    pub(super) fn counted(&self) -> (String, Parts) {
        let parts = Parts { all: short(self.count()), used: short(self.in_use), ..self.counted.clone() };
        (self.range.to_string(), parts)
    }
}

/// A number of parts for monitors, to whom all of IPv4 one by one are one less than they are.
fn short(count: u128) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn long(count: u128) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
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

    /// All of them one by one would be more than a machine has memory for.
    #[test]
    fn parts_of_ipv4_are_as_many_as_there_are() {
        let mut ranges = Ranges::new(cidr("0.0.0.0/0"), 32).unwrap();
        ranges.occupy(&cidr("0.0.0.0/1"));
        ranges.occupy(&cidr("128.0.0.1/32"));
        assert_eq!(ranges.take(), Some(cidr("128.0.0.0/32")));
        assert_eq!(ranges.take(), Some(cidr("128.0.0.2/32")));
        ranges.occupy(&cidr("128.0.0.0/1"));
        assert_eq!(ranges.take(), None);
        assert_eq!((ranges.counted().1.all, ranges.counted().1.used), (u32::MAX, u32::MAX));
        ranges.release(&cidr("0.0.0.0/1"));
        assert_eq!(ranges.take(), Some(cidr("0.0.0.0/32")));
        ranges.release(&cidr("128.0.0.0/1"));
        assert_eq!((ranges.counted().1.used, ranges.counted().1.taken), (4, (1 << 32) + 1));
    }

    /// By many acts that are drawn, beside who counts each part by itself.
    #[test]
    fn runs_count_as_single_parts_do() {
        let mut ranges = Ranges::new(cidr("10.0.0.0/26"), 32).unwrap();
        let (mut users, mut drawn) = ([0_u32; 64], 12_345_u64);
        let mut draw = |below: u64| {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (drawn >> 33) % below
        };
        for step in 0..20_000 {
            let length = 26 + u8::try_from(draw(7)).unwrap();
            let at = cidr(&format!("10.0.0.{}/{length}", draw(64)));
            let parts = ranges.touched(&at);
            let parts = usize::try_from(parts.start).unwrap()..usize::try_from(parts.end).unwrap();
            match draw(5) {
                0 | 1 => {
                    ranges.occupy(&at);
                    users[parts].iter_mut().for_each(|users| *users += 1);
                }
                2 | 3 => {
                    ranges.release(&at);
                    users[parts].iter_mut().for_each(|users| *users = users.saturating_sub(1));
                }
                _ => match ranges.take() {
                    Some(part) => users[usize::try_from(ranges.touched(&part).start).unwrap()] += 1,
                    None => assert!(users.iter().all(|users| *users > 0), "step {step}: {users:?}"),
                },
            }
            for (part, users) in (0_u128..).zip(&users) {
                let run = ranges.used.range(..=part).next_back().filter(|(_, run)| run.end > part);
                assert_eq!(run.map_or(0, |(_, run)| run.users), *users, "step {step}, part {part}");
            }
            let used = users.iter().filter(|users| **users > 0).count();
            assert_eq!(usize::try_from(ranges.counted().1.used).unwrap(), used, "step {step}");
            let runs = ranges.used.iter().zip(ranges.used.iter().skip(1));
            for ((_, one), (start, other)) in runs {
                assert!(one.end < *start || one.users != other.users, "step {step}: {:?}", ranges.used);
            }
        }
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
        assert!(Ranges::new(cidr("10.0.0.0/8"), 32).is_ok(), "of IPv4 as many as there are");
    }
}
