//! `features`: what this runtime can do, as the specification's features document.

use kernel::capability::CapSet;
use kernel::seccomp::{Flags, flag_available};

use super::failure::Failure;
use super::list::print;
use super::options::{Given, Rest, Words, switch};
use super::{Command, Context};
use crate::contract::{
    self, CgroupFeatures, Enabled, Features, Hooks, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MountExtensions, SeccompFeatures,
};
use crate::plan::mounts::OPTIONS;

pub(super) static FEATURES: Command = Command {
    name: "features",
    usage: "",
    summary: "show what this runtime can do as JSON",
    options: &[switch("help", Some('h'), "show this")],
    words: Words { least: 0, own: 0, rest: Rest::None },
    clones: false,
    run: features,
};

fn features(_: &Context, _: &Given) -> Result<u8, Failure> {
    print(&serde_json::to_string_pretty(&document()).unwrap_or_default())
}

fn names(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|name| (*name).to_owned()).collect())
}

fn document() -> Features {
    let mut options = OPTIONS.to_vec();
    options.sort_unstable();
    Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: contract::VERSION.to_owned(),
        hooks: names(&Hooks::default().kinds().map(|(name, _)| name)),
        mount_options: names(&options),
        linux: Some(linux()),
        annotations: [("org.opencontainers.sextant.version", env!("CARGO_PKG_VERSION"))]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        potentially_unsafe_config_annotations: Some(Vec::new()),
    }
}

fn linux() -> LinuxFeatures {
    let no = Some(Enabled { enabled: Some(false) });
    LinuxFeatures {
        namespaces: names(&["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]),
        capabilities: Some(CapSet::from_bits(u64::MAX).names()),
        cgroup: Some(CgroupFeatures {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(false),
            systemd_user: Some(false),
            rdma: Some(false),
        }),
        seccomp: Some(seccomp()),
        apparmor: no,
        selinux: no,
        intel_rdt: Some(IntelRdtFeatures {
            enabled: Some(false),
            schemata: Some(false),
            monitoring: Some(false),
        }),
        memory_policy: Some(MemoryPolicyFeatures { modes: Some(Vec::new()), flags: Some(Vec::new()) }),
        mount_extensions: Some(MountExtensions { idmap: no }),
        net_devices: no,
    }
}

fn seccomp() -> SeccompFeatures {
    let flags = [
        ("SECCOMP_FILTER_FLAG_TSYNC", Flags::TSYNC),
        ("SECCOMP_FILTER_FLAG_LOG", Flags::LOG),
        ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", Flags::SPEC_ALLOW),
        ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", Flags::WAIT_KILLABLE_RECV),
    ];
    let here: Vec<&str> =
        flags.iter().filter(|(_, flag)| flag_available(*flag)).map(|(name, _)| *name).collect();
    SeccompFeatures {
        enabled: Some(true),
        actions: names(&[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ]),
        operators: names(&[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ]),
        archs: names(&[
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X86_64",
        ]),
        known_flags: names(&flags.map(|(name, _)| name)),
        supported_flags: names(&here),
    }
}
