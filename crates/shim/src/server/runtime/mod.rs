//! Who runs the containers: the runtime in this process, or a program of others.
//!
//! Whoever it is, the streams of processes are this process's, and so are logs, exit codes and whoever waits for them.

mod program;

use std::os::fd::{BorrowedFd, OwnedFd};

use kernel::process::Child;
use oci_runtime::{Created, Join};

use super::connection::Refusal;
use super::container::{self, Container};
use super::process::{Process, kill_and_reap};
use crate::protocol::{Code, OtherRuntime};
use program::Program;

/// Who runs containers.
#[derive(Debug, Default)]
pub(super) enum Runtime {
    /// The runtime in this process.
    #[default]
    BuiltIn,
    /// Another OCI runtime's command.
    Program(Program),
}

/// A container's process that waits for its program to be executed. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Made {
    /// By the runtime in this process.
    BuiltIn(Box<Created>),
    /// By a command that has ended since.
    Left(Left),
}

/// A process that a command has left to this one.
#[derive(Debug)]
pub(super) struct Left(Option<Child>);

impl Drop for Left {
    fn drop(&mut self) {
        self.0.iter().for_each(kill_and_reap);
    }
}

impl Made {
    pub(super) fn pid(&self) -> i32 {
        match self {
            Self::BuiltIn(created) => created.pid(),
            Self::Left(left) => left.0.as_ref().map_or(0, |child| child.pid),
        }
    }
}

/// A process on its way into a container. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Joining {
    /// By the runtime in this process.
    BuiltIn(Box<Created>),
    /// By a command.
    Program(program::Joining),
}

impl Joining {
    /// Readable when [`advance`](Self::advance) has something to do.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::BuiltIn(created) => Some(created.channel()),
            Self::Program(joining) => joining.descriptor(),
        }
    }

    /// The number of the child that brings it in.
    pub(super) fn pid(&self) -> i32 {
        match self {
            Self::BuiltIn(created) => created.pid(),
            Self::Program(joining) => joining.pid(),
        }
    }

    /// When it is given up, if that is a question of time.
    pub(super) fn deadline(&self) -> Option<std::time::Instant> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Program(joining) => Some(joining.deadline()),
        }
    }

    /// The next step: true once the program is executed, and [`into_child`](Self::into_child) may follow.
    pub(super) fn advance(&mut self) -> Result<bool, Refusal> {
        match self {
            Self::BuiltIn(created) => created.advance().map_err(container::refusal),
            Self::Program(joining) => joining.advance(),
        }
    }

    /// The master of its terminal, once it is known.
    pub(super) fn take_console(&mut self) -> Option<OwnedFd> {
        match self {
            Self::BuiltIn(created) => created.console.take(),
            Self::Program(joining) => joining.console.take(),
        }
    }

    /// The process, and what could not be done in full.
    pub(super) fn into_child(self) -> Result<(Child, Vec<String>), Refusal> {
        match self {
            Self::BuiltIn(created) => created.into_child().map_err(container::refusal),
            Self::Program(joining) => joining.into_child().map(|child| (child, Vec::new())),
        }
    }
}

/// A process that is to be brought into a container.
pub(super) struct Newcomer<'a> {
    pub(super) exec_id: &'a str,
    pub(super) process: &'a oci_runtime::contract::Process,
    /// Its streams; none if it has a terminal.
    pub(super) stdio: Option<[OwnedFd; 3]>,
}

impl Runtime {
    /// What a pod asks for; `directory` is the pod's own.
    pub(super) fn of(other: Option<&OtherRuntime>, directory: &std::path::Path) -> Result<Self, Refusal> {
        match other {
            None => Ok(Self::BuiltIn),
            Some(other) => Program::new(other, directory).map(Self::Program),
        }
    }

    pub(super) fn is_built_in(&self) -> bool {
        matches!(self, Self::BuiltIn)
    }

