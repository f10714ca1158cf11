//! The rules of a profile, brought into the few forms that a filter has.

use std::ops::Range;

use kernel::arch::{Arch, Syscall};
use kernel::seccomp as bpf;
use kernel::seccomp::Comparison;

use super::{Error, multiplex};
use crate::contract::seccomp::{Action, Arg, Operator, Seccomp};

/// `EPERM`: what a refusal says unless the profile says otherwise.
const EPERM: u32 = 1;
/// `ENOSYS`: what a call that the profile cannot know says.
const ENOSYS: u32 = 38;

/// A comparison of an argument, under a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub index: u8,
    pub mask: u64,
    pub value: u64,
    pub comparison: Comparison,
    /// The condition holds where the comparison does not.
    pub negated: bool,
}

/// Conditions that hold together, and the filter's return value where they do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alternative {
    pub conditions: Vec<Condition>,
    pub ret: u32,
}

/// A profile for some architectures.
pub(super) struct Rules {
    pub default: u32,
    /// The return value for calls newer than the profile.
    pub newer: Option<u32>,
    pub alternatives: Vec<Alternative>,
    pub calls: Vec<Calls>,
}

/// The calls of one architecture.
pub(super) struct Calls {
    pub arch: Arch,
    /// Number and index of the alternative, sorted: alternatives for a number are in the order of the profile.
    pub entries: Vec<(u32, u32)>,
    /// The largest number that the profile names, whatever it says of it.
    pub last: Option<u32>,
}

impl Rules {
    pub(super) fn of(seccomp: &Seccomp, archs: &[Arch]) -> Result<Self, Error> {
        let default = ret(seccomp.default_action, seccomp.default_errno_ret);
        // A tracer that emulates calls says itself which it does not know.
        let refusal = !matches!(seccomp.default_action, Action::Allow | Action::Log | Action::Trace);
        let enosys = bpf::RET_ERRNO | ENOSYS;
        let mut rules = Self {
            default,
            newer: (refusal && default != enosys).then_some(enosys),
            alternatives: Vec::new(),
            calls: archs.iter().map(|arch| Calls { arch: *arch, entries: Vec::new(), last: None }).collect(),
        };
        for rule in &seccomp.syscalls {
            let ret = ret(rule.action, rule.errno_ret);
            let first = rules.alternatives.len();
            if ret != default {
                rules.alternatives.extend(alternatives(&rule.args, ret)?);
            }
            let added = first..rules.alternatives.len();
            for name in &rule.names {
                rules.name(name, &added);
            }
        }
        for calls in &mut rules.calls {
            calls.entries.sort_unstable();
            calls.entries.dedup();
        }
        Ok(rules)
    }

    /// Notes a name of a rule that has these alternatives.
    fn name(&mut self, name: &str, alternatives: &Range<usize>) {
        let Some(syscall) = Syscall::named(name) else { return };
        for i in 0..self.calls.len() {
            let arch = self.calls[i].arch;
            if let Some(number) = syscall.number(arch) {
                let calls = &mut self.calls[i];
                calls.entries.extend(alternatives.clone().map(|alternative| (number, alternative as u32)));
                // Private calls of ARM are beyond all that will ever be added.
                if arch != Arch::Arm || number < kernel::arch::ARM_PRIVATE {
                    calls.last = calls.last.max(Some(number));
                }
            }
            if arch == Arch::X86 {
                self.multiplex(i, name, alternatives.clone());
            }
        }
    }

    /// The same rule for the call that an older C library makes instead.
    fn multiplex(&mut self, calls: usize, name: &str, alternatives: Range<usize>) {
        let Some((number, selector)) = multiplex::selector(name) else { return };
        self.calls[calls].last = self.calls[calls].last.max(Some(number));
        for i in alternatives {
            let rule = &self.alternatives[i];
            // The real arguments are in memory, out of a filter's sight: in doubt, the stricter of the rule and the
            // default. The actions' values are in the order of their strictness.
            if !rule.conditions.is_empty() && strictness(rule.ret) < strictness(self.default) {
                continue;
            }
            self.calls[calls].entries.push((number, self.alternatives.len() as u32));
            self.alternatives.push(Alternative { conditions: vec![selector], ret: rule.ret });
        }
    }
}

/// The kernel's own order: of several filters' answers, that with the least value counts, as a signed number.
fn strictness(ret: u32) -> i32 {
    -((ret & 0xffff_0000).cast_signed() >> 16)
}

fn ret(action: Action, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(EPERM) & 0xffff;
    match action {
        Action::Kill | Action::KillThread => bpf::RET_KILL_THREAD,
        Action::KillProcess => bpf::RET_KILL_PROCESS,
        Action::Trap => bpf::RET_TRAP,
        Action::Errno => bpf::RET_ERRNO | data,
        Action::Trace => bpf::RET_TRACE | data,
        Action::Allow => bpf::RET_ALLOW,
        Action::Log => bpf::RET_LOG,
        Action::Notify => bpf::RET_USER_NOTIF,
    }
}

fn alternatives(args: &[Arg], ret: u32) -> Result<Vec<Alternative>, Error> {
    let conditions = args.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let repeated = |i: usize| conditions[..i].iter().any(|other| other.index == conditions[i].index);
    if (0..conditions.len()).any(repeated) {
        return Ok(conditions.into_iter().map(|c| Alternative { conditions: vec![c], ret }).collect());
    }
    Ok(vec![Alternative { conditions, ret }])
}

fn condition(arg: &Arg) -> Result<Condition, Error> {
    let index =
        u8::try_from(arg.index).ok().filter(|i| *i < 6).ok_or(Error::Argument { index: arg.index })?;
    let (comparison, negated) = match arg.op {
        Operator::Eq | Operator::MaskedEq => (Comparison::Equal, false),
        Operator::Ne => (Comparison::Equal, true),
        Operator::Ge => (Comparison::GreaterOrEqual, false),
        Operator::Lt => (Comparison::GreaterOrEqual, true),
        Operator::Gt => (Comparison::Greater, false),
        Operator::Le => (Comparison::Greater, true),
    };
    let (mask, value) = match arg.op {
        Operator::MaskedEq => (arg.value, arg.value_two & arg.value),
        _ => (u64::MAX, arg.value),
    };
    Ok(Condition { index, mask, value, comparison, negated })
}
