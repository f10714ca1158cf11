//! Limits.
#![expect(missing_docs, reason = "the words are the runtime specification's, and CRI's")]

use std::collections::BTreeMap;

use prost::Message;

/// Limits; an absent field stays.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxResources {
    #[prost(message, optional, tag = "1")]
    pub memory: Option<LinuxMemory>,
    #[prost(message, optional, tag = "2")]
    pub cpu: Option<LinuxCpu>,
    #[prost(message, repeated, tag = "3")]
    pub hugepage_limits: Vec<HugepageLimit>,
    #[prost(message, optional, tag = "4")]
    pub blockio_class: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub rdt_class: Option<String>,
    #[prost(btree_map = "string, string", tag = "6")]
    pub unified: BTreeMap<String, String>,
    #[prost(message, repeated, tag = "7")]
    pub devices: Vec<LinuxDeviceCgroup>,
    #[prost(message, optional, tag = "8")]
    pub pids: Option<LinuxPids>,
}

/// Memory, bytes.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LinuxMemory {
    #[prost(message, optional, tag = "1")]
    pub limit: Option<i64>,
    #[prost(message, optional, tag = "2")]
    pub reservation: Option<i64>,
    #[prost(message, optional, tag = "3")]
    pub swap: Option<i64>,
    #[prost(message, optional, tag = "4")]
    pub kernel: Option<i64>,
    #[prost(message, optional, tag = "5")]
    pub kernel_tcp: Option<i64>,
    #[prost(message, optional, tag = "6")]
    pub swappiness: Option<u64>,
    #[prost(message, optional, tag = "7")]
    pub disable_oom_killer: Option<bool>,
    #[prost(message, optional, tag = "8")]
    pub use_hierarchy: Option<bool>,
}

/// CPU time, microseconds, and which CPUs; an empty list stays.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxCpu {
    #[prost(message, optional, tag = "1")]
    pub shares: Option<u64>,
    #[prost(message, optional, tag = "2")]
    pub quota: Option<i64>,
    #[prost(message, optional, tag = "3")]
    pub period: Option<u64>,
    #[prost(message, optional, tag = "4")]
    pub realtime_runtime: Option<i64>,
    #[prost(message, optional, tag = "5")]
    pub realtime_period: Option<u64>,
    #[prost(string, tag = "6")]
    pub cpus: String,
    #[prost(string, tag = "7")]
    pub mems: String,
}

/// Huge pages of one size, bytes.
#[derive(Clone, PartialEq, Message)]
pub struct HugepageLimit {
    #[prost(string, tag = "1")]
    pub page_size: String,
    #[prost(uint64, tag = "2")]
    pub limit: u64,
}

/// Tasks.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LinuxPids {
    #[prost(int64, tag = "1")]
    pub limit: i64,
}

/// A rule of the device controller; an absent number is every one.
#[derive(Clone, PartialEq, Message)]
pub struct LinuxDeviceCgroup {
    #[prost(bool, tag = "1")]
    pub allow: bool,
    #[prost(string, tag = "2")]
    pub kind: String,
    #[prost(message, optional, tag = "3")]
    pub major: Option<i64>,
    #[prost(message, optional, tag = "4")]
    pub minor: Option<i64>,
    #[prost(string, tag = "5")]
    pub access: String,
}
