//! What is made and waits: the parent's side of the channel to a container's process.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kernel::Act;
use kernel::process::Child;
use rustix::io::Errno;

use crate::agent::Agent;
use crate::contract::{Hooks, Linux, Spec, State};
use crate::describe::{failure_error, warning_text};
use crate::init::report::{self, Message};
use crate::plan::{self, Plan, ProcessPlan};
use crate::{Error, Result, hooks, outside};

/// A container that is made, and whose program waits to be executed.
///
/// Dropping it ends its process.
#[derive(Debug)]
pub struct Created {
    child: Option<Child>,
    /// Who made the child, and ends with that.
    between: Option<Child>,
    channel: OwnedFd,
    process: Described,
    agent: Option<Agent>,
    /// A container's hooks, and what they are told.
    pub(crate) life: Option<(Hooks, State)>,
    /// It was told to execute its program.
    told: bool,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// What could not be done in full, as sentences for the operator.
    pub warnings: Vec<String>,
}

/// What is left of a plan for messages.
#[derive(Debug)]
pub(crate) enum Described {
    Container(Box<Plan>),
    Joined(Box<ProcessPlan>),
}

impl Created {
    pub(crate) fn new(child: Child, channel: OwnedFd, process: Described, agent: Option<Agent>) -> Self {
        Self {
            child: Some(child),
            between: None,
            channel,
            process,
            agent,
            life: None,
            told: false,
            console: None,
            warnings: Vec::new(),
        }
    }

    /// The process, which has executed nothing yet. Its number is one of the caller's PID namespace.
    ///
    /// Of [`begin_join`](crate::begin_join) it may be one that makes the program's: whose number that is
    /// [`start`](Self::start) and [`into_child`](Self::into_child) tell. What is done to the one is done to the other.
    pub fn pid(&self) -> i32 {
        self.child.as_ref().map_or(0, |c| c.pid)
    }

