//! The messages of a pod's shim: the pod itself, and what happens in it.

use std::collections::BTreeMap;

use prost::Message;

use super::messages::{Exited, IdMapping};

/// Makes the shim a pod's, before any container. From then on it listens on `shim.sock` in `directory`, takes any number
/// of containers, and lives until Shutdown, whatever becomes of its creator.
///
/// Namespaces that are not asked for are the shim's own: the host's.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxRequest {
    /// The pod's id.
    #[prost(string, tag = "1")]
    pub id: String,
    /// A directory that is there: for `shim.sock`, and `shim.json` with the numbers of the shim and of the pod's first
    /// process.
    #[prost(string, tag = "2")]
    pub directory: String,
    /// An IPC namespace for the pod.
    #[prost(bool, tag = "3")]
    pub ipc: bool,
    /// A UTS namespace for the pod.
    #[prost(bool, tag = "4")]
    pub uts: bool,
    /// The host name in it; needs `uts`. Empty leaves the host's.
    #[prost(string, tag = "5")]
    pub hostname: String,
    /// Values of `kernel.*` and `fs.mqueue.*` for the IPC and UTS namespaces, and of `net.*` for the network namespace
    /// that is made here. One that none of the pod's own namespaces has is an error.
    #[prost(btree_map = "string, string", tag = "6")]
    pub sysctls: BTreeMap<String, String>,
    /// A user namespace for the pod, which owns all the others made here.
    #[prost(message, optional, tag = "7")]
    pub user: Option<UserNamespace>,
    /// A network namespace too. Its loopback is down.
    #[prost(bool, tag = "8")]
    pub network: bool,
    /// A PID namespace for the pod, whose first process does nothing but reap.
    #[prost(bool, tag = "9")]
    pub share_pid: bool,
    /// For the shim and the pod's first process. A container whose configuration has no `oomScoreAdj` inherits it.
    #[prost(sint32, optional, tag = "10")]
    pub oom_score_adj: Option<i32>,
    /// Who runs the pod's containers, if that is not the runtime in the shim.
    #[prost(message, optional, tag = "11")]
    pub runtime: Option<OtherRuntime>,
}

/// A program of others that runs a pod's containers.
#[derive(Clone, PartialEq, Message)]
pub struct OtherRuntime {
    /// What it is called where it was configured, for messages.
    #[prost(string, tag = "1")]
    pub handler: String,
    /// The program, as an absolute path.
    #[prost(string, tag = "2")]
    pub program: String,
    /// What it is.
    #[prost(enumeration = "RuntimeKind", tag = "3")]
    pub kind: i32,
    /// Arguments before each command, of [`RuntimeKind::Oci`].
    #[prost(string, repeated, tag = "4")]
    pub arguments: Vec<String>,
    /// A file with its configuration, of [`RuntimeKind::Shim`]; empty for what it takes by itself.
    #[prost(string, tag = "5")]
    pub options_file: String,
    /// Of which type that is, for shims that ask for one.
    #[prost(string, tag = "6")]
    pub options_type: String,
}

/// What a program of others is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RuntimeKind {
    /// An OCI runtime, with runc's command line.
    Oci = 0,
    /// A shim that containerd could drive. The first container of the pod is its sandbox.
    Shim = 1,
}

/// A user namespace's mappings.
#[derive(Clone, PartialEq, Message)]
pub struct UserNamespace {
    /// Of users. At least one, and one that maps 0.
    #[prost(message, repeated, tag = "1")]
    pub uid_mappings: Vec<IdMapping>,
    /// Of groups.
    #[prost(message, repeated, tag = "2")]
    pub gid_mappings: Vec<IdMapping>,
}

/// The pod.
#[derive(Clone, PartialEq, Message)]
pub struct SandboxReply {
    /// Those made here, for the containers' configurations.
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<Namespace>,
    /// The first process of the pod's PID namespace, in the host's numbers; 0 without `share_pid`.
    #[prost(int32, tag = "2")]
    pub pid: i32,
    /// What could not be done in full.
    #[prost(string, repeated, tag = "3")]
    pub warnings: Vec<String>,
}

/// A namespace that a container can join.
#[derive(Clone, PartialEq, Message)]
pub struct Namespace {
    /// The runtime specification's word for it: `ipc`, `uts`, `network`, `user`, `pid`.
    #[prost(string, tag = "1")]
    pub kind: String,
    /// In `/proc`, valid while the shim lives.
    #[prost(string, tag = "2")]
    pub path: String,
}

/// What has happened to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Happened {
    /// No event of a container: all that was when the stream was opened has been told.
    Current = 0,
    /// It was made.
    Created = 1,
    /// Its program runs.
    Started = 2,
    /// Its program has ended and is not started again.
    Exited = 3,
    /// The out-of-memory killer struck in it.
    Oom = 4,
    /// It was deleted.
    Deleted = 5,
    /// The first process of the pod's PID namespace has ended, and with it every container's. It has no container.
    PodEnded = 6,
}

/// One event of the stream that Events opens.
///
/// It begins with one event for each container there is, which tells its present state (`Created`, `Started` or
/// `Exited`), and `Current`; then it goes on with what happens. Nothing in between is missed.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerEvent {
    /// Which container.
    #[prost(string, tag = "1")]
    pub container: String,
    /// What.
    #[prost(enumeration = "Happened", tag = "2")]
    pub happened: i32,
    /// The container's process, of `Created` and `Started`.
    #[prost(int32, tag = "3")]
    pub pid: i32,
    /// How it ended, of `Exited` and `PodEnded`.
    #[prost(message, optional, tag = "4")]
    pub exited: Option<Exited>,
    /// When, nanoseconds since 1970.
    #[prost(int64, tag = "5")]
    pub at: i64,
}
