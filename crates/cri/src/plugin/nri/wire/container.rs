//! Containers, as plugins see them.
#![expect(missing_docs, reason = "the words are the runtime specification's, and CRI's")]

use std::collections::BTreeMap;

use prost::Message;

use super::{ContainerState, LinuxResources};

/// A container.
#[derive(Clone, PartialEq, Message)]
pub struct Container {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(enumeration = "ContainerState", tag = "4")]
    pub state: i32,
    #[prost(btree_map = "string, string", tag = "5")]
    pub labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
    #[prost(string, repeated, tag = "7")]
    pub args: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub env: Vec<String>,
    #[prost(message, repeated, tag = "9")]
    pub mounts: Vec<Mount>,
    #[prost(message, optional, tag = "10")]
    pub hooks: Option<Hooks>,
    #[prost(message, optional, tag = "11")]
    pub linux: Option<LinuxContainer>,
    #[prost(uint32, tag = "12")]
    pub pid: u32,
    #[prost(message, repeated, tag = "13")]
    pub rlimits: Vec<PosixRlimit>,
    #[prost(int64, tag = "14")]
    pub created_at: i64,
    #[prost(int64, tag = "15")]
    pub started_at: i64,
    #[prost(int64, tag = "16")]
    pub finished_at: i64,
    #[prost(int32, tag = "17")]
    pub exit_code: i32,
    #[prost(string, tag = "18")]
    pub status_reason: String,
    #[prost(string, tag = "19")]
    pub status_message: String,
    #[prost(message, repeated, tag = "20")]
    pub cdi_devices: Vec<CdiDevice>,
    #[prost(message, optional, tag = "21")]
    pub user: Option<User>,
}

/// A mount. A destination that begins with `-` takes one away.
#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub destination: String,
    #[prost(string, tag = "2")]
    pub kind: String,
    #[prost(string, tag = "3")]
    pub source: String,
    #[prost(string, repeated, tag = "4")]
    pub options: Vec<String>,
}

/// Programs that run at points of the container's life.
#[derive(Clone, PartialEq, Message)]
pub struct Hooks {
    #[prost(message, repeated, tag = "1")]
    pub prestart: Vec<Hook>,
    #[prost(message, repeated, tag = "2")]
    pub create_runtime: Vec<Hook>,
    #[prost(message, repeated, tag = "3")]
    pub create_container: Vec<Hook>,
    #[prost(message, repeated, tag = "4")]
    pub start_container: Vec<Hook>,
    #[prost(message, repeated, tag = "5")]
    pub poststart: Vec<Hook>,
    #[prost(message, repeated, tag = "6")]
    pub poststop: Vec<Hook>,
}

/// One of them; `timeout` in seconds.
#[derive(Clone, PartialEq, Message)]
pub struct Hook {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, repeated, tag = "2")]
    pub args: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub env: Vec<String>,
    #[prost(message, optional, tag = "4")]
    pub timeout: Option<i64>,
}

/// Who its program runs as.
#[derive(Clone, PartialEq, Message)]
pub struct User {
    #[prost(uint32, tag = "1")]
    pub uid: u32,
    #[prost(uint32, tag = "2")]
    pub gid: u32,
    #[prost(uint32, repeated, tag = "3")]
    pub additional_gids: Vec<u32>,
}

/// A device by its CDI name, `vendor.com/class=device`.
#[derive(Clone, PartialEq, Message)]
pub struct CdiDevice {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// A limit of getrlimit(2), under the runtime specification's name.
#[derive(Clone, PartialEq, Message)]
pub struct PosixRlimit {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(uint64, tag = "2")]
    pub hard: u64,
    #[prost(uint64, tag = "3")]
    pub soft: u64,
}

/// Where the system call filter is from: the runtime's own (0), none (1), a file (2).
#[derive(Clone, PartialEq, Message)]
pub struct SecurityProfile {
    #[prost(int32, tag = "1")]
    pub profile_type: i32,
    #[prost(string, tag = "2")]
    pub localhost_ref: String,
}

