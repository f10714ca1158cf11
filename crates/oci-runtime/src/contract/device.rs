use serde::{Deserialize, Serialize};

use super::{is_default, nullable, unless_empty};

/// A device node that the container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its path in the container, absolute.
    pub path: String,
    /// Its type; rules only (`a`) are not for nodes.
    #[serde(rename = "type")]
    pub kind: DeviceType,
    /// The major number.
    #[serde(default, deserialize_with = "nullable")]
    pub major: i64,
    /// The minor number.
    #[serde(default, deserialize_with = "nullable")]
    pub minor: i64,
    /// The permission bits; bits above them (some callers pass all of `st_mode`) mean nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_mode: Option<u32>,
    /// The owner, as the container counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The group, as the container counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
}

/// A rule for the device controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCgroup {
    /// Allow or deny.
    pub allow: bool,
    /// The type; none is all.
    #[serde(
        rename = "type",
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "unless_empty"
    )]
    pub kind: Option<DeviceType>,
    /// The major number; none (and -1, which Docker writes) is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub major: Option<i64>,
    /// The minor number; none (and -1) is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<i64>,
    /// Of `r`, `w` and `m` (mknod).
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub access: String,
}

/// The types of devices, of nodes and of rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DeviceType {
    /// All (in a rule).
    #[serde(rename = "a")]
    All,
    /// A character device.
    #[serde(rename = "c")]
    Char,
    /// An unbuffered character device: the same.
    #[serde(rename = "u")]
    Unbuffered,
    /// A block device.
    #[serde(rename = "b")]
    Block,
    /// A FIFO (as a node).
    #[serde(rename = "p")]
    Fifo,
}

/// A network device that moves into the container's network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetDevice {
    /// Its name there; empty keeps the host's. `%d` at the end lets the kernel number it.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub name: String,
}
