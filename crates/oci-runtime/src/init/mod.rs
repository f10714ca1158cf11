//! The container's side: from clone to exec. Everything here runs in a copy of the parent's memory and allocates
//! nothing (a memory limit of a few pages must be enough to get to the program); tests check it.

pub(crate) mod console;
pub(crate) mod copyup;
mod hierarchies;
mod home;
pub(crate) mod hooks;
mod label;
mod last;
mod process;
pub(crate) mod report;
mod rootfs;
mod schedule;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kernel::signal::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use crate::plan::{HookPlans, Plan, ProcessPlan};
use report::{At, Failure, Message, Step, receive, send};

/// Makes the container around this process and executes its program. `slots` has room for one descriptor a mount.
pub(crate) fn container(
    mut plan: Plan,
    mut slots: Vec<Option<OwnedFd>>,
    entrances: &[OwnedFd],
    channel: BorrowedFd<'_>,
) -> ! {
    hide();
    let (root, start) = match make(&plan, &mut slots, entrances, channel) {
        Ok(made) => made,
        Err(failure) => fail(channel, failure),
    };
    // Who starts a container that was left alone hears of it by a connection of its own.
    let channel = start.as_ref().map_or(channel, AsFd::as_fd);
    let prepared = plan.process.asks_agent();
    let hooks = plan.hooks.as_ref();
    let failure = process::become_program(&mut plan.process, root.as_fd(), channel, hooks, prepared);
    fail(channel, failure)
}

/// Joins the container behind `container` (namespaces of `kinds`) and executes a program there. With its PID namespace
/// among `kinds` this process stays outside of that, and the program's is another.
pub(crate) fn joined(
    plan: &mut ProcessPlan,
    container: &OwnedFd,
    kinds: rustix::thread::ThreadNameSpaceType,
    entrances: &[OwnedFd],
    channel: BorrowedFd<'_>,
) -> ! {
    hide();
    let join = || {
        hold(plan, channel)?;
        kernel::cgroup::enter(entrances.iter().map(AsFd::as_fd)).at(Step::EnterCgroup, 0)?;
        settle(plan, channel)?;
        kernel::namespace::enter(container, kinds).at(Step::JoinNamespace, 0)?;
        if kinds.contains(rustix::thread::ThreadNameSpaceType::USER) {
            match process::become_root() {
                // Nobody is root in there.
                Err(Errno::INVAL) => {}
                other => other.at(Step::BecomeRoot, 0)?,
            }
            hide();
        }
        if let Some(root) = &plan.shared_root {
            change_root(root.as_fd()).at(Step::PivotRoot, 0)?;
        }
        process::join_keyring(plan, channel)?;
        let root = open_root()?;
        if plan.terminal {
            console::make(root.as_fd(), plan, false, channel)?;
        }
        let_go(plan, root.as_fd(), channel, None)?;
        send(channel, &Message::Ready).at(Step::AwaitStart, 0)?;
        await_message(channel, Step::AwaitStart)?;
        Ok(root)
    };
    let failure = match join() {
        Ok(root) if plan.born_last => last::become_program(plan, root, channel),
        Ok(root) => process::become_program(plan, root.as_fd(), channel, None, false),
        Err(failure) => failure,
    };
    fail(channel, failure)
}

