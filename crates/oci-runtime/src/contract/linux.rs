use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Device, NetDevice, Resources, Seccomp, is_default, nullable, unless_empty};

/// What only Linux has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    /// User ids of a new user namespace.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub uid_mappings: Vec<IdMapping>,
    /// Group ids of a new user namespace.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub gid_mappings: Vec<IdMapping>,
    /// Kernel parameters of the container's own namespaces.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub sysctl: BTreeMap<String, String>,
    /// Limits of the container's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The cgroup, from the root of the cgroup mounts; empty leaves it to the runtime.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub cgroups_path: String,
    /// The namespaces that are made or joined; a type not listed is the runtime's own.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub namespaces: Vec<Namespace>,
    /// Device nodes beyond the default ones.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub devices: Vec<Device>,
    /// Network devices to move, by their name on the host.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub net_devices: BTreeMap<String, NetDevice>,
    /// The system call filter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    /// The propagation of the root mount.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "unless_empty")]
    pub rootfs_propagation: Option<RootfsPropagation>,
    /// Paths the container cannot read, absolute.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub masked_paths: Vec<String>,
    /// Paths the container cannot write, absolute.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub readonly_paths: Vec<String>,
    /// The SELinux context of the mounts; empty for none.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub mount_label: String,
    /// Cache and memory bandwidth (Intel RDT).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    /// The NUMA memory policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    /// The execution domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
    /// Offsets of a new time namespace, by clock (`monotonic`, `boottime`).
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
}

impl Linux {
    /// The namespace of a type, if the container makes or joins one.
    pub fn namespace(&self, kind: NamespaceType) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| namespace.kind == kind)
    }
}

/// A namespace that is made, or joined by a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: NamespaceType,
    /// The namespace to join, absolute; empty makes a new one.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub path: String,
}

/// The eight types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "namespaces(7) describes them")]
pub enum NamespaceType {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

impl NamespaceType {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::Pid, Self::Network, Self::Mount, Self::Ipc, Self::Uts, Self::User, Self::Cgroup, Self::Time];

    /// The specification's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Network => "network",
            Self::Mount => "mount",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::User => "user",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

/// A range of ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// The first id in the container.
    #[serde(rename = "containerID")]
    pub container_id: u32,
    /// The first id on the host.
    #[serde(rename = "hostID")]
    pub host_id: u32,
    /// How many.
    pub size: u32,
}

/// How far a clock of a time namespace is ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeOffset {
    /// Seconds.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub secs: i64,
    /// Nanoseconds beyond them.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub nanosecs: u32,
}

/// The propagation of the root mount; the recursive names are those that Docker and containerd write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "mount_namespaces(7) describes them")]
pub enum RootfsPropagation {
    Shared,
    Slave,
    Private,
    Unbindable,
    Rshared,
    Rslave,
    Rprivate,
    Runbindable,
}

/// Intel Resource Director Technology.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IntelRdt {
    /// The class of service; `/` is the default one.
    #[serde(rename = "closID", skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub clos_id: String,
    /// Lines for the `schemata` file.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub schemata: Vec<String>,
    /// The L3 cache's schema, `L3:...`.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub l3_cache_schema: String,
    /// The memory bandwidth's schema, `MB:...`.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub mem_bw_schema: String,
    /// The container has a monitoring group of its own.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub enable_monitoring: bool,
}

/// What set_mempolicy(2) gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPolicy {
    /// The mode.
    pub mode: MemoryPolicyMode,
    /// Memory nodes, as in `0-3,7`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub nodes: String,
    /// Flags.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub flags: Vec<MemoryPolicyFlag>,
}

/// The modes of set_mempolicy(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "set_mempolicy(2) describes them")]
pub enum MemoryPolicyMode {
    MpolDefault,
    MpolBind,
    MpolInterleave,
    MpolWeightedInterleave,
    MpolPreferred,
    MpolPreferredMany,
    MpolLocal,
}

impl MemoryPolicyMode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::MpolDefault,
        Self::MpolBind,
        Self::MpolInterleave,
        Self::MpolWeightedInterleave,
        Self::MpolPreferred,
        Self::MpolPreferredMany,
        Self::MpolLocal,
    ];
}

/// The flags of set_mempolicy(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "set_mempolicy(2) describes them")]
pub enum MemoryPolicyFlag {
    #[serde(rename = "MPOL_F_NUMA_BALANCING")]
    NumaBalancing,
    #[serde(rename = "MPOL_F_RELATIVE_NODES")]
    RelativeNodes,
    #[serde(rename = "MPOL_F_STATIC_NODES")]
    StaticNodes,
}

impl MemoryPolicyFlag {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NumaBalancing, Self::RelativeNodes, Self::StaticNodes];
}

/// What personality(2) gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Personality {
    /// The domain.
    pub domain: PersonalityDomain,
    /// None are defined yet.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub flags: Vec<String>,
}

/// The execution domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum PersonalityDomain {
    /// The usual one.
    Linux,
    /// uname(2) shows a 32-bit machine.
    Linux32,
}
