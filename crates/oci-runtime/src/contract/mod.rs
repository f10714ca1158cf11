//! The Linux part of the OCI runtime specification 1.3: the types of `config.json`, of the state document and
//! of the features document, their parsing and the rules a configuration has to keep.
//!
//! Names are the specification's. A field that is optional there is skipped when it is empty, so what was read is
//! what is written. Unknown properties are ignored, as the specification demands; unknown *values* are errors,
//! except capability names, which are a matter for a warning.
//!
//! Entry points: [`parse`], [`validate`], [`warnings`].

mod device;
mod error;
mod features;
mod hooks;
mod linux;
pub mod locate;
mod mount;
mod process;
mod resources;
pub mod seccomp;
mod spec;
mod state;
mod validate;

pub use device::{Device, DeviceCgroup, DeviceType, NetDevice};
pub use error::Error;
pub use features::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MountExtensions, SeccompFeatures,
};
pub use hooks::{Hook, Hooks};
pub use linux::{
    IdMapping, IntelRdt, Linux, MemoryPolicy, MemoryPolicyFlag, MemoryPolicyMode, Namespace, NamespaceType,
    Personality, PersonalityDomain, RootfsPropagation, TimeOffset,
};
pub use mount::Mount;
pub use process::{
    Capabilities, ConsoleSize, CpuAffinity, IoPriority, IoPriorityClass, Process, Rlimit, RlimitType,
    Scheduler, SchedulerFlag, SchedulerPolicy, User,
};
pub use resources::{
    BlockIo, Cpu, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma, Resources, ThrottleDevice,
    WeightDevice,
};
pub use seccomp::Seccomp;
pub use spec::{Root, Spec};
pub use state::{ContainerProcessState, SECCOMP_FD, State, Status};
pub(crate) use validate::check_seccomp;
pub use validate::{sysctl_path, sysctl_scope, validate, validate_process, validate_resources, warnings};

/// The version of the runtime specification that these types are.
pub const VERSION: &str = "1.3.0";

/// Reads a `config.json`; [`validate`] checks what types cannot say.
///
/// # Errors
/// [`Error::Parse`] names the field in which the document is no longer a configuration.
///
/// ```
/// let spec = oci_runtime::contract::parse(br#"{"ociVersion": "1.3.0", "root": {"path": "rootfs"}}"#).unwrap();
/// assert_eq!(spec.root.unwrap().path, "rootfs");
/// ```
pub fn parse(bytes: &[u8]) -> Result<Spec, Error> {
    document(bytes, "config.json")
}

/// Reads a `process.json`, the document that `exec --process` takes.
///
/// # Errors
/// As [`parse`].
pub fn parse_process(bytes: &[u8]) -> Result<Process, Error> {
    document(bytes, "process.json")
}

/// Reads the `linux.resources` document that `update --resources` takes.
///
/// # Errors
/// As [`parse`].
pub fn parse_resources(bytes: &[u8]) -> Result<Resources, Error> {
    document(bytes, "resources")
}

pub(crate) fn document<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
    document: &'static str,
) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|source| {
        let field = locate::field(bytes, source.line(), source.column());
        Error::Parse { document, field, source }
    })
}

/// `null` reads as the empty value: the specification's own Go types write it for an empty list or map.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + serde::Deserialize<'de>,
{
    use serde::Deserialize;
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// An empty string reads as a missing value, as callers written in Go may say either.
fn unless_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    use serde::{Deserialize, de::IntoDeserializer};
    match Option::<String>::deserialize(deserializer)? {
        Some(name) if !name.is_empty() => T::deserialize(name.into_deserializer()).map(Some),
        _ => Ok(None),
    }
}

/// For `skip_serializing_if`: is this the value that a missing field has?
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