/// Nobody without rights over the whole machine traces this process or looks at its descriptors and memory, which are
/// still the parent's (CVE-2016-9962). The program gets this back by being executed.
pub(super) fn hide() {
    // Fails for no value that exists.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Closes what the parent has open: from here on this process follows paths that the container made.
fn let_go(
    plan: &ProcessPlan,
    root: BorrowedFd<'_>,
    channel: BorrowedFd<'_>,
    hooks: Option<&HookPlans>,
) -> Result<(), Failure> {
    let stdio = |n: usize| plan.stdio.as_ref().map(|fds| fds[n].as_fd());
    let kept = [
        Some(root),
        Some(channel),
        stdio(0),
        stdio(1),
        stdio(2),
        plan.listener.as_ref().map(AsFd::as_fd),
        hooks.map(|h| h.starting.as_fd()),
        hooks.map(|h| h.output.as_fd()),
    ];
    kernel::process::close_all_but(3 + plan.preserved, kept).at(Step::CloseDescriptors, 0)
}

/// What ends a process that waits. The first of a PID namespace is deaf to them unless it listens itself.
const ENDING: [i32; 4] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// Receives, for a process that will wait alone, the signals that are to end it. They come to the program as usual again.
fn endings(plan: &ProcessPlan) -> Result<Option<Signals>, Failure> {
    let signals = plan.listener.as_ref().map(|_| Signals::receive(&ENDING)).transpose();
    signals.map_err(|e| e.errno().unwrap_or(Errno::IO)).at(Step::AwaitStart, 0)
}

/// Waits for a connection, or for a signal that ends this process.
fn await_connection(listener: &OwnedFd, signals: Option<&Signals>) -> rustix::io::Result<OwnedFd> {
    loop {
        if let Some(signals) = signals {
            let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            if let Some(signal) = signals.next() {
                kernel::process::exit_now(128 + signal);
            }
        }
        match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
            Err(Errno::INTR | Errno::CONNABORTED | Errno::AGAIN) => {}
            other => return other,
        }
    }
}

/// Waits for the start: by the channel, or, once the parent has left this process alone, by a connection. Who connects
/// and leaves without a word has looked whether this process still waits.
fn await_start(
    channel: BorrowedFd<'_>,
    listener: Option<&OwnedFd>,
    signals: Option<&Signals>,
) -> Result<Option<OwnedFd>, Failure> {
    let refused = |errno| Failure { step: Step::AwaitStart, index: 0, errno };
    match (receive(channel).at(Step::AwaitStart, 0)?, listener) {
        (Some(Message::Start), _) => Ok(None),
        (Some(Message::Detach), Some(listener)) => loop {
            let connection = await_connection(listener, signals).map_err(refused)?;
            if let Ok(Some(Message::Start)) = receive(connection.as_fd()) {
                return Ok(Some(connection));
            }
        },
        _ => Err(refused(Errno::PIPE)),
    }
}

fn fail(channel: BorrowedFd<'_>, failure: Failure) -> ! {
    // If nobody listens any more there is nobody to tell.
    let _ = send(channel, &Message::Failed(failure));
    kernel::process::exit_now(1)
}

/// Makes `root` this process's root, in a mount namespace that others use too.
fn change_root(root: BorrowedFd<'_>) -> rustix::io::Result<()> {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(c".")?;
    rustix::process::chdir(c"/")
}

fn open_root() -> Result<OwnedFd, Failure> {
    rustix::fs::open(c"/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(Step::PivotRoot, 0)
}

/// Waits for the parent's word. A parent that is gone ends the container before it began.
fn await_message(channel: BorrowedFd<'_>, step: Step) -> Result<(), Failure> {
    match receive(channel).at(step, 0)? {
        Some(Message::Placed | Message::Mapped | Message::HooksDone | Message::Start) => Ok(()),
        _ => Err(Failure { step, index: 0, errno: Errno::PIPE }),
    }
}

fn make(
    plan: &Plan,
    slots: &mut [Option<OwnedFd>],
    entrances: &[OwnedFd],
    channel: BorrowedFd<'_>,
) -> Result<(OwnedFd, Option<OwnedFd>), Failure> {
    hold(&plan.process, channel)?;
    if !plan.namespaces.through_another() {
        begin(plan, entrances, channel)?;
    }
    if plan.awaits_parent() {
        await_message(channel, Step::AwaitMapping)?;
    }
    if plan.namespaces.has_user() {
        process::become_root().at(Step::BecomeRoot, 0)?;
        hide();
    }
    process::join_keyring(&plan.process, channel)?;
    if plan.namespaces.new_cgroup {
        kernel::namespace::unshare(UnshareFlags::NEWCGROUP).at(Step::Unshare, 0)?;
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name).at(Step::HostName, 0)?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name).at(Step::DomainName, 0)?;
    }
    rootfs::attach_root(plan, slots)?;
    rootfs::furnish(plan, slots, plan.root.tree.as_fd(), channel)?;
    if let Some(hooks) = &plan.hooks {
        if hooks.pause {
            send(channel, &Message::Hooks).at(Step::CreateContainerHook, 0)?;
            await_message(channel, Step::CreateContainerHook)?;
        }
        let step = Step::CreateContainerHook;
        // Where others run them: what they name without a path lies in the container's root.
        rustix::process::fchdir(&plan.root.tree).at(step, 0)?;
        hooks::run(&hooks.create_container, &plan.process.env, &hooks.creating, hooks, step, channel)?;
    }
    let root = rootfs::pivot(plan)?;
    if plan.process.terminal {
        console::make(root.as_fd(), &plan.process, true, channel)?;
    }
    rootfs::seal(plan, slots, root.as_fd())?;
    if plan.process.listener.is_some() {
        process::find_program(&plan.process)?;
    }
    let_go(&plan.process, root.as_fd(), channel, plan.hooks.as_ref())?;
    if plan.process.asks_agent() {
        // Its agent is handed the descriptor by whoever creates the container: an agent that is not there is told now.
        process::prepare(&plan.process, root.as_fd(), channel)?;
    }
    let signals = endings(&plan.process)?;
    send(channel, &Message::Ready).at(Step::AwaitStart, 0)?;
    let start = await_start(channel, plan.process.listener.as_ref(), signals.as_ref())?;
    Ok((root, start))
}

