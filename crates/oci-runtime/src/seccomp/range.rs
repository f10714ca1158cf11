//! From rules for numbers to ranges of numbers that have the same outcome.

use kernel::arch::{ARM_PRIVATE, Arch, X32_BIT};
use kernel::seccomp::RET_KILL_THREAD;

use super::rule::{Alternative, Calls, Rules};

/// What a filter does with a call of an architecture, or x32, that the profile does not list.
pub(super) const BAD_ARCH: u32 = RET_KILL_THREAD;

/// What a filter does with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It returns.
    Return(u32),
    /// It looks at the arguments, by the block of this index.
    Block(usize),
}

/// The numbers from `start` to the next range's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u32,
    pub outcome: Outcome,
}

/// All numbers that have one audit architecture.
#[derive(Default)]
pub(super) struct Ranges {
    pub ranges: Vec<Range>,
    pub blocks: Vec<Block>,
}

/// Alternatives to try in turn.
pub(super) struct Block {
    pub alternatives: Vec<Alternative>,
    /// The arguments are 64 bits wide.
    pub wide: bool,
}

impl Ranges {
    /// The ranges of an architecture, and of x32 in the upper numbers of x86_64.
    pub(super) fn of(rules: &Rules, arch: Arch) -> Self {
        let mut ranges = Self::default();
        let own = rules.calls.iter().find(|calls| calls.arch == arch);
        ranges.calls(rules, own, 0);
        if arch == Arch::X86_64 {
            let x32 = rules.calls.iter().find(|calls| calls.arch == Arch::X32);
            ranges.calls(rules, x32, X32_BIT);
        }
        // -1 is the call that a tracer made void: it is no new one.
        ranges.push(u32::MAX, Outcome::Return(rules.default));
        ranges
    }

    /// The numbers from `start`, which no rule names where there are no `calls`.
    fn calls(&mut self, rules: &Rules, calls: Option<&Calls>, start: u32) {
        let Some(calls) = calls else { return self.push(start, Outcome::Return(BAD_ARCH)) };
        let default = Outcome::Return(rules.default);
        let mut next = start;
        let mut newer = calls.last.and_then(|last| Some((last + 1, Outcome::Return(rules.newer?))));
        for group in calls.entries.chunk_by(|a, b| a.0 == b.0) {
            let number = group[0].0;
            if number >= ARM_PRIVATE && calls.arch == Arch::Arm && newer.is_some() {
                self.gap(next, default, newer.take());
                next = ARM_PRIVATE;
            }
            if number > next {
                self.push(next, default);
            }
            let outcome = self.outcome(rules, group, calls.arch.is_64_bit());
            self.push(number, outcome);
            next = number + 1;
        }
        self.gap(next, default, newer);
    }

    /// What follows the last number of a rule: known calls that no rule is for, then those that are newer.
    fn gap(&mut self, next: u32, default: Outcome, newer: Option<(u32, Outcome)>) {
        match newer {
            None => self.push(next, default),
            Some((first, outcome)) => {
                if first > next {
                    self.push(next, default);
                }
                self.push(first.max(next), outcome);
            }
        }
    }

    /// What the alternatives for a number come to.
    fn outcome(&mut self, rules: &Rules, group: &[(u32, u32)], wide: bool) -> Outcome {
        let alternatives = || group.iter().map(|(_, i)| &rules.alternatives[*i as usize]);
        if let Some(settled) = alternatives().find(|alternative| alternative.conditions.is_empty()) {
            return Outcome::Return(settled.ret);
        }
        let same = |block: &Block| block.wide == wide && block.alternatives.iter().eq(alternatives());
        Outcome::Block(self.blocks.iter().position(same).unwrap_or_else(|| {
            self.blocks.push(Block { alternatives: alternatives().cloned().collect(), wide });
            self.blocks.len() - 1
        }))
    }

    fn push(&mut self, start: u32, outcome: Outcome) {
        if self.ranges.last().is_none_or(|last| last.outcome != outcome) {
            self.ranges.push(Range { start, outcome });
        }
    }
}
