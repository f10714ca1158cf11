use serde::{Deserialize, Serialize};

use super::{is_default, nullable};

/// Programs run at points of a container's life.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hooks {
    /// Deprecated: in `create`, before `create_runtime`, in the runtime's namespaces.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub prestart: Vec<Hook>,
    /// In `create`, before the root is changed, in the runtime's namespaces.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub create_runtime: Vec<Hook>,
    /// In `create`, before the root is changed, found in the runtime's and run in the container's namespaces.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub create_container: Vec<Hook>,
    /// In `start`, before the user's process, in the container's namespaces.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub start_container: Vec<Hook>,
    /// After the user's process was started, in the runtime's namespaces.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub poststart: Vec<Hook>,
    /// After the container was deleted, in the runtime's namespaces.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub poststop: Vec<Hook>,
}

impl Hooks {
    /// The six lists under the names the specification has for them, in the order of a container's life.
    pub fn kinds(&self) -> [(&'static str, &[Hook]); 6] {
        [
            ("prestart", &self.prestart),
            ("createRuntime", &self.create_runtime),
            ("createContainer", &self.create_container),
            ("startContainer", &self.start_container),
            ("poststart", &self.poststart),
            ("poststop", &self.poststop),
        ]
    }
}

/// One program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// The program, absolute.
    pub path: String,
    /// All of `argv`, its first entry included.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// The environment, `NAME=value` each.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Seconds until it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
}
