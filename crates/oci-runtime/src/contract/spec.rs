use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Hooks, Linux, Mount, Process, is_default, nullable};

/// A container's configuration: the document `config.json` of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The version of the runtime specification the bundle was written for.
    pub oci_version: String,
    /// The container process; required once `start` is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// The root file system; required on Linux.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// The host name inside the container; empty leaves it.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub hostname: String,
    /// The NIS domain name inside the container; empty leaves it.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub domainname: String,
    /// Mounts beyond the root, in the order in which they are made.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// Programs run at points of the life cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// Metadata.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    /// What only Linux has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linux: Option<Linux>,
}

/// The container's root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// A directory: absolute, or relative to the bundle.
    pub path: String,
    /// The container sees it read-only.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub readonly: bool,
}
