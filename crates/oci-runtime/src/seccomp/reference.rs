//! What a profile says of a call, read from the profile word for word, with none of the compiler's code.

use kernel::arch::{ARM_PRIVATE, Arch, X32_BIT};
use kernel::seccomp as bpf;

use super::evaluate::Call;
use super::{architectures, multiplex};
use crate::contract::seccomp::{Action, Arg, Operator, Seccomp};

pub(super) fn verdict(profile: &Seccomp, native: Arch, call: &Call) -> u32 {
    let default = value(profile.default_action, profile.default_errno_ret);
    let archs = architectures(profile, native);
    let x32 = call.arch == Arch::X32.audit() && call.nr >= X32_BIT && call.nr != u32::MAX;
    let arch = archs.iter().copied().find(|arch| arch.audit() == call.arch && (*arch == Arch::X32) == x32);
    let Some(arch) = arch else { return bpf::RET_KILL_THREAD };

    let mut first = None;
    let mut newest = None;
    for rule in &profile.syscalls {
        let numbers: Vec<u32> = rule.names.iter().filter_map(|name| arch.number(name)).collect();
        newest =
            newest.max(numbers.iter().copied().filter(|nr| arch != Arch::Arm || *nr < ARM_PRIVATE).max());
        let value = value(rule.action, rule.errno_ret);
        if value == default {
            continue;
        }
        let named = numbers.contains(&call.nr);
        let stands_for = rule.names.iter().any(|name| {
            arch == Arch::X86
                && multiplex::selector(name).is_some_and(|(number, selector)| {
                    number == call.nr && call.args[0] & selector.mask & 0xffff_ffff == selector.value
                })
        });
        if named && rule.args.is_empty() {
            return value;
        }
        let sure = rule.args.is_empty() || rank(value) >= rank(default);
        if (named && alternatives_hold(&rule.args, arch, call)) || (stands_for && sure) {
            first = first.or(Some(value));
        }
    }
    let settled = profile.syscalls.iter().any(|rule| {
        value(rule.action, rule.errno_ret) != default
            && rule.names.iter().any(|name| arch.number(name) == Some(call.nr))
    });
    let newer = newest.is_some_and(|newest| call.nr > newest && call.nr != u32::MAX)
        && (arch != Arch::Arm || call.nr < ARM_PRIVATE || !names_private(profile, default));
    let enosys = bpf::RET_ERRNO | 38;
    match first {
        Some(value) => value,
        None if newer
            && !settled
            && !matches!(profile.default_action, Action::Allow | Action::Log | Action::Trace) =>
        {
            enosys
        }
        None => default,
    }
}

/// Does a rule say something of ARM's private calls? Then what is beyond the public ones is no longer new.
fn names_private(profile: &Seccomp, default: u32) -> bool {
    let private = |name: &String| Arch::Arm.number(name).is_some_and(|number| number >= ARM_PRIVATE);
    profile
        .syscalls
        .iter()
        .any(|rule| value(rule.action, rule.errno_ret) != default && rule.names.iter().any(private))
}

/// The kernel prefers the action that is lower here.
fn rank(value: u32) -> usize {
    let order = [
        bpf::RET_ALLOW,
        bpf::RET_LOG,
        bpf::RET_TRACE,
        bpf::RET_USER_NOTIF,
        bpf::RET_ERRNO,
        bpf::RET_TRAP,
        bpf::RET_KILL_THREAD,
        bpf::RET_KILL_PROCESS,
    ];
    order.iter().position(|action| *action == value & 0xffff_0000).unwrap()
}

fn value(action: Action, errno: Option<u32>) -> u32 {
    match action {
        Action::Kill | Action::KillThread => bpf::RET_KILL_THREAD,
        Action::KillProcess => bpf::RET_KILL_PROCESS,
        Action::Trap => bpf::RET_TRAP,
        Action::Errno => bpf::RET_ERRNO | errno.unwrap_or(1),
        Action::Trace => bpf::RET_TRACE | errno.unwrap_or(1),
        Action::Allow => bpf::RET_ALLOW,
        Action::Log => bpf::RET_LOG,
        Action::Notify => bpf::RET_USER_NOTIF,
    }
}

fn alternatives_hold(args: &[Arg], arch: Arch, call: &Call) -> bool {
    let twice = |arg: &Arg| args.iter().filter(|other| other.index == arg.index).count() > 1;
    let mut holds = args.iter().map(|arg| holds(arg, arch, call));
    if args.iter().any(twice) { holds.any(|holds| holds) } else { holds.all(|holds| holds) }
}

fn holds(arg: &Arg, arch: Arch, call: &Call) -> bool {
    let narrow = |value: u64| if arch.is_64_bit() { value } else { value & 0xffff_ffff };
    let (actual, value, two) =
        (narrow(call.args[arg.index as usize]), narrow(arg.value), narrow(arg.value_two));
    match arg.op {
        Operator::Ne => actual != value,
        Operator::Lt => actual < value,
        Operator::Le => actual <= value,
        Operator::Eq => actual == value,
        Operator::Ge => actual >= value,
        Operator::Gt => actual > value,
        Operator::MaskedEq => actual & value == two & value,
    }
}
