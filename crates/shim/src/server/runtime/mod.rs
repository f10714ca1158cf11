//! Who runs the containers: the runtime in this process, or a program of others.
//!
//! Whoever it is, the streams of processes are this process's, and so are logs, exit codes and whoever waits for them.

mod call;
mod foreign;
mod program;

use std::os::fd::{BorrowedFd, OwnedFd};

use std::fs;
use std::path::{Path, PathBuf};

use kernel::process::Child;
use oci_runtime::{Created, Join};

use super::connection::Refusal;
use super::container::{self, Container};
use super::process::{Process, Running, kill_and_reap};
use super::{FIRST, Key};
use crate::protocol::{Code, OtherRuntime, RuntimeKind, Size};
pub(super) use foreign::{Answer, Awaited, Foreign};
use program::Program;

/// Who runs containers.
#[derive(Debug, Default)]
pub(super) enum Runtime {
    /// The runtime in this process.
    #[default]
    BuiltIn,
    /// Another OCI runtime's command.
    Program(Program),
    /// Another shim.
    Foreign(Box<Foreign>),
}

/// A container's process that waits for its program to be executed. Dropping it ends it.
#[derive(Debug)]
pub(super) enum Made {
    /// By the runtime in this process.
    BuiltIn(Box<Created>),
    /// By a command that has ended since.
    Left(Left),
    /// By another shim: the number that it tells. It ends with the container there.
    Remote(i32),
}

/// What came of a container's making.
pub(super) struct Creation {
    pub(super) made: Made,
    /// What could not be done in full.
    pub(super) warnings: Vec<String>,
    /// The socket of the shim of others that was started for it.
    pub(super) shim: Option<String>,
}

/// Files that go with this.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        self.0.iter().for_each(|path| drop(fs::remove_file(path)));
    }
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
    /// Its number, if it is a child of this process.
    pub(super) fn child_pid(&self) -> Option<i32> {
        match self {
            Self::BuiltIn(_) | Self::Left(_) => Some(self.pid()),
            Self::Remote(_) => None,
        }
    }

    pub(super) fn pid(&self) -> i32 {
        match self {
            Self::BuiltIn(created) => created.pid(),
            Self::Left(left) => left.0.as_ref().map_or(0, |child| child.pid),
            Self::Remote(pid) => *pid,
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
    /// By another shim, whose answers advance it.
    Remote(foreign::Joining),
}

impl Joining {
    /// Readable when [`advance`](Self::advance) has something to do.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::BuiltIn(created) => Some(created.channel()),
            Self::Program(joining) => joining.descriptor(),
            Self::Remote(_) => None,
        }
    }

    /// The number of the child that brings it in.
    pub(super) fn pid(&self) -> i32 {
        match self {
            Self::BuiltIn(created) => created.pid(),
            Self::Program(joining) => joining.pid(),
            Self::Remote(_) => 0,
        }
    }

    /// When it is given up, if that is a question of time.
    pub(super) fn deadline(&self) -> Option<std::time::Instant> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Program(joining) => Some(joining.deadline()),
            Self::Remote(joining) => Some(joining.deadline()),
        }
    }

    /// The next step: true once the program is executed, and [`into_running`](Self::into_running) may follow.
    pub(super) fn advance(&mut self) -> Result<bool, Refusal> {
        match self {
            Self::BuiltIn(created) => created.advance().map_err(container::refusal),
            Self::Program(joining) => joining.advance(),
            Self::Remote(joining) => joining.advance(),
        }
    }

    /// The master of its terminal, once it is known.
    pub(super) fn take_console(&mut self) -> Option<OwnedFd> {
        match self {
            Self::BuiltIn(created) => created.console.take(),
            Self::Program(joining) => joining.console.take(),
            Self::Remote(_) => None,
        }
    }

    /// The process, and what could not be done in full.
    pub(super) fn into_running(self) -> Result<(Running, Vec<String>), Refusal> {
        match self {
            Self::BuiltIn(created) => {
                let (child, warnings) = created.into_child().map_err(container::refusal)?;
                Ok((Running::Child(child), warnings))
            }
            Self::Program(joining) => joining.into_child().map(|child| (Running::Child(child), Vec::new())),
            Self::Remote(_) => Err(Refusal::internal("the process is not there yet")),
        }
    }
}

/// A process that is to be brought into a container.
pub(super) struct Newcomer<'a> {
    pub(super) exec_id: &'a str,
    pub(super) process: &'a oci_runtime::contract::Process,
    /// Its streams; none if it has a terminal, or they are FIFOs.
    pub(super) stdio: Option<[OwnedFd; 3]>,
    /// It has an input.
    pub(super) stdin: bool,
}

impl Runtime {
    /// What a pod asks for; `directory` is the pod's own.
    pub(super) fn of(other: Option<&OtherRuntime>, directory: &Path) -> Result<Self, Refusal> {
        match other {
            None => Ok(Self::BuiltIn),
            Some(other) => match other.kind() {
                RuntimeKind::Oci => Program::new(other, directory).map(Self::Program),
                RuntimeKind::Shim => Foreign::new(other, directory).map(Box::new).map(Self::Foreign),
            },
        }
    }

