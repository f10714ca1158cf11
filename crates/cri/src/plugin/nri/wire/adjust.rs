//! What plugins want changed.
#![expect(missing_docs, reason = "the words are the runtime specification's, and CRI's")]

use std::collections::BTreeMap;

use prost::Message;

use super::{
    CdiDevice, Hooks, LinuxDevice, LinuxIoPriority, LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice,
    LinuxRdt, LinuxResources, LinuxScheduler, LinuxSeccomp, Mount, PosixRlimit,
};

/// What a plugin wants changed in a container that is being created.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerAdjustment {
    #[prost(btree_map = "string, string", tag = "2")]
    pub annotations: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "3")]
    pub mounts: Vec<Mount>,
    #[prost(message, repeated, tag = "4")]
    pub env: Vec<KeyValue>,
    #[prost(message, optional, tag = "5")]
    pub hooks: Option<Hooks>,
    #[prost(message, optional, tag = "6")]
    pub linux: Option<LinuxContainerAdjustment>,
    #[prost(message, repeated, tag = "7")]
    pub rlimits: Vec<PosixRlimit>,
    #[prost(message, repeated, tag = "8")]
    pub cdi_devices: Vec<CdiDevice>,
    #[prost(string, repeated, tag = "9")]
    pub args: Vec<String>,
}

/// What only Linux has of it.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerAdjustment {
    #[prost(message, repeated, tag = "1")]
    pub devices: Vec<LinuxDevice>,
    #[prost(message, optional, tag = "2")]
    pub resources: Option<LinuxResources>,
    #[prost(string, tag = "3")]
    pub cgroups_path: String,
    #[prost(message, optional, tag = "4")]
    pub oom_score_adj: Option<i64>,
    #[prost(message, optional, tag = "5")]
    pub io_priority: Option<LinuxIoPriority>,
    #[prost(message, optional, tag = "6")]
    pub seccomp_policy: Option<LinuxSeccomp>,
    #[prost(message, repeated, tag = "7")]
    pub namespaces: Vec<LinuxNamespace>,
    #[prost(btree_map = "string, string", tag = "8")]
    pub sysctl: BTreeMap<String, String>,
    #[prost(btree_map = "string, message", tag = "9")]
    pub net_devices: BTreeMap<String, LinuxNetDevice>,
    #[prost(message, optional, tag = "10")]
    pub scheduler: Option<LinuxScheduler>,
    #[prost(message, optional, tag = "11")]
    pub rdt: Option<LinuxRdt>,
    #[prost(message, optional, tag = "12")]
    pub memory_policy: Option<LinuxMemoryPolicy>,
}

/// An environment variable. A key that begins with `-` takes one away.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Other limits for a container that is there.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerUpdate {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxContainerUpdate>,
    #[prost(bool, tag = "3")]
    pub ignore_failure: bool,
}

/// What only Linux has of it: all.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerUpdate {
    #[prost(message, optional, tag = "1")]
    pub resources: Option<LinuxResources>,
}

/// A container that is to end.
#[derive(Clone, PartialEq, Message)]
pub struct ContainerEviction {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// Which plugin has set what, by container.
#[derive(Clone, PartialEq, Message)]
pub struct OwningPlugins {
    #[prost(btree_map = "string, message", tag = "1")]
    pub owners: BTreeMap<String, FieldOwners>,
}

/// The same for one container, by [`Field`](super::Field): plain fields, and those with keys.
#[derive(Clone, PartialEq, Message)]
pub struct FieldOwners {
    #[prost(btree_map = "int32, string", tag = "1")]
    pub simple: BTreeMap<i32, String>,
    #[prost(btree_map = "int32, message", tag = "2")]
    pub compound: BTreeMap<i32, CompoundFieldOwners>,
}

/// The same for a field with keys.
#[derive(Clone, PartialEq, Message)]
pub struct CompoundFieldOwners {
    #[prost(btree_map = "string, string", tag = "1")]
    pub owners: BTreeMap<String, String>,
}