    /// Makes a container's process. `namespace` is containerd's, for a logger.
    pub(super) fn create(
        &self,
        container: &mut Container,
        process: &mut Process,
        namespace: &str,
    ) -> Result<(Made, Vec<String>), Refusal> {
        match self {
            Self::BuiltIn => {
                let created = container.create(process, namespace)?;
                let warnings = created.warnings.clone();
                Ok((Made::BuiltIn(Box::new(created)), warnings))
            }
            Self::Program(program) => {
                let child = program.create(container, process)?;
                Ok((Made::Left(Left(Some(child))), Vec::new()))
            }
        }
    }

    /// Executes a container's program.
    pub(super) fn start(&self, id: &str, made: Made) -> Result<(Child, Vec<String>), Refusal> {
        match (self, made) {
            (_, Made::BuiltIn(created)) => created.start().map_err(container::refusal),
            (Self::Program(program), Made::Left(mut left)) => {
                program.start(id)?;
                let child = left.0.take().ok_or_else(|| Refusal::internal("the process is gone"))?;
                Ok((child, Vec::new()))
            }
            (Self::BuiltIn, Made::Left(_)) => Err(Refusal::internal("nobody here has made this process")),
        }
    }

    /// Begins to bring a process into a container that runs; `own` is the container's own.
    pub(super) fn join(
        &self,
        container: &Container,
        own: &Process,
        newcomer: Newcomer<'_>,
    ) -> Result<Joining, Refusal> {
        let not_running = || Refusal::new(Code::FailedPrecondition, "the container is not running");
        let first = container::first(own).ok_or_else(not_running)?;
        let Self::Program(program) = self else {
            let state = container.state(own.pid());
            let join = Join {
                spec: &container.spec,
                container: first,
                cgroup: container.place.cgroup(),
                rdt: None,
                held: false,
                stdio: newcomer.stdio,
                preserved: 0,
                keyring: true,
                state: &state,
            };
            // A process of the container may stop this one on its way: nobody else is to wait for it.
            let begun = oci_runtime::begin_join(newcomer.process, join);
            return begun.map(|begun| Joining::BuiltIn(Box::new(begun))).map_err(container::refusal);
        };
        program.join(container, newcomer).map(Joining::Program)
    }

    /// Sends a signal to a process. One that is gone counts as done.
    pub(super) fn signal(&self, process: &Process, signal: i32) -> Result<(), Refusal> {
        let directly =
            || process.signal(signal).map_err(|e| Refusal::new(Code::InvalidArgument, e.to_string()));
        match self {
            Self::Program(program) if process.exec_id.is_empty() && process.is_running() => {
                // Which process takes a signal for the container only its runtime knows; SIGKILL is no question of that.
                match program.kill(&process.container, signal) {
                    Err(_) if signal == libc::SIGKILL => directly(),
                    Err(_) if process.has_ended() => Ok(()),
                    told => told,
                }
            }
            Self::BuiltIn | Self::Program(_) => directly(),
        }
    }

    /// Freezes a container, or lets it go on.
    pub(super) fn freeze(&self, container: &Container, frozen: bool) -> Result<(), Refusal> {
        if let Self::Program(program) = self {
            return program.freeze(&container.request.id, frozen);
        }
        match container.place.cgroup() {
            Some(cgroup) => cgroup.freeze(frozen).map_err(Refusal::internal),
            None => Err(Refusal::new(Code::FailedPrecondition, "the container has no cgroup to freeze")),
        }
    }

    /// Changes limits to `json`, which says `limits`. Returns the names of those that nothing holds.
    pub(super) fn update(
        &self,
        container: &Container,
        json: &[u8],
        limits: &kernel::cgroup::Limits,
    ) -> Result<Vec<&'static str>, Refusal> {
        match self {
            Self::BuiltIn => container.place.update(limits),
            Self::Program(program) => program.update(container, json).map(|()| Vec::new()),
        }
    }

    /// A container has ended: does what comes at the end.
    pub(super) fn ended(&self, container: &Container) {
        match self {
            Self::BuiltIn => container.run_poststop(),
            Self::Program(program) => program.forget(&container.request.id),
        }
    }

    /// A container is forgotten, and its processes are gone: takes back what was made of one that has not ended.
    pub(super) fn forget(&self, container: &Container) {
        if let (Self::Program(program), false) = (self, container.ended) {
            program.forget(&container.request.id);
        }
    }
}
