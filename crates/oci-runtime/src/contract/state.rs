use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{is_default, nullable};

/// A container's state: what `state` prints and what hooks read from their standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// How far its life has come.
    pub status: Status,
    /// The container process, as the host counts; 0 when there is none.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub pid: i32,
    /// The bundle's directory, absolute.
    pub bundle: String,
    /// The configuration's annotations.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

/// How far a container's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its environment is being made.
    Creating,
    /// `create` is done: the user's program has not started.
    Created,
    /// The user's program runs.
    Running,
    /// The process has ended.
    Stopped,
    /// Frozen; beyond the specification, and what runc says.
    Paused,
}

impl Status {
    /// The word of the specification.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
        }
    }
}

/// The name of the notifications' descriptor in [`ContainerProcessState::fds`].
pub const SECCOMP_FD: &str = "seccompFd";

/// What a seccomp agent gets together with the notifications' descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerProcessState {
    /// The version of the specification.
    pub oci_version: String,
    /// The names of the descriptors that come with the message, in their order.
    #[serde(default, deserialize_with = "nullable")]
    pub fds: Vec<String>,
    /// The process under the filter, as the runtime counts.
    pub pid: i32,
    /// What the configuration says in `listenerMetadata`.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub metadata: String,
    /// The container.
    pub state: State,
}
