//! What this runtime can do, as the features document of the specification says it.
//!
//! Lists come from the tables that planning itself uses, so that what is announced is what is done.

use std::collections::BTreeMap;

use kernel::capability::Capability;
use kernel::seccomp::flag_available;
use serde::Serialize;

use crate::contract::seccomp::{Action, Arch, Flag, Operator, Seccomp};
use crate::contract::{
    CgroupFeatures, Enabled, Features, Hooks, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MemoryPolicyFlag, MemoryPolicyMode, MountExtensions, NamespaceType, SeccompFeatures, VERSION,
};
use crate::plan::options::OPTIONS;
use crate::seccomp;

/// The oldest version of `config.json` that is accepted.
const OLDEST: &str = "1.0.0";

/// The document that `features` prints. Only the flags of system call filters depend on the machine.
pub fn features() -> Features {
    Features {
        oci_version_min: OLDEST.to_owned(),
        oci_version_max: VERSION.to_owned(),
        hooks: Some(Hooks::default().kinds().iter().map(|(kind, _)| (*kind).to_owned()).collect()),
        mount_options: Some(OPTIONS.iter().map(|(name, _)| (*name).to_owned()).collect()),
        linux: Some(linux()),
        annotations: BTreeMap::from([(
            "org.opencontainers.runc.checkpoint.enabled".to_owned(),
            "false".to_owned(),
        )]),
        // None changes anything.
        potentially_unsafe_config_annotations: Some(Vec::new()),
    }
}

fn linux() -> LinuxFeatures {
    let yes = Some(true);
    let enabled = Some(Enabled { enabled: yes });
    LinuxFeatures {
        namespaces: Some(NamespaceType::ALL.iter().map(|kind| kind.as_str().to_owned()).collect()),
        capabilities: Some(Capability::ALL.iter().map(|capability| capability.name().to_owned()).collect()),
        cgroup: Some(CgroupFeatures {
            v1: yes,
            v2: yes,
            systemd: Some(true),
            systemd_user: Some(true),
            rdma: yes,
        }),
        seccomp: Some(SeccompFeatures {
            enabled: yes,
            actions: Some(names(&Action::ALL)),
            operators: Some(names(&Operator::ALL)),
            archs: Some(names(&Arch::ALL)),
            known_flags: Some(names(&Flag::ALL)),
            supported_flags: Some(names(&supported_flags())),
        }),
        apparmor: enabled,
        selinux: enabled,
        intel_rdt: Some(IntelRdtFeatures { enabled: yes, schemata: yes, monitoring: yes }),
        memory_policy: Some(MemoryPolicyFeatures {
            modes: Some(names(&MemoryPolicyMode::ALL)),
            flags: Some(names(&MemoryPolicyFlag::ALL)),
        }),
        mount_extensions: Some(MountExtensions { idmap: enabled }),
        net_devices: enabled,
    }
}

/// The flags that this kernel takes.
fn supported_flags() -> Vec<Flag> {
    let takes = |flag: &Flag| {
        // A rule that asks an agent, without which one of them means nothing.
        let rules = Seccomp {
            default_action: Action::Allow,
            default_errno_ret: None,
            architectures: Vec::new(),
            flags: Some(vec![*flag]),
            listener_path: String::new(),
            listener_metadata: String::new(),
            syscalls: vec![crate::contract::seccomp::Syscall {
                names: vec!["getcwd".to_owned()],
                action: Action::Notify,
                errno_ret: None,
                args: Vec::new(),
            }],
        };
        flag_available(seccomp::flags(&rules))
    };
    Flag::ALL.into_iter().filter(takes).collect()
}

/// Values under the names that `config.json` has for them.
fn names<T: Serialize>(values: &[T]) -> Vec<String> {
    let name = |value: &T| match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => Some(name),
        _ => None,
    };
    values.iter().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_is_there() {
        let document = serde_json::to_value(features()).unwrap();
        for pointer in [
            "/hooks/5",
            "/mountOptions/61",
            "/linux/namespaces/7",
            "/linux/capabilities/40",
            "/linux/cgroup/systemdUser",
            "/linux/cgroup/rdma",
            "/linux/seccomp/actions/8",
            "/linux/seccomp/operators/6",
            "/linux/seccomp/archs/22",
            "/linux/seccomp/knownFlags/3",
            "/linux/seccomp/supportedFlags/0",
            "/linux/apparmor/enabled",
            "/linux/selinux/enabled",
            "/linux/intelRdt/monitoring",
            "/linux/memoryPolicy/modes/6",
            "/linux/memoryPolicy/flags/2",
            "/linux/mountExtensions/idmap/enabled",
            "/linux/netDevices/enabled",
            "/potentiallyUnsafeConfigAnnotations",
        ] {
            assert!(document.pointer(pointer).is_some(), "{pointer} is not in {document}");
        }
        assert_eq!(document["linux"]["memoryPolicy"]["modes"][0], "MPOL_DEFAULT");
        assert_eq!(document["linux"]["seccomp"]["operators"][0], "SCMP_CMP_NE");
    }

    #[test]
    fn what_the_specification_asks_for_is_among_the_options() {
        let known: Vec<&str> = OPTIONS.iter().map(|(name, _)| *name).collect();
        for option in ["rbind", "rro", "rnosymfollow", "lazytime", "idmap", "ridmap", "tmpcopyup", "remount"]
        {
            assert!(known.contains(&option), "{option}");
        }
    }

    #[test]
    fn a_kernel_of_today_takes_every_flag() {
        let supported = supported_flags();
        assert!(supported.contains(&Flag::Log) && supported.contains(&Flag::SpecAllow), "{supported:?}");
    }
}