    /// The process as a descriptor.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(|c| c.pidfd.as_fd())
    }

    /// What `--debug` tells of it: the flags its system call filter is loaded with, and the CPUs it starts on.
    pub(crate) fn details(&self) -> Vec<String> {
        let plan = match &self.process {
            Described::Container(plan) => &plan.process,
            Described::Joined(plan) => plan.as_ref(),
        };
        let flags = plan.seccomp.as_ref().map(|filter| filter.flags.bits());
        let flags = flags.map(|flags| format!("seccomp filter flags: {flags}"));
        let cpus = plan.schedule.first_cpus.as_ref().map(|words| {
            let digits: String = words.iter().rev().map(|word| format!("{word:016x}")).collect();
            format!("nsexec: affinity: 0x{}", digits.trim_start_matches('0'))
        });
        flags.into_iter().chain(cpus).collect()
    }

    /// Does what the process waits for and cannot do itself.
    pub(crate) fn map_ids(&mut self) -> Result<()> {
        let pid = self.pid();
        let Described::Container(plan) = &mut self.process else { return Ok(()) };
        if !plan.awaits_parent() {
            return Ok(());
        }
        outside::complete(plan, pid)?;
        self.say(&Message::Mapped)
    }

    /// Lets a process go on that is held (see [`Setup::held`](crate::Setup::held)): it is in its cgroup now.
    pub fn release(&mut self) -> Result<()> {
        self.say(&Message::Placed)?;
        self.map_ids()
    }

    /// Goes on to where the program would run, with the hooks that come before. A caller of
    /// [`create`](crate::create) and [`join`](crate::join) has been here.
    pub fn until_ready(&mut self) -> Result<()> {
        if let (Described::Container(plan), Some((_, state))) = (&self.process, &self.life)
            && let Some(plans) = &plan.hooks
        {
            plan::hooks::fill(&plans.creating, state)?;
            plan::hooks::fill(&plans.starting, state)?;
        }
        let pid = self.pid();
        let outcome = self.wait_for_ready().and_then(|()| match &self.process {
            Described::Container(plan) => outside::check(plan, pid),
            Described::Joined(_) => Ok(()),
        });
        if let Described::Container(plan) = &mut self.process {
            match outcome {
                Ok(()) => drop(plan.moved.take()),
                Err(_) => outside::give_back(plan),
            }
        }
        outcome
    }

    fn wait_for_ready(&mut self) -> Result<()> {
        loop {
            match self.next()? {
                Some(Message::Ready) => return Ok(()),
                Some(Message::Console(master)) => self.console = Some(master),
                Some(Message::Hooks) => self.run_hooks()?,
                Some(Message::Tree(tree, index)) => {
                    if let Described::Container(plan) = &self.process {
                        outside::map_inside(plan, usize::from(index), &tree, self.pid())?;
                    }
                    self.say(&Message::Mapped)?;
                }
                Some(_) => {}
                None => return Err(self.vanished()),
            }
        }
    }

    /// The hooks of the parent's side, before the root is changed.
    fn run_hooks(&self) -> Result<()> {
        if let Some((hooks, state)) = &self.life {
            hooks::run("prestart", &hooks.prestart, state)?;
            hooks::run("createRuntime", &hooks.create_runtime, state)?;
        }
        self.say(&Message::HooksDone)
    }

    fn say(&self, message: &Message) -> Result<()> {
        Ok(report::send(self.channel.as_fd(), message).act("reach", || "the container's process")?)
    }

    /// The next message; failures become errors, warnings are kept, and a seccomp agent gets its descriptor.
    fn next(&mut self) -> Result<Option<Message>> {
        let message = report::receive(self.channel.as_fd()).act("hear from", || "the container's process")?;
        let message = match message {
            Some(Message::Born(pidfd, pid)) => return self.succeed(Child { pid, pidfd }).map(Some),
            None if self.told && self.is_born_last() => return self.succeeded(),
            other => other,
        };
        let (plan, process) = match &self.process {
            Described::Container(plan) => (Some(plan.as_ref()), &plan.process),
            Described::Joined(process) => (None, process.as_ref()),
        };
        match &message {
            Some(Message::Failed(failure)) => return Err(failure_error(failure, plan, process)),
            Some(Message::Warning(failure, rest)) => {
                self.warnings.push(warning_text(failure, *rest, process));
            }
            Some(Message::Listener(listener)) => {
                if let Some(agent) = &self.agent {
                    agent.hand_over(listener, self.pid())?;
                }
            }
            _ => {}
        }
        Ok(message)
    }

    fn is_born_last(&self) -> bool {
        matches!(&self.process, Described::Joined(plan) if plan.born_last)
    }

    /// The process so far has made the program's and ends. Once, and only a child: whoever gets hold of the new one has its
    /// side of the channel. The answer is a message that asks for nothing more.
    fn succeed(&mut self, child: Child) -> Result<Message> {
        if !self.is_born_last() || !self.told || self.between.is_some() || !child.is_own() {
            return Err(kernel::Error::new("hear from", "the container's process", Errno::BADMSG).into());
        }
        self.between = self.child.replace(child);
        Ok(Message::Start)
    }

    /// The channel is closed: by the end of the process in between, which is on its way out, and by the other's exec.
    fn succeeded(&mut self) -> Result<Option<Message>> {
        let between = self.between.take().ok_or_else(|| self.vanished())?;
        between.wait()?;
        Ok(None)
    }

    fn vanished(&mut self) -> Error {
        let code = self.child.take().and_then(|c| c.wait().ok()).map_or(-1, kernel::process::Exit::code);
        Error::Vanished { code }
    }

    /// Readable when [`advance`](Self::advance) has something to do.
    pub fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next step of [`begin_join`]: true once the program is executed, and [`into_child`](Self::into_child) may
    /// follow. Waits if the channel is not readable.
    pub fn advance(&mut self) -> Result<bool> {
        match self.next()? {
            Some(Message::Console(master)) if !self.told => self.console = Some(master),
            Some(Message::Ready) if !self.told => {
                self.told = true;
                report::send(self.channel.as_fd(), &Message::Start)
                    .act("reach", || "the container's process")?;
            }
            Some(_) => {}
            // The channel closes with a successful exec.
            None if self.told => return Ok(true),
            None => return Err(self.vanished()),
        }
        Ok(false)
    }

    /// The process that executes its program, and the warnings so far.
    pub fn into_child(mut self) -> Result<(Child, Vec<String>)> {
        let child = self.child.take().ok_or(Error::Vanished { code: -1 })?;
        Ok((child, std::mem::take(&mut self.warnings)))
    }

    /// Executes the program and runs the poststart hooks. Returns once the kernel has accepted the program, with the
    /// process and the warnings so far.
    pub fn start(mut self) -> Result<(Child, Vec<String>)> {
        self.say(&Message::Start)?;
        self.told = true;
        let hooked = self.life.as_ref().is_some_and(|(hooks, _)| !hooks.start_container.is_empty());
        let mut passed = false;
        // The channel closes with a successful exec, and with the end of the process, too.
        while let Some(message) = self.next()? {
            passed |= matches!(message, Message::HooksDone);
        }
        if hooked && !passed {
            return Err(self.vanished());
        }
        if let Some((hooks, state)) = &self.life {
            hooks::poststart(Some(hooks), state)?;
        }
        self.into_child()
    }

    /// Leaves the process alone: it waits on its listening socket for [`start_waiting`], and outlives this one.
    pub fn detach(self) -> Result<(Child, Vec<String>)> {
        self.say(&Message::Detach)?;
        self.into_child()
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        for child in [self.between.take(), self.child.take()].into_iter().flatten() {
            drop(kernel::process::signal(child.pidfd.as_fd(), libc::SIGKILL));
            drop(child.wait());
        }
    }
}

