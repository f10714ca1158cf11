//! The messages, in protobuf. Numbers are never used again.

use prost::Message;

/// ttrpc's request.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// The service.
    #[prost(string, tag = "1")]
    pub service: String,
    /// The method.
    #[prost(string, tag = "2")]
    pub method: String,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// Nanoseconds the caller waits; 0 is for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
}

/// ttrpc's response.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// What went wrong, if something did.
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    /// The method's own message.
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// A gRPC status.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// gRPC's code; 0 is success.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// gRPC's codes that a shim answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Code {
    /// Something in the request is wrong.
    InvalidArgument = 3,
    /// No such process.
    NotFound = 5,
    /// There is one already.
    AlreadyExists = 6,
    /// Not in this state.
    FailedPrecondition = 9,
    /// No such method.
    Unimplemented = 12,
    /// The machine refused.
    Internal = 13,
}

/// Nothing to say.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {}

/// A container of this shim. In every message that has one: the empty id is the only container there is.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerRequest {
    /// Its id.
    #[prost(string, tag = "1")]
    pub container: String,
}

/// A range of ids, as in `/proc/PID/uid_map`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct IdMapping {
    /// The first id inside.
    #[prost(uint32, tag = "1")]
    pub container_id: u32,
    /// The first id outside.
    #[prost(uint32, tag = "2")]
    pub host_id: u32,
    /// How many.
    #[prost(uint32, tag = "3")]
    pub size: u32,
}

/// The container's root: layers of an overlay, or a directory.
#[derive(Clone, PartialEq, Message)]
pub struct Rootfs {
    /// Read-only directories, the topmost first.
    #[prost(string, repeated, tag = "1")]
    pub lower: Vec<String>,
    /// Where changes go; empty for a read-only overlay.
    #[prost(string, tag = "2")]
    pub upper: String,
    /// The work directory beside it.
    #[prost(string, tag = "3")]
    pub work: String,
    /// Instead of all that: a directory to use as it is.
    #[prost(string, tag = "4")]
    pub directory: String,
    /// With these the layers and `upper` are mapped: what belongs to 0 on disk belongs to the container's 0. `upper` and
    /// `work` must have the same parent directory then.
    #[prost(message, repeated, tag = "5")]
    pub uid_mappings: Vec<IdMapping>,
    /// The same for groups. Both or none.
    #[prost(message, repeated, tag = "6")]
    pub gid_mappings: Vec<IdMapping>,
}

/// When a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Restart {
    /// Never.
    No = 0,
    /// If its code was not 0.
    OnFailure = 1,
    /// Until somebody stops it.
    Always = 2,
}

/// Makes the container.
#[derive(Clone, PartialEq, Message)]
pub struct CreateRequest {
    /// The container's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// A directory with `config.json`; the process's numbers (`process.json`) are put there too, and, unless the shim is
    /// a pod's, its socket (`shim.sock`).
    #[prost(string, tag = "2")]
    pub bundle: String,
    /// The root.
    #[prost(message, optional, tag = "3")]
    pub rootfs: Option<Rootfs>,
    /// The log, in CRI format; empty for none.
    #[prost(string, tag = "4")]
    pub log: String,
    /// Standard input stays open for attaching.
    #[prost(bool, tag = "5")]
    pub stdin: bool,
    /// Where the exit is written (`exit.json`).
    #[prost(string, tag = "6")]
    pub state: String,
    /// When to start it again.
    #[prost(enumeration = "Restart", tag = "7")]
    pub restart: i32,
    /// How often at most; 0 is without limit.
    #[prost(uint32, tag = "8")]
    pub restart_limit: u32,
    /// Arguments of the program at descriptor 4, run when the container has ended and its creator is gone. Not in a pod.
    #[prost(string, repeated, tag = "9")]
    pub on_exit: Vec<String>,
    /// Standard input is closed when the first client that attached to it has left, or its input has ended.
    #[prost(bool, tag = "10")]
    pub stdin_once: bool,
}

/// Made, or started.
#[derive(Clone, PartialEq, Message)]
pub struct Started {
    /// The process, in the host's numbers.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// What could not be done in full.
    #[prost(string, repeated, tag = "2")]
    pub warnings: Vec<String>,
    /// The container's cgroup, below the root of every hierarchy; empty if it has none. Only systemd says where a scope
    /// is, so this is the answer and not what was asked for. Set by Create.
    #[prost(string, tag = "3")]
    pub cgroup: String,
    /// The socket of the shim of others that was started with it; empty for none. Set by Create.
    #[prost(string, tag = "4")]
    pub shim_socket: String,
}

/// One process: the container's own (empty id), or one that was brought in.
#[derive(Clone, PartialEq, Message)]
pub struct ProcessRequest {
    /// Its id.
    #[prost(string, tag = "1")]
    pub exec_id: String,
    /// Of which container.
    #[prost(string, tag = "2")]
    pub container: String,
}

/// Brings a process in and streams to and from it.
#[derive(Clone, PartialEq, Message)]
pub struct ExecRequest {
    /// An id for it.
    #[prost(string, tag = "1")]
    pub exec_id: String,
    /// The process, as JSON of the runtime specification.
    #[prost(bytes = "vec", tag = "2")]
    pub process: Vec<u8>,
    /// The stream's input goes to it.
    #[prost(bool, tag = "3")]
    pub stdin: bool,
    /// Into which container.
    #[prost(string, tag = "4")]
    pub container: String,
}

