//! containerd's Task API, versions 2 and 3, which differ in the service's name alone; and what it is told of events.

use prost::Message;

/// The service's names on the wire.
pub const TASK_SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];
/// Where events go.
pub const EVENTS_SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Timestamp {
    /// Since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

impl Timestamp {
    /// In nanoseconds since 1970; 0 for a time that they cannot tell.
    pub fn nanoseconds(&self) -> i64 {
        let whole = self.seconds.checked_mul(1_000_000_000);
        whole.and_then(|whole| whole.checked_add(self.nanos.into())).unwrap_or(0)
    }

    /// From nanoseconds since 1970.
    pub fn of(nanoseconds: i64) -> Self {
        Self {
            seconds: nanoseconds.div_euclid(1_000_000_000),
            nanos: nanoseconds.rem_euclid(1_000_000_000) as i32,
        }
    }
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub struct Any {
    /// What it is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// A message, or JSON.
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// A mount, as mount(8) has it.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    /// The filesystem's type, or `bind`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// What is mounted.
    #[prost(string, tag = "2")]
    pub source: String,
    /// Where below the root.
    #[prost(string, tag = "3")]
    pub target: String,
    /// How.
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// Makes a container.
#[derive(Clone, PartialEq, Message)]
pub struct CreateTask {
    /// Its id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The directory with `config.json`.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The root; none where the bundle has it.
    #[prost(message, repeated, tag = "3")]
    pub rootfs: Vec<Mount>,
    /// The process has a terminal.
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    /// A FIFO, or nothing.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// A FIFO, an address of a logger (`binary://`, `file://`), or nothing.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// The same.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// To be restored from.
    #[prost(string, tag = "8")]
    pub checkpoint: String,
    /// What the shim is configured with.
    #[prost(message, optional, tag = "10")]
    pub options: Option<Any>,
}

/// `containerd.runc.v1.Options`, as far as we have something to say.
#[derive(Clone, PartialEq, Message)]
pub struct RuncOptions {
    /// The runtime; empty for `runc`.
    #[prost(string, tag = "6")]
    pub binary_name: String,
    /// Where that keeps its state.
    #[prost(string, tag = "7")]
    pub root: String,
    /// cgroups are systemd's.
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
}

/// `runtimeoptions.v1.Options`: what shims of any kind take.
#[derive(Clone, PartialEq, Message)]
pub struct ShimOptions {
    /// Of which type the configuration is.
    #[prost(string, tag = "1")]
    pub type_url: String,
    /// The file that has it.
    #[prost(string, tag = "2")]
    pub config_path: String,
}

/// Ends a shim that has no container.
#[derive(Clone, PartialEq, Message)]
pub struct ShutdownTask {
    /// The container it was started for.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Whatever it has.
    #[prost(bool, tag = "2")]
    pub now: bool,
}

/// A process's number; of Create and Start.
#[derive(Clone, PartialEq, Message)]
pub struct TaskPid {
    /// In the host's numbers.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
}

/// A process of a container; of Start, State, Delete and Wait. What only has a container is this with an empty `exec_id`.
#[derive(Clone, PartialEq, Message)]
pub struct TaskProcess {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Empty for its own.
    #[prost(string, tag = "2")]
    pub exec_id: String,
}

/// How a process had ended that is forgotten now.
#[derive(Clone, PartialEq, Message)]
pub struct TaskDeleted {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub pid: u32,
    /// The exit code, or 128 + the signal.
    #[prost(uint32, tag = "2")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "3")]
    pub exited_at: Option<Timestamp>,
}

/// A process is to be brought in. Start does it.
#[derive(Clone, PartialEq, Message)]
pub struct ExecTask {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// It has a terminal.
    #[prost(bool, tag = "3")]
    pub terminal: bool,
    /// As in [`CreateTask`].
    #[prost(string, tag = "4")]
    pub stdin: String,
    /// As in [`CreateTask`].
    #[prost(string, tag = "5")]
    pub stdout: String,
    /// As in [`CreateTask`].
    #[prost(string, tag = "6")]
    pub stderr: String,
    /// The runtime specification's process, as JSON.
    #[prost(message, optional, tag = "7")]
    pub spec: Option<Any>,
}

/// A terminal's size.
#[derive(Clone, PartialEq, Message)]
pub struct ResizeTask {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Columns.
    #[prost(uint32, tag = "3")]
    pub width: u32,
    /// Rows.
    #[prost(uint32, tag = "4")]
    pub height: u32,
}

/// What a process is doing.
#[derive(Clone, PartialEq, Message)]
pub struct TaskState {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its bundle.
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// Its number.
    #[prost(uint32, tag = "3")]
    pub pid: u32,
    /// See [`TaskStatus`].
    #[prost(enumeration = "TaskStatus", tag = "4")]
    pub status: i32,
    /// As it was given.
    #[prost(string, tag = "5")]
    pub stdin: String,
    /// As it was given.
    #[prost(string, tag = "6")]
    pub stdout: String,
    /// As it was given.
    #[prost(string, tag = "7")]
    pub stderr: String,
    /// It has a terminal.
    #[prost(bool, tag = "8")]
    pub terminal: bool,
    /// How it ended.
    #[prost(uint32, tag = "9")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "10")]
    pub exited_at: Option<Timestamp>,
    /// The process.
    #[prost(string, tag = "11")]
    pub exec_id: String,
}

/// In [`TaskState`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum TaskStatus {
    /// Never.
    Unknown = 0,
    /// It waits to be started.
    Created = 1,
    /// Its program runs.
    Running = 2,
    /// It has ended.
    Stopped = 3,
    /// It is frozen.
    Paused = 4,
}

/// Sends a signal.
#[derive(Clone, PartialEq, Message)]
pub struct KillTask {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// Its number.
    #[prost(uint32, tag = "3")]
    pub signal: u32,
    /// To all of the container.
    #[prost(bool, tag = "4")]
    pub all: bool,
}

/// Standard input ends.
#[derive(Clone, PartialEq, Message)]
pub struct CloseTask {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The process.
    #[prost(string, tag = "2")]
    pub exec_id: String,
    /// It is meant.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
}

/// A container's processes.
#[derive(Clone, PartialEq, Message)]
pub struct TaskPids {
    /// In the host's numbers.
    #[prost(message, repeated, tag = "1")]
    pub processes: Vec<TaskPid>,
}

/// Changes limits.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateTask {
    /// The container.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The runtime specification's `linux.resources`, as JSON.
    #[prost(message, optional, tag = "2")]
    pub resources: Option<Any>,
}

/// How a process has ended.
#[derive(Clone, PartialEq, Message)]
pub struct TaskWaited {
    /// The exit code, or 128 + the signal.
    #[prost(uint32, tag = "1")]
    pub exit_status: u32,
    /// When.
    #[prost(message, optional, tag = "2")]
    pub exited_at: Option<Timestamp>,
}

/// What a container uses: `io.containerd.cgroups.v1.Metrics`, or v2's.
#[derive(Clone, PartialEq, Message)]
pub struct TaskStats {
    /// The one or the other.
    #[prost(message, optional, tag = "1")]
    pub stats: Option<Any>,
}

/// Who is there.
#[derive(Clone, PartialEq, Message)]
pub struct Connected {
    /// The shim's number.
    #[prost(uint32, tag = "1")]
    pub shim_pid: u32,
    /// The container's.
    #[prost(uint32, tag = "2")]
    pub task_pid: u32,
    /// The shim's version.
    #[prost(string, tag = "3")]
    pub version: String,
}

/// An event on its way.
#[derive(Clone, PartialEq, Message)]
pub struct Forward {
    /// The event.
    #[prost(message, optional, tag = "1")]
    pub envelope: Option<Envelope>,
}

/// An event and what it is about.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    /// When it happened.
    #[prost(message, optional, tag = "1")]
    pub timestamp: Option<Timestamp>,
    /// In which namespace of containerd's.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// `/tasks/exit` and the like.
    #[prost(string, tag = "3")]
    pub topic: String,
    /// The message.
    #[prost(message, optional, tag = "4")]
    pub event: Option<Any>,
}

