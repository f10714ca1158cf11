//! A process that joins and is born into the container's PID namespace last of all.
//!
//! Whoever has `CAP_SYS_PTRACE` over the host sees into each process of its PID namespace and may write to it, dumpable or
//! not: it would find one on its way in with all capabilities of the host's root, no filter, and the memory of who called.
//! So a process in between, which nobody in the container sees, does all that is to be done, and what it clones in the end
//! has nothing that the program will not have too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::process::{Cloned, clone_beside, exit_now};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::process::{execute, give_up, lead_session};
use super::report::{At, Failure, Message, Step, send};
use crate::plan::ProcessPlan;

/// Gives up what the program must not have, makes its process and ends. Returns in the process that is not needed any more:
/// where something failed.
pub(super) fn become_program(plan: &mut ProcessPlan, root: OwnedFd, channel: BorrowedFd<'_>) -> Failure {
    super::home::add(&mut plan.env, plan.uid.as_raw(), root.as_fd());
    match born(plan, root, channel) {
        Ok(()) => execute(plan),
        Err(failure) => failure,
    }
}

/// Returns in the new process, once the parent is told of it.
fn born(plan: &ProcessPlan, root: OwnedFd, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    let (told, tell) = pipe_with(PipeFlags::CLOEXEC).at(Step::Clone, 0)?;
    give_up(plan, root.as_fd(), channel)?;
    drop(root);
    kernel::process::forget_environment();
    match clone_beside().at(Step::Clone, 0)? {
        Cloned::Parent(sibling) => {
            let done = send(channel, &Message::Born(sibling.pidfd, sibling.pid))
                .and_then(|()| rustix::io::write(&tell, b"b"));
            // Unheard of, it ends by itself: nobody writes to its pipe any more.
            exit_now(if done.is_ok() { 0 } else { 1 })
        }
        Cloned::Child => {
            drop(tell);
            let heard = rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut [0_u8; 1]));
            if heard.at(Step::Clone, 0)? == 0 {
                return Err(Failure { step: Step::Clone, index: 0, errno: Errno::PIPE });
            }
            lead_session(plan)
        }
    }
}