/// Streams to and from a process that is there.
#[derive(Clone, PartialEq, Message)]
pub struct AttachRequest {
    /// Its id.
    #[prost(string, tag = "1")]
    pub exec_id: String,
    /// The stream's input goes to it.
    #[prost(bool, tag = "2")]
    pub stdin: bool,
    /// Of which container.
    #[prost(string, tag = "3")]
    pub container: String,
}

/// On a stream, from the client.
#[derive(Clone, PartialEq, Message)]
pub struct Input {
    /// For standard input.
    #[prost(bytes = "vec", tag = "1")]
    pub data: Vec<u8>,
    /// Standard input ends here.
    #[prost(bool, tag = "2")]
    pub close: bool,
    /// The terminal's new size.
    #[prost(message, optional, tag = "3")]
    pub size: Option<Size>,
}

/// A terminal's size, in characters.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Size {
    /// Rows.
    #[prost(uint32, tag = "1")]
    pub rows: u32,
    /// Columns.
    #[prost(uint32, tag = "2")]
    pub columns: u32,
}

/// On a stream, to the client.
#[derive(Clone, PartialEq, Message)]
pub struct Output {
    /// The program runs. The first message of an exec.
    #[prost(message, optional, tag = "1")]
    pub started: Option<Started>,
    /// From standard output.
    #[prost(bytes = "vec", tag = "2")]
    pub stdout: Vec<u8>,
    /// From standard error.
    #[prost(bytes = "vec", tag = "3")]
    pub stderr: Vec<u8>,
}

/// How a process ended. The payload of the response that ends a stream, and of Wait.
#[derive(Clone, PartialEq, Message)]
pub struct Exited {
    /// The exit code, or 128 + the signal.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// Nanoseconds since 1970.
    #[prost(int64, tag = "2")]
    pub at: i64,
    /// The out-of-memory killer struck in the container, and it did not end well (its code is not 0).
    #[prost(bool, tag = "3")]
    pub oom: bool,
}

/// Sends a signal.
#[derive(Clone, PartialEq, Message)]
pub struct KillRequest {
    /// To which process.
    #[prost(string, tag = "1")]
    pub exec_id: String,
    /// The signal's number.
    #[prost(int32, tag = "2")]
    pub signal: i32,
    /// To every process of the container.
    #[prost(bool, tag = "3")]
    pub all: bool,
    /// Of which container.
    #[prost(string, tag = "4")]
    pub container: String,
}

/// Ends the container: a signal, and after a time SIGKILL. It is not started again. The response comes at the end.
#[derive(Clone, PartialEq, Message)]
pub struct StopRequest {
    /// The signal's number.
    #[prost(int32, tag = "1")]
    pub signal: i32,
    /// Milliseconds until SIGKILL.
    #[prost(uint64, tag = "2")]
    pub timeout: u64,
    /// Which container.
    #[prost(string, tag = "3")]
    pub container: String,
}

/// Changes the terminal's size.
#[derive(Clone, PartialEq, Message)]
pub struct ResizeRequest {
    /// Of which process.
    #[prost(string, tag = "1")]
    pub exec_id: String,
    /// The size.
    #[prost(message, optional, tag = "2")]
    pub size: Option<Size>,
    /// Of which container.
    #[prost(string, tag = "3")]
    pub container: String,
}

/// What a process is doing.
#[derive(Clone, PartialEq, Message)]
pub struct State {
    /// Its number, 0 if it is not running. A process that was made and waits to be started has one.
    #[prost(int32, tag = "1")]
    pub pid: i32,
    /// The program runs.
    #[prost(bool, tag = "2")]
    pub running: bool,
    /// The container is frozen.
    #[prost(bool, tag = "3")]
    pub paused: bool,
    /// Set once it has ended.
    #[prost(message, optional, tag = "4")]
    pub exited: Option<Exited>,
    /// It has a terminal.
    #[prost(bool, tag = "5")]
    pub terminal: bool,
    /// How often it was started again.
    #[prost(uint32, tag = "6")]
    pub restarts: u32,
    /// The container's id.
    #[prost(string, tag = "7")]
    pub container: String,
    /// The container's cgroup, as in [`Started`].
    #[prost(string, tag = "8")]
    pub cgroup: String,
    /// When it was last started, nanoseconds since 1970; 0 if it never was.
    #[prost(int64, tag = "9")]
    pub started_at: i64,
    /// How many processes of the container the out-of-memory killer has killed.
    #[prost(uint64, tag = "10")]
    pub oom_kills: u64,
    /// How many entries of the log could not be written.
    #[prost(uint64, tag = "11")]
    pub log_lost: u64,
}

/// All containers of the shim.
#[derive(Clone, PartialEq, Message)]
pub struct Containers {
    /// Each container's own process.
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<State>,
}

/// Changes limits.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateRequest {
    /// Of which container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// `linux.resources` of the runtime specification, as JSON. What it does not name stays.
    #[prost(bytes = "vec", tag = "2")]
    pub resources: Vec<u8>,
}

/// What could not be done in full.
#[derive(Clone, PartialEq, Message)]
pub struct Warnings {
    /// As sentences for the operator.
    #[prost(string, repeated, tag = "1")]
    pub warnings: Vec<String>,
}

/// The processes of the container.
#[derive(Clone, PartialEq, Message)]
pub struct Pids {
    /// In the host's numbers.
    #[prost(int32, repeated, tag = "1")]
    pub pids: Vec<i32>,
}
