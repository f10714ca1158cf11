//! Hooks that run in the container's namespaces: cloned, executed and waited for without allocating.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use kernel::process::{CStrings, Cloned, Waited};
use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::report::{At, Failure, Step};
use crate::plan::{HookPlan, HookPlans};

/// An errno from here on is no errno: what is above it is the code the hook ended with.
pub(crate) const ENDED_WITH: i32 = 2000;

/// Runs the hooks in their order; the first that fails ends it. A parent that is gone (the other side of `channel`
/// closed) ends the hook, too. Those that say nothing of an environment have `env`.
pub(super) fn run(
    hooks: &[HookPlan],
    env: &CStrings,
    state: &OwnedFd,
    plans: &HookPlans,
    step: Step,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    for (index, hook) in hooks.iter().enumerate() {
        // The one before has read it.
        rustix::fs::seek(state, SeekFrom::Start(0)).at(step, index)?;
        let child = match kernel::process::clone_again().at(step, index)? {
            Cloned::Child => execute(hook, env, state, plans),
            Cloned::Parent(child) => child,
        };
        let limit = hook.timeout.map(Duration::from_secs);
        let waited = kernel::process::await_end(child.pidfd.as_fd(), limit, Some(channel)).at(step, index)?;
        if waited != Waited::Ended {
            // Fails only for a process that has ended by itself meanwhile.
            let _ = kernel::process::signal(child.pidfd.as_fd(), libc::SIGKILL);
        }
        let code = child.wait().map_or(-1, kernel::process::Exit::code);
        let errno = match waited {
            Waited::TimedOut => Errno::TIMEDOUT,
            Waited::HungUp => Errno::PIPE,
            Waited::Ended if code == 0 => continue,
            Waited::Ended => Errno::from_raw_os_error(ENDED_WITH + code.clamp(1, 255)),
        };
        return Err(Failure { step, index: index as u16, errno });
    }
    Ok(())
}

fn execute(hook: &HookPlan, env: &CStrings, state: &OwnedFd, plans: &HookPlans) -> ! {
    let streams = || {
        rustix::stdio::dup2_stdin(state)?;
        rustix::stdio::dup2_stdout(&plans.output)?;
        rustix::stdio::dup2_stderr(&plans.output)
    };
    if streams().is_ok() && kernel::process::mark_close_on_exec(3).is_ok() {
        kernel::process::restore_signals();
        let errno = kernel::process::exec(&hook.path, &hook.args, hook.env.as_ref().unwrap_or(env));
        if errno == Errno::NOENT {
            kernel::process::exit_now(127);
        }
    }
    kernel::process::exit_now(126)
}