/// The messages of events.
pub mod event {
    use prost::Message;

    use super::{Mount, Timestamp};

    /// The streams of a container.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskIo {
        /// As it was given.
        #[prost(string, tag = "1")]
        pub stdin: String,
        /// As it was given.
        #[prost(string, tag = "2")]
        pub stdout: String,
        /// As it was given.
        #[prost(string, tag = "3")]
        pub stderr: String,
        /// It has a terminal.
        #[prost(bool, tag = "4")]
        pub terminal: bool,
    }

    /// A container was made.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskCreate {
        /// Its id.
        #[prost(string, tag = "1")]
        pub container_id: String,
        /// Its bundle.
        #[prost(string, tag = "2")]
        pub bundle: String,
        /// Its root.
        #[prost(message, repeated, tag = "3")]
        pub rootfs: Vec<Mount>,
        /// Its streams.
        #[prost(message, optional, tag = "4")]
        pub io: Option<TaskIo>,
        /// Where it was restored from.
        #[prost(string, tag = "5")]
        pub checkpoint: String,
        /// Its process.
        #[prost(uint32, tag = "6")]
        pub pid: u32,
    }

    /// A container's program runs.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskStart {
        /// Its id.
        #[prost(string, tag = "1")]
        pub container_id: String,
        /// Its process.
        #[prost(uint32, tag = "2")]
        pub pid: u32,
    }

    /// A process was forgotten.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskDelete {
        /// Of which container.
        #[prost(string, tag = "1")]
        pub container_id: String,
        /// Its number.
        #[prost(uint32, tag = "2")]
        pub pid: u32,
        /// How it had ended.
        #[prost(uint32, tag = "3")]
        pub exit_status: u32,
        /// When.
        #[prost(message, optional, tag = "4")]
        pub exited_at: Option<Timestamp>,
        /// The process; empty for the container's own.
        #[prost(string, tag = "5")]
        pub id: String,
    }

    /// A process has ended.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskExit {
        /// Of which container.
        #[prost(string, tag = "1")]
        pub container_id: String,
        /// The process; the container's id for its own.
        #[prost(string, tag = "2")]
        pub id: String,
        /// Its number.
        #[prost(uint32, tag = "3")]
        pub pid: u32,
        /// How.
        #[prost(uint32, tag = "4")]
        pub exit_status: u32,
        /// When.
        #[prost(message, optional, tag = "5")]
        pub exited_at: Option<Timestamp>,
    }

    /// Of a container as a whole: out of memory, frozen, or no longer.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskOnly {
        /// Its id.
        #[prost(string, tag = "1")]
        pub container_id: String,
    }

    /// A process is to be brought in, or runs.
    #[derive(Clone, PartialEq, Message)]
    pub struct TaskExec {
        /// Into which container.
        #[prost(string, tag = "1")]
        pub container_id: String,
        /// The process.
        #[prost(string, tag = "2")]
        pub exec_id: String,
        /// Its number, once it runs.
        #[prost(uint32, tag = "3")]
        pub pid: u32,
    }
}

/// What containerd 2.3 gives `start` on standard input. Earlier ones give an [`Any`] of options there.
#[derive(Clone, PartialEq, Message)]
pub struct BootstrapParams {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub instance_id: String,
    /// The namespace.
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// Where events go.
    #[prost(string, tag = "5")]
    pub ttrpc_address: String,
    /// containerd itself.
    #[prost(string, tag = "6")]
    pub grpc_address: String,
    /// Where sockets go.
    #[prost(string, optional, tag = "9")]
    pub socket_dir: Option<String>,
}

/// What `-info` answers.
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeInfo {
    /// `io.containerd.sextant.v1`
    #[prost(string, tag = "1")]
    pub name: String,
    /// Ours.
    #[prost(message, optional, tag = "2")]
    pub version: Option<RuntimeVersion>,
    /// As they were given.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
    /// The runtime specification's features document, as JSON.
    #[prost(message, optional, tag = "4")]
    pub features: Option<Any>,
}

/// A version.
#[derive(Clone, PartialEq, Message)]
pub struct RuntimeVersion {
    /// As people say it.
    #[prost(string, tag = "1")]
    pub version: String,
    /// The commit.
    #[prost(string, tag = "2")]
    pub revision: String,
}
