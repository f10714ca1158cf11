//! From ranges to instructions.
//!
//! Jumps of classic BPF go forward only, so a program is written from its end: what a jump goes to is there
//! already. A branch reaches 255 instructions; what is farther away is reached by a copy of it, if it is a return,
//! or by a long jump just after the branch.

use kernel::arch::Arch;
use kernel::seccomp::{Comparison, DATA_ARCH, DATA_ARGS, DATA_NR, SockFilter};

use super::range::{BAD_ARCH, Block, Outcome, Range, Ranges};
use super::rule::{Condition, Rules};

/// The whole filter: the architecture, then its tree.
pub(super) fn program(rules: &Rules, native: Arch) -> Vec<SockFilter> {
    let mut emitter = Emitter::default();
    let mut sections = Vec::new();
    // The machine's own comes last, that is, first in the program.
    for calls in
        rules.calls.iter().rev().filter(|calls| calls.arch == native || calls.arch.audit() != native.audit())
    {
        let section = emitter.section(rules, calls.arch);
        sections.push((calls.arch.audit(), section));
    }
    let mut next = Place::Return(BAD_ARCH);
    for (audit, section) in sections {
        next = emitter.branch(Comparison::Equal, audit, section, next);
    }
    emitter.follow(next);
    emitter.push(SockFilter::load(DATA_ARCH));
    emitter.reversed.reverse();
    emitter.reversed
}

/// Where a branch goes.
#[derive(Clone, Copy)]
enum Place {
    Return(u32),
    /// An instruction, counted from the end.
    At(usize),
}

#[derive(Default)]
struct Emitter {
    /// The program from its end.
    reversed: Vec<SockFilter>,
    /// Where each return value was written last.
    returns: Vec<(u32, usize)>,
}

impl Emitter {
    fn push(&mut self, instruction: SockFilter) -> usize {
        self.reversed.push(instruction);
        self.reversed.len() - 1
    }

    fn section(&mut self, rules: &Rules, arch: Arch) -> Place {
        let ranges = Ranges::of(rules, arch);
        let mut tree = Tree {
            emitter: self,
            blocks: &ranges.blocks,
            written: vec![None; ranges.blocks.len()],
            default: rules.default,
        };
        let root = tree.node(&ranges.ranges);
        self.follow(root);
        Place::At(self.push(SockFilter::load(DATA_NR)))
    }

    /// Makes a place the next instruction.
    fn follow(&mut self, place: Place) {
        match place {
            Place::Return(value) => self.write_return(value),
            Place::At(at) if at + 1 == self.reversed.len() => at,
            Place::At(at) => self.push(SockFilter::jump((self.reversed.len() - at - 1) as u32)),
        };
    }

    fn write_return(&mut self, value: u32) -> usize {
        let at = self.push(SockFilter::ret(value));
        match self.returns.iter_mut().find(|(other, _)| *other == value) {
            Some((_, last)) => *last = at,
            None => self.returns.push((value, at)),
        }
        at
    }

    /// An instruction that does what the place does and is near enough for a branch that comes soon.
    fn near(&mut self, place: Place) -> usize {
        // Before the branch there may be a stepping stone for its other way.
        let reach = |at: usize| self.reversed.len() + 1 - at <= 256;
        match place {
            Place::At(at) if reach(at) => at,
            Place::At(at) => self.push(SockFilter::jump((self.reversed.len() - at - 1) as u32)),
            Place::Return(value) => {
                let last = self.returns.iter().find(|(other, _)| *other == value).map(|(_, at)| *at);
                last.filter(|at| reach(*at)).unwrap_or_else(|| self.write_return(value))
            }
        }
    }

    fn branch(&mut self, comparison: Comparison, k: u32, yes: Place, no: Place) -> Place {
        let yes = self.near(yes);
        let no = self.near(no);
        let skip = |at: usize| (self.reversed.len() - at - 1) as u8;
        let branch = SockFilter::branch(comparison, k, skip(yes), skip(no));
        Place::At(self.push(branch))
    }

    /// Looks at an argument: both halves of it where arguments are 64 bits wide.
    fn condition(&mut self, condition: &Condition, wide: bool, yes: Place, no: Place) -> Place {
        let (yes, no) = if condition.negated { (no, yes) } else { (yes, no) };
        let (mask, value) = (condition.mask, condition.value);
        let low = DATA_ARGS + 8 * u32::from(condition.index);
        let mut next = yes;
        if mask as u32 != 0 {
            self.branch(condition.comparison, value as u32, yes, no);
            next = Place::At(self.load(low, mask as u32));
        }
        let (high_mask, high) = ((mask >> 32) as u32, (value >> 32) as u32);
        if wide && high_mask != 0 {
            let equal = self.branch(Comparison::Equal, high, next, no);
            if condition.comparison != Comparison::Equal {
                self.branch(Comparison::Greater, high, yes, equal);
            }
            next = Place::At(self.load(low + 4, high_mask));
        }
        next
    }

    /// Loads half of an argument; what was written last is what comes next.
    fn load(&mut self, offset: u32, mask: u32) -> usize {
        if mask != u32::MAX {
            self.push(SockFilter::and(mask));
        }
        self.push(SockFilter::load(offset))
    }
}

/// The search for a number.
struct Tree<'a> {
    emitter: &'a mut Emitter,
    blocks: &'a [Block],
    /// Where each block is, once it is there.
    written: Vec<Option<usize>>,
    default: u32,
}

impl Tree<'_> {
    fn node(&mut self, ranges: &[Range]) -> Place {
        match ranges {
            [one] => self.leaf(one.outcome),
            // A single number in a range: one comparison instead of two.
            [before, one, after] if before.outcome == after.outcome && one.start + 1 == after.start => {
                let other = self.leaf(before.outcome);
                let one_place = self.leaf(one.outcome);
                self.emitter.branch(Comparison::Equal, one.start, one_place, other)
            }
            _ => {
                // An odd number of ranges below ends more often in such threes.
                let (left, right) = ranges.split_at((ranges.len() / 2) | 1);
                let start = right[0].start;
                let right = self.node(right);
                let left = self.node(left);
                self.emitter.branch(Comparison::GreaterOrEqual, start, right, left)
            }
        }
    }

    fn leaf(&mut self, outcome: Outcome) -> Place {
        match outcome {
            Outcome::Return(value) => Place::Return(value),
            Outcome::Block(i) => Place::At(match self.written[i] {
                Some(at) => at,
                None => {
                    let at = self.block(&self.blocks[i]);
                    self.written[i] = Some(at);
                    at
                }
            }),
        }
    }

    /// Alternatives, tried in turn.
    fn block(&mut self, block: &Block) -> usize {
        let mut next = Place::Return(self.default);
        for alternative in block.alternatives.iter().rev() {
            let mut yes = Place::Return(alternative.ret);
            for condition in alternative.conditions.iter().rev() {
                yes = self.emitter.condition(condition, block.wide, yes, next);
            }
            next = yes;
        }
        match next {
            Place::At(at) => at,
            Place::Return(value) => self.emitter.write_return(value),
        }
    }
}
