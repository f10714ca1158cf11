//! How a container's process is born into its namespaces.
//!
//! Usually it is this process's clone and joins what it has to. With a user namespace it is not so simple: new namespaces
//! belong to the user namespace they are made in, so one that is joined must be joined before, by a process that never
//! comes back; and what is joined by a path may belong to the host, whose rights a new user namespace does not have. Then
//! a process in between joins everything, makes the container's process as a sibling, and ends.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::Act;
use kernel::process::{Child, Cloned, NewNamespaces, clone, clone_sibling, exit_now, pid_of};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::describe::failure_error;
use crate::init::{self, report};
use crate::plan::Plan;
use crate::{Error, Result};
use report::{At, Message, Step};

/// Clones the container's process, with what it joins already joined where `plan` says so.
pub(crate) fn born(
    plan: &Plan,
    cgroup: Option<BorrowedFd<'_>>,
    entrances: &[OwnedFd],
    channel: BorrowedFd<'_>,
) -> Result<Cloned> {
    if !plan.namespaces.through_another() {
        return Ok(clone(plan.namespaces.new, cgroup)?);
    }
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .act("make", || "a channel to a process")?;
    match clone(NewNamespaces::NONE, cgroup)? {
        Cloned::Child => {
            drop(ours);
            let outcome = init::begin(plan, entrances, channel)
                .and_then(|()| clone_sibling(plan.namespaces.new).at(Step::Clone, 0));
            let (message, code) = match outcome {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Parent(sibling)) => (Message::Born(sibling.pidfd, sibling.pid), 0),
                Err(failure) => (Message::Failed(failure), 1),
            };
            let sent = report::send(theirs.as_fd(), &message);
            exit_now(if sent.is_ok() { code } else { 1 })
        }
        Cloned::Parent(between) => {
            drop(theirs);
            let heard = report::receive(ours.as_fd()).act("hear from", || "a process that joins namespaces");
            let ended = between.wait()?;
            match heard? {
                Some(Message::Born(pidfd, _)) => {
                    // It was born in a namespace where it may have another number.
                    let pid = pid_of(pidfd.as_fd())?;
                    Ok(Cloned::Parent(Child { pid, pidfd }))
                }
                Some(Message::Failed(failure)) => Err(failure_error(&failure, Some(plan), &plan.process)),
                _ => Err(Error::Vanished { code: ended.code() }),
            }
        }
    }
}