/// What only Linux has of it.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainer {
    #[prost(message, repeated, tag = "1")]
    pub namespaces: Vec<LinuxNamespace>,
    #[prost(message, repeated, tag = "2")]
    pub devices: Vec<LinuxDevice>,
    #[prost(message, optional, tag = "3")]
    pub resources: Option<LinuxResources>,
    #[prost(message, optional, tag = "4")]
    pub oom_score_adj: Option<i64>,
    #[prost(string, tag = "5")]
    pub cgroups_path: String,
    #[prost(message, optional, tag = "6")]
    pub io_priority: Option<LinuxIoPriority>,
    #[prost(message, optional, tag = "7")]
    pub seccomp_profile: Option<SecurityProfile>,
    #[prost(message, optional, tag = "8")]
    pub seccomp_policy: Option<LinuxSeccomp>,
    #[prost(btree_map = "string, string", tag = "9")]
    pub sysctl: BTreeMap<String, String>,
    #[prost(btree_map = "string, message", tag = "10")]
    pub net_devices: BTreeMap<String, LinuxNetDevice>,
    #[prost(message, optional, tag = "11")]
    pub scheduler: Option<LinuxScheduler>,
    #[prost(message, optional, tag = "12")]
    pub rdt: Option<LinuxRdt>,
}

/// A namespace. A type that begins with `-` takes one away.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxNamespace {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub path: String,
}

/// A device node. A path that begins with `-` takes one away.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxDevice {
    #[prost(string, tag = "1")]
    pub path: String,
    #[prost(string, tag = "2")]
    pub kind: String,
    #[prost(int64, tag = "3")]
    pub major: i64,
    #[prost(int64, tag = "4")]
    pub minor: i64,
    #[prost(message, optional, tag = "5")]
    pub file_mode: Option<u32>,
    #[prost(message, optional, tag = "6")]
    pub uid: Option<u32>,
    #[prost(message, optional, tag = "7")]
    pub gid: Option<u32>,
}

/// An interface of the host that moves in, and its name there.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxNetDevice {
    #[prost(string, tag = "1")]
    pub name: String,
}

/// ioprio_set(2): classes none (0), real-time (1), best-effort (2), idle (3).
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LinuxIoPriority {
    #[prost(int32, tag = "1")]
    pub class: i32,
    #[prost(int32, tag = "2")]
    pub priority: i32,
}

/// sched_setattr(2).
#[derive(Clone, PartialEq, Message)]
pub struct LinuxScheduler {
    #[prost(int32, tag = "1")]
    pub policy: i32,
    #[prost(int32, tag = "2")]
    pub nice: i32,
    #[prost(int32, tag = "3")]
    pub priority: i32,
    #[prost(int32, repeated, tag = "4")]
    pub flags: Vec<i32>,
    #[prost(uint64, tag = "5")]
    pub runtime: u64,
    #[prost(uint64, tag = "6")]
    pub deadline: u64,
    #[prost(uint64, tag = "7")]
    pub period: u64,
}

/// Cache and memory bandwidth; an absent field stays.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxRdt {
    #[prost(message, optional, tag = "1")]
    pub clos_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub schemata: Option<Strings>,
    #[prost(message, optional, tag = "3")]
    pub enable_monitoring: Option<bool>,
    #[prost(bool, tag = "4")]
    pub remove: bool,
}

/// set_mempolicy(2).
#[derive(Clone, PartialEq, Message)]
pub struct LinuxMemoryPolicy {
    #[prost(int32, tag = "1")]
    pub mode: i32,
    #[prost(string, tag = "2")]
    pub nodes: String,
    #[prost(int32, repeated, tag = "3")]
    pub flags: Vec<i32>,
}

/// A system call filter, in the runtime specification's words.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSeccomp {
    #[prost(string, tag = "1")]
    pub default_action: String,
    #[prost(message, optional, tag = "2")]
    pub default_errno: Option<u32>,
    #[prost(string, repeated, tag = "3")]
    pub architectures: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub flags: Vec<String>,
    #[prost(string, tag = "5")]
    pub listener_path: String,
    #[prost(string, tag = "6")]
    pub listener_metadata: String,
    #[prost(message, repeated, tag = "7")]
    pub syscalls: Vec<LinuxSyscall>,
}

/// A rule of it.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSyscall {
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
    #[prost(string, tag = "2")]
    pub action: String,
    #[prost(message, optional, tag = "3")]
    pub errno_ret: Option<u32>,
    #[prost(message, repeated, tag = "4")]
    pub args: Vec<LinuxSeccompArg>,
}

/// A condition of a rule.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxSeccompArg {
    #[prost(uint32, tag = "1")]
    pub index: u32,
    #[prost(uint64, tag = "2")]
    pub value: u64,
    #[prost(uint64, tag = "3")]
    pub value_two: u64,
    #[prost(string, tag = "4")]
    pub op: String,
}

/// Lines, where none is something else than an absent field.
#[derive(Clone, PartialEq, Message)]
pub struct Strings {
    #[prost(string, repeated, tag = "1")]
    pub value: Vec<String>,
}