/// Goes where the container is: its cgroup and the namespaces it joins.
pub(crate) fn begin(plan: &Plan, entrances: &[OwnedFd], channel: BorrowedFd<'_>) -> Result<(), Failure> {
    hide();
    kernel::cgroup::enter(entrances.iter().map(AsFd::as_fd)).at(Step::EnterCgroup, 0)?;
    settle(&plan.process, channel)?;
    join_namespaces(&plan.namespaces.joined)
}

/// Joins namespaces, each with the rights that its owner wants: those of the host first, those of the user namespace
/// after it is joined, and mounts last.
fn join_namespaces(namespaces: &[(LinkNameSpaceType, OwnedFd)]) -> Result<(), Failure> {
    use LinkNameSpaceType::{Mount, User};
    let has_user = namespaces.iter().any(|(kind, _)| *kind == User);
    let mut left = [true; 8];
    // The last round is for those that wanted the rights of the user namespace.
    for round in 0..4 {
        for (index, (kind, file)) in namespaces.iter().enumerate() {
            let turn = match *kind {
                User => round == 2,
                Mount => round == 1 || round == 3,
                _ => round == 0 || round == 3,
            };
            let Some(left) = left.get_mut(index).filter(|left| **left && turn) else { continue };
            match rustix::thread::move_into_link_name_space(file.as_fd(), Some(*kind)) {
                Err(Errno::PERM) if has_user && round < 2 => {}
                other => {
                    other.at(Step::JoinNamespace, index)?;
                    *left = false;
                }
            }
        }
    }
    Ok(())
}

/// What takes the host's procfs, and the place in the cgroup.
fn settle(plan: &ProcessPlan, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    set_oom_score(plan, channel)?;
    schedule::cpus(&plan.schedule)?;
    label::apply(&plan.labels)
}

/// Waits, where that is asked for, until somebody else has moved this process to its cgroup.
fn hold(plan: &ProcessPlan, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    if plan.held { await_message(channel, Step::EnterCgroup) } else { Ok(()) }
}

/// Written while the host's procfs can still be reached. A score that may not be lowered (that takes
/// CAP_SYS_RESOURCE) stays as it is, with a warning.
fn set_oom_score(plan: &ProcessPlan, channel: BorrowedFd<'_>) -> Result<(), Failure> {
    let Some(score) = &plan.oom_score_adj else { return Ok(()) };
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()).at(Step::OomScore, 0)?;
    match rustix::io::write(&file, score) {
        Ok(_) => Ok(()),
        Err(errno @ (Errno::ACCESS | Errno::PERM)) => {
            let warning = Message::Warning(Failure { step: Step::OomScore, index: 0, errno }, 0);
            send(channel, &warning).at(Step::OomScore, 0)
        }
        Err(errno) => Err(errno).at(Step::OomScore, 0),
    }
}
