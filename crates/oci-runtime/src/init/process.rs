//! The last stretch: from a process inside its container to the program.

use std::os::fd::BorrowedFd;

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{Rlimit, getrlimit, setrlimit};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::report::{At, Failure, Message, Step, send};
use crate::plan::{HookPlans, ProcessPlan};

/// Takes the ids that a new user namespace maps to 0.
pub(super) fn become_root() -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

/// Leaves the session keyring of whoever called, which is of the user namespace that this process is in by now. A kernel
/// without keys has none to leave, and a caller whose own system call filter forbids it is told.
pub(super) fn join_keyring(plan: &ProcessPlan, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(name) = &plan.keyring else { return Ok(()) };
    match kernel::keyring::join_session(name) {
        Err(Errno::NOSYS) => Ok(()),
        Err(errno @ Errno::PERM) => {
            let failure = Failure { step: Step::Keyring, index: 0, errno };
            send(channel, &Message::Warning(failure, 0)).at(Step::Keyring, 0)
        }
        other => other.at(Step::Keyring, 0),
    }
}

/// Says that there is no program while whoever creates the container still listens: callers of a runtime expect to hear
/// of it then, and not at the start. What depends on the working directory is left to the start.
pub(super) fn find_program(plan: &ProcessPlan) -> Result<(), Failure> {
    let mut refused = Errno::NOENT;
    for candidate in &plan.candidates {
        if candidate.to_bytes().first() != Some(&b'/') {
            return Ok(());
        }
        match rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK) {
            Ok(()) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(other) => refused = other,
        }
    }
    if plan.program.is_empty() { Ok(()) } else { Err(Failure { step: Step::Exec, index: 0, errno: refused }) }
}

/// Gives up what the program must not have and executes it. Returns only if that failed.
pub(super) fn become_program(
    plan: &mut ProcessPlan,
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
    hooks: Option<&HookPlans>,
    prepared: bool,
) -> Failure {
    super::home::add(&mut plan.env, plan.uid.as_raw(), root);
    let ready = if prepared { Ok(()) } else { prepare(plan, root, channel) };
    let ready = ready.and_then(|()| match hooks {
        // With no more rights than the program has: the container's image may have put something else there.
        Some(hooks) if !hooks.start_container.is_empty() => {
            let step = Step::StartContainerHook;
            super::hooks::run(&hooks.start_container, &plan.env, &hooks.starting, hooks, step, channel)?;
            send(channel, &Message::HooksDone).at(step, 0)
        }
        _ => Ok(()),
    });
    match ready {
        Ok(()) => execute(plan),
        Err(failure) => failure,
    }
}

/// Leads a session of its own, as each container does and each process that joins one, with its terminal.
pub(super) fn lead_session(plan: &ProcessPlan) -> Result<(), Failure> {
    rustix::process::setsid().at(Step::Session, 0)?;
    if plan.terminal {
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).at(Step::Session, 1)?;
    }
    Ok(())
}

/// Becomes what the program has to find, and gives up what it must not have.
pub(super) fn prepare(
    plan: &ProcessPlan,
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    lead_session(plan)?;
    give_up(plan, root, channel)
}

/// Gives up what the program must not have.
pub(super) fn give_up(
    plan: &ProcessPlan,
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    if let Some([input, output, error]) = plan.stdio.as_ref().filter(|_| !plan.terminal) {
        rustix::stdio::dup2_stdin(input).at(Step::Stdio, 0)?;
        rustix::stdio::dup2_stdout(output).at(Step::Stdio, 1)?;
        rustix::stdio::dup2_stderr(error).at(Step::Stdio, 2)?;
    }
    super::schedule::apply(&plan.schedule)?;
    // What is opened from here on is so by itself. A filter may not let this through.
    kernel::process::mark_close_on_exec(3 + plan.preserved).map_err(|e| Failure {
        step: Step::CloseDescriptors,
        index: 0,
        errno: e.errno().unwrap_or(Errno::IO),
    })?;
    for (index, (resource, limit)) in plan.rlimits.iter().enumerate() {
        set_limit(*resource, *limit, index, channel)?;
    }
    // What only root may enter is entered as root; what only the user may, below.
    let entered = enter_cwd(plan, root);
    give_streams(plan);
    plan.capabilities.drop_bounding().at(Step::Capabilities, 0)?;
    // Loading a filter without no_new_privs takes CAP_SYS_ADMIN: now or never.
    if !plan.no_new_privileges {
        load_filter(plan, channel)?;
    }
    set_groups(plan, channel)?;
    set_thread_res_gid(plan.gid, plan.gid, plan.gid).at(Step::GroupId, 0)?;
    set_thread_res_uid(plan.uid, plan.uid, plan.uid).at(Step::UserId, 0)?;
    // Another user is as dumpable as fs.suid_dumpable says.
    super::hide();
    if entered.is_err() {
        enter_cwd(plan, root).at(Step::WorkingDirectory, 0)?;
    }
    rustix::process::umask(Mode::from_raw_mode(plan.umask.unwrap_or(0o022)));
    let refused = plan.capabilities.apply().at(Step::Capabilities, 2)?;
    if !refused.is_empty() {
        let held = refused.effective.bits() | refused.permitted.bits() | refused.inheritable.bits();
        for (index, bits) in [(0, held), (1, refused.ambient.bits() & !held)] {
            let failure = Failure { step: Step::Capabilities, index, errno: Errno::PERM };
            if bits != 0 {
                send(channel, &Message::Warning(failure, bits)).at(Step::Capabilities, 3)?;
            }
        }
    }
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at(Step::NoNewPrivileges, 0)?;
        load_filter(plan, channel)?;
    }
    Ok(())
}

