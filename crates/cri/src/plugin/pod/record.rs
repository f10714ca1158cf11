//! What a pod is, as it is kept.

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::contract::v1::PodSandboxConfig;

/// The file that makes a pod be: written last when one is made.
pub(crate) const RECORD: &str = "pod.json";

/// What a pod is to be, while plugins of others attach it to its network. Nobody but they can undo what they do, so whoever
/// finds this without a pod asks them to.
pub(crate) const ATTACHING: &str = "attaching.json";

/// What a pod is. Kept as long as the pod, across boots.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
    /// The runtime handler it was asked to run with; empty for the default.
    pub(crate) handler: String,
    /// What the kubelet sent.
    pub(crate) config: PodSandboxConfig,
    /// Its addresses, the primary first.
    #[serde(default)]
    pub(crate) addresses: Vec<IpAddr>,
    /// The CNI network it is attached to, and everything that DEL needs when the configuration has gone.
    #[serde(default)]
    pub(crate) network: Option<String>,
    /// The cgroup that its containers' cgroups are made in, as `linux.cgroupsPath` begins.
    pub(crate) cgroup: super::super::cgroup::Parent,
    /// The boot it was made in: its namespaces are gone after it.
    pub(crate) boot: String,
    /// Namespaces that its shim holds, by kind; good while the shim lives.
    #[serde(default)]
    pub(crate) namespaces: Vec<(String, String)>,
    /// It has a tmpfs for `/dev/shm` of its own.
    #[serde(default)]
    pub(crate) shm: bool,
}

impl Record {
    /// Reads the record at `dir`, if there is one.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, crate::contract::Error> {
        super::super::files::read_json(&dir.join(RECORD))
    }

    /// Reads what the pod at `dir` was to be, if it did not come to be and plugins of others may have attached it.
    pub(crate) fn read_unmade(dir: &Path) -> Result<Option<Self>, crate::contract::Error> {
        match dir.join(RECORD).exists() {
            true => Ok(None),
            false => super::super::files::read_json(&dir.join(ATTACHING)),
        }
    }
}