    /// The shim of others, where there is one.
    pub(super) fn foreign(&self) -> Option<&Foreign> {
        match self {
            Self::Foreign(foreign) => Some(foreign),
            Self::BuiltIn | Self::Program(_) => None,
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
    ) -> Result<Creation, Refusal> {
        let of = |made| Creation { made, warnings: Vec::new(), shim: None };
        match self {
            Self::BuiltIn => {
                let created = container.create(process, namespace)?;
                let warnings = created.warnings.clone();
                Ok(Creation { warnings, ..of(Made::BuiltIn(Box::new(created))) })
            }
            Self::Program(program) => {
                let child = program.create(container, process)?;
                container.place.found();
                Ok(of(Made::Left(Left(Some(child)))))
            }
            Self::Foreign(foreign) => {
                let (pid, shim) = foreign.create(container, process)?;
                container.place.found();
                Ok(Creation { shim, ..of(Made::Remote(pid)) })
            }
        }
    }

    /// Executes a container's program.
    pub(super) fn start(&self, id: &str, made: Made) -> Result<(Running, Vec<String>), Refusal> {
        match (self, made) {
            (_, Made::BuiltIn(created)) => {
                let (child, warnings) = created.start().map_err(container::refusal)?;
                Ok((Running::Child(child), warnings))
            }
            (Self::Program(program), Made::Left(mut left)) => {
                program.start(id)?;
                let child = left.0.take().ok_or_else(|| Refusal::internal("the process is gone"))?;
                Ok((Running::Child(child), Vec::new()))
            }
            (Self::Foreign(foreign), Made::Remote(_)) => {
                foreign.start(id).map(|pid| (Running::Remote(pid), Vec::new()))
            }
            _ => Err(Refusal::internal("nobody here has made this process")),
        }
    }

    /// Begins to bring `joining` into a container that runs; `own` is the container's own process.
    pub(super) fn join(
        &self,
        container: &Container,
        own: &Process,
        (key, joining): (Key, &mut Process),
        newcomer: Newcomer<'_>,
    ) -> Result<Joining, Refusal> {
        let not_running = || Refusal::new(Code::FailedPrecondition, "the container is not running");
        match self {
            _ if !own.is_running() => return Err(not_running()),
            Self::BuiltIn => {}
            Self::Program(program) => return program.join(container, newcomer).map(Joining::Program),
            Self::Foreign(foreign) => {
                return foreign.join(container, joining, &newcomer, key).map(Joining::Remote);
            }
        }
        let first = container::first(own).ok_or_else(not_running)?;
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
        begun.map(|begun| Joining::BuiltIn(Box::new(begun))).map_err(container::refusal)
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
            Self::Foreign(foreign) => foreign.kill(&process.container, &process.exec_id, signal),
            Self::BuiltIn | Self::Program(_) => directly(),
        }
    }

    /// Changes the size of a process's terminal.
    pub(super) fn resize(&self, process: &Process, size: Size) -> Result<(), Refusal> {
        match self {
            Self::Foreign(foreign) => foreign.resize(&process.container, &process.exec_id, size),
            Self::BuiltIn | Self::Program(_) => process.resize(size).map_err(Refusal::internal)?,
        }
        Ok(())
    }

    /// Freezes a container, or lets it go on.
    pub(super) fn freeze(&self, container: &Container, frozen: bool) -> Result<(), Refusal> {
        match self {
            Self::BuiltIn => {}
            Self::Program(program) => return program.freeze(&container.request.id, frozen),
            Self::Foreign(foreign) => return foreign.freeze(&container.request.id, frozen),
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
            Self::Foreign(foreign) => foreign.update(&container.request.id, json).map(|()| Vec::new()),
        }
    }

    /// A container has ended: does what comes at the end.
    pub(super) fn ended(&self, container: &Container) {
        match self {
            Self::BuiltIn => container.run_poststop(),
            Self::Program(program) => program.forget(&container.request.id),
            // One that did not start is there still.
            Self::Foreign(foreign) => foreign.forget(&container.request.id),
        }
    }

    /// A container is forgotten, and its processes are gone: takes back what was made of one that has not ended.
    pub(super) fn forget(&self, container: &Container) {
        match self {
            Self::Program(program) if !container.ended => program.forget(&container.request.id),
            Self::Foreign(foreign) if !container.ended => foreign.forget(&container.request.id),
            _ => {}
        }
    }

    /// A container that was made is not to be after all; `first` if the shim of others was started for it.
    pub(super) fn undo(&self, container: &Container, first: bool) {
        match self {
            Self::Foreign(foreign) => foreign.undo(&container.request.id, first),
            _ => self.forget(container),
        }
    }

    /// A process that is not to run, or whose end nobody here waits for any more.
    pub(super) fn abandon(&self, process: &Process) {
        let begun = process.joining.is_some() || process.is_running();
        if let (Self::Foreign(foreign), true, true) = (self, begun, process.exec_id != FIRST) {
            foreign.abandon(&process.container, &process.exec_id);
        }
    }
}

/// Whether the program of others can be executed.
fn check_program(other: &OtherRuntime) -> Result<(), Refusal> {
    let refuse = |e: &dyn std::fmt::Display| {
        let message = format!("handler {}: {}: {e}", other.handler, other.program);
        Refusal::new(Code::InvalidArgument, message)
    };
    if !Path::new(&other.program).is_absolute() {
        return Err(refuse(&"is no absolute path"));
    }
    rustix::fs::access(other.program.as_str(), rustix::fs::Access::EXEC_OK)
        .map_err(|e| refuse(&std::io::Error::from(e)))
}
