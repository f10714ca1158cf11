use serde::{Deserialize, Serialize};

use super::{IdMapping, is_default, nullable};

/// A mount beyond the root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Where, inside the container; a relative path (deprecated) is taken from `/`.
    pub destination: String,
    /// The file system's type; empty (or anything) for a bind mount.
    #[serde(rename = "type", default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub kind: String,
    /// A device, or the path to bind: absolute or relative to the bundle.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub source: String,
    /// Options in the manner of fstab.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub options: Vec<String>,
    /// How user ids of the file system's files appear in the mount.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub uid_mappings: Vec<IdMapping>,
    /// How group ids of the file system's files appear in the mount.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub gid_mappings: Vec<IdMapping>,
}

impl Mount {
    /// Is an option given, word for word?
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }

    /// A mount is a bind mount if it has either `bind` or `rbind` in the options; the type `bind` says the same.
    pub fn is_bind(&self) -> bool {
        self.has("bind") || self.has("rbind") || self.kind == "bind"
    }
}
