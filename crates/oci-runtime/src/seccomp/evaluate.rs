//! What a filter says of a call, found out without making it: for tests, and for whoever asks why a call failed.

use kernel::seccomp::{Comparison, SockFilter};

use super::Program;

/// A call as a filter sees it: `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The number.
    pub nr: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// The arguments.
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> Option<u32> {
        let argument = |i: u32| self.args.get(i as usize / 2).map(|arg| (arg >> (32 * (i % 2))) as u32);
        match offset {
            0 => Some(self.nr),
            4 => Some(self.arch),
            16..64 if offset.is_multiple_of(4) => argument((offset - 16) / 4),
            _ => None,
        }
    }
}

impl Program {
    /// The value that the filter returns (`SECCOMP_RET_*` with its data).
    ///
    /// `None` where the program has an instruction that [`compile`](super::compile) never writes, or runs off its
    /// end; the kernel would not have loaded the latter.
    pub fn evaluate(&self, call: &Call) -> Option<u32> {
        let (mut accumulator, mut at) = (0, 0);
        loop {
            let i = self.instructions.get(at)?;
            at += 1;
            let is = |comparison| i.code == SockFilter::branch(comparison, 0, 0, 0).code;
            let holds = if i.code == SockFilter::load(0).code {
                accumulator = call.word(i.k)?;
                continue;
            } else if i.code == SockFilter::and(0).code {
                accumulator &= i.k;
                continue;
            } else if i.code == SockFilter::ret(0).code {
                return Some(i.k);
            } else if i.code == SockFilter::jump(0).code {
                at = at.checked_add(i.k as usize)?;
                continue;
            } else if is(Comparison::Equal) {
                accumulator == i.k
            } else if is(Comparison::Greater) {
                accumulator > i.k
            } else if is(Comparison::GreaterOrEqual) {
                accumulator >= i.k
            } else {
                return None;
            };
            at += usize::from(if holds { i.jt } else { i.jf });
        }
    }
}
