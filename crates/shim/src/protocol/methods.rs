//! The methods, each with what it takes and what it answers.

use std::marker::PhantomData;

use super::{
    AttachRequest, ContainerRequest, Containers, CreateRequest, Empty, ExecRequest, Exited, KillRequest,
    Pids, ProcessRequest, ResizeRequest, SandboxReply, SandboxRequest, Started, State, StopRequest,
    UpdateRequest, Warnings,
};

/// A method that takes `Q` and answers `A`.
#[derive(Debug)]
pub struct Method<Q, A> {
    /// Its name on the wire.
    pub name: &'static str,
    kind: PhantomData<fn(Q) -> A>,
}

impl<Q, A> Method<Q, A> {
    const fn new(name: &'static str) -> Self {
        Self { name, kind: PhantomData }
    }
}

/// Makes the shim a pod's: before any container, once.
pub const SANDBOX: Method<SandboxRequest, SandboxReply> = Method::new("Sandbox");
/// Makes a container, whose program waits to be started.
pub const CREATE: Method<CreateRequest, Started> = Method::new("Create");
/// Executes a container's program.
pub const START: Method<ContainerRequest, Started> = Method::new("Start");
/// What a process is doing.
pub const STATE: Method<ProcessRequest, State> = Method::new("State");
/// What every container is doing.
pub const LIST: Method<Empty, Containers> = Method::new("List");
/// Answered at a process's end; at once if it has ended.
pub const WAIT: Method<ProcessRequest, Exited> = Method::new("Wait");
/// A stream ([`Input`](super::Input), [`Output`](super::Output)) to a new process; the answer is its end.
pub const EXEC: Method<ExecRequest, Exited> = Method::new("Exec");
/// A stream to a process that is there; the answer is its end.
pub const ATTACH: Method<AttachRequest, Exited> = Method::new("Attach");
/// A stream of [`ContainerEvent`](super::ContainerEvent), which has no end.
pub const EVENTS: Method<Empty, Empty> = Method::new("Events");
/// Sends a signal.
pub const KILL: Method<KillRequest, Empty> = Method::new("Kill");
/// Ends a container; answered when it has ended.
pub const STOP: Method<StopRequest, Exited> = Method::new("Stop");
/// Changes the size of a process's terminal.
pub const RESIZE: Method<ResizeRequest, Empty> = Method::new("Resize");
/// The processes of a container.
pub const PIDS: Method<ContainerRequest, Pids> = Method::new("Pids");
/// Freezes a container.
pub const PAUSE: Method<ContainerRequest, Empty> = Method::new("Pause");
/// Lets a frozen container go on.
pub const RESUME: Method<ContainerRequest, Empty> = Method::new("Resume");
/// Changes a container's limits.
pub const UPDATE: Method<UpdateRequest, Warnings> = Method::new("Update");
/// Opens a container's log anew, after somebody moved it away.
pub const REOPEN_LOG: Method<ContainerRequest, Empty> = Method::new("ReopenLog");
/// Forgets a container that has ended or was never started.
pub const DELETE: Method<ContainerRequest, Empty> = Method::new("Delete");
/// Ends a pod's shim; tells another's that the caller takes care of what is left.
pub const SHUTDOWN: Method<Empty, Empty> = Method::new("Shutdown");