/// Starts a container that was left alone by [`Created::detach`]: its process listens at `socket`, is `state.pid`, and
/// `pidfd` is it. `spec` is asked for only where something is to be said of it.
///
/// Of `hooks` those at the start and after it count. On an error the container's process has ended, unless nobody
/// listened (`ECONNREFUSED`).
pub fn start_waiting(
    socket: &Path,
    pidfd: BorrowedFd<'_>,
    state: &State,
    hooks: Option<&Hooks>,
    spec: impl Fn() -> Result<Spec>,
) -> Result<Vec<String>> {
    let say = || format!("container {} (its process does not wait for a start)", state.id);
    let channel = crate::unix::connect(socket, rustix::net::SocketType::SEQPACKET).act("start", say)?;
    let started = start_by(channel, state, hooks, spec).and_then(|warnings| {
        hooks::poststart(hooks, state)?;
        Ok(warnings)
    });
    if started.is_err() {
        // It may have ended by itself, or be on its way out: whoever asks next is to see it stopped.
        let _ = kernel::process::signal(pidfd, libc::SIGKILL);
        let _ = kernel::process::await_end(pidfd, Some(std::time::Duration::from_secs(10)), None);
    }
    started
}

fn start_by(
    channel: OwnedFd,
    state: &State,
    hooks: Option<&Hooks>,
    spec: impl Fn() -> Result<Spec>,
) -> Result<Vec<String>> {
    let say = || "the container's process";
    report::send(channel.as_fd(), &Message::Start).act("reach", say)?;
    let mut warnings = Vec::new();
    let mut passed = hooks.is_none_or(|h| h.start_container.is_empty());
    while let Some(message) = report::receive(channel.as_fd()).act("hear from", say)? {
        if matches!(message, Message::HooksDone) {
            passed = true;
            continue;
        }
        let spec = spec()?;
        let none = Linux::default();
        let linux = spec.linux.as_ref().unwrap_or(&none);
        let process = || plan::process::plan(&spec.process.clone().unwrap_or_default(), linux, None, false);
        match message {
            Message::Failed(failure) => {
                return Err(failure_error(&failure, None, &process()?).with_hook(spec.hooks.as_ref()));
            }
            Message::Warning(failure, rest) => warnings.push(warning_text(&failure, rest, &process()?)),
            Message::Listener(listener) => {
                if let Some(agent) = Agent::of(linux.seccomp.as_ref(), state) {
                    agent.hand_over(&listener, state.pid)?;
                }
            }
            _ => {}
        }
    }
    if passed { Ok(warnings) } else { Err(Error::Vanished { code: -1 }) }
}