/// Where a user namespace was made without rights over groups (by this runtime, or by a user around it), nobody in it may
/// set any: those that were asked for are then missed with a warning, and those that are there stay.
fn set_groups(plan: &ProcessPlan, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    match set_thread_groups(&plan.groups) {
        Err(Errno::PERM) if plan.groups.is_empty() => Ok(()),
        Err(errno @ Errno::PERM) if plan.user_namespace => {
            let failure = Failure { step: Step::Groups, index: 0, errno };
            send(channel, &Message::Warning(failure, 0)).at(Step::Groups, 0)
        }
        other => other.at(Step::Groups, 0),
    }
}

/// Loads the filter; where it asks an agent, the parent gets the descriptor it asks on.
fn load_filter(plan: &ProcessPlan, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(program) = &plan.seccomp else { return Ok(()) };
    match program.load().at(Step::Seccomp, 0)? {
        Some(listener) => send(channel, &Message::Listener(listener)).at(Step::Listener, 0),
        None => Ok(()),
    }
}

/// Changes to the working directory, making it if the image has none.
fn enter_cwd(plan: &ProcessPlan, root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match rustix::process::chdir(plan.cwd.as_c_str()) {
        Err(Errno::NOENT) => {
            kernel::path::make_dirs_c(root, &plan.cwd, kernel::path::Dangling::Refused)?;
            rustix::process::chdir(plan.cwd.as_c_str())?;
        }
        other => other?,
    }
    // A link of procfs may lead anywhere that a process of the container has something open.
    if kernel::path::cwd_is_inside()? { Ok(()) } else { Err(Errno::XDEV) }
}

/// A user that is not root could not open `/dev/stdout` otherwise: the pipes are root's.
fn give_streams(plan: &ProcessPlan) {
    for fd in plan.stdio.iter().flatten().filter(|_| plan.uid.as_raw() != 0) {
        let pipe =
            rustix::fs::fstat(fd).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_fifo());
        if pipe {
            // In a user namespace root's pipes may be out of reach: then they are used as they are.
            let _ = rustix::fs::fchown(fd, Some(plan.uid), None);
        }
    }
}

/// Sets a limit; one that may not be raised (that takes CAP_SYS_RESOURCE) is set as high as it may, with a warning.
fn set_limit(
    resource: rustix::process::Resource,
    wanted: Rlimit,
    index: usize,
    channel: BorrowedFd<'_>,
) -> Result<(), Failure> {
    let copy = Rlimit { current: wanted.current, maximum: wanted.maximum };
    match setrlimit(resource, copy) {
        Err(Errno::PERM) => {}
        other => return other.at(Step::Rlimit, index),
    }
    let ceiling = getrlimit(resource).maximum;
    let lower = |wanted: Option<u64>| match (wanted, ceiling) {
        (Some(wanted), Some(ceiling)) => Some(wanted.min(ceiling)),
        (None, ceiling) => ceiling,
        (wanted, None) => wanted,
    };
    let clamped = Rlimit { current: lower(wanted.current), maximum: lower(wanted.maximum) };
    let kept = clamped.maximum.unwrap_or(u64::MAX);
    setrlimit(resource, clamped).at(Step::Rlimit, index)?;
    let failure = Failure { step: Step::Rlimit, index: index as u16, errno: Errno::PERM };
    send(channel, &Message::Warning(failure, kept)).at(Step::Rlimit, index)
}

pub(super) fn execute(plan: &ProcessPlan) -> Failure {
    kernel::process::restore_signals();
    let mut errno = Errno::NOENT;
    for candidate in &plan.candidates {
        match kernel::process::exec(candidate, &plan.args, &plan.env) {
            // As execvp: go on, but a file that was found and refused is what the caller hears of.
            Errno::NOENT | Errno::NOTDIR => {}
            refused @ Errno::ACCESS => errno = refused,
            other => {
                errno = other;
                break;
            }
        }
    }
    Failure { step: Step::Exec, index: 0, errno }
}
