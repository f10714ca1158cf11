//! The configuration that a container has unless something else is asked for: the one Docker and containerd use.
//!
//! [`container`] makes all of it; the parts are public, for callers that leave one out or put one back.

use kernel::arch::Arch;
use kernel::capability::{CapSet, Capability};

use crate::contract::{
    self, Capabilities, DeviceCgroup, DeviceType, Linux, Mount, Namespace, NamespaceType, Process, Resources,
    Root, Spec, User,
};
use crate::seccomp;

/// The 14 capabilities of root in a container.
pub const CAPABILITIES: CapSet = CapSet::of(&[
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
]);

/// What a container cannot read: files of the machine, of its other users and of its hardware.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What a container cannot write.
pub const READONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Where programs are, for an image that does not say.
pub const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Destination, type, source and options of the default mounts, in their order.
const MOUNTS: [(&str, &str, &str, &str); 7] = [
    ("/proc", "proc", "proc", "nosuid noexec nodev"),
    ("/dev", "tmpfs", "tmpfs", "nosuid strictatime mode=755 size=65536k"),
    ("/dev/pts", "devpts", "devpts", "nosuid noexec newinstance ptmxmode=0666 mode=0620 gid=5"),
    ("/dev/shm", "tmpfs", "shm", "nosuid noexec nodev mode=1777 size=65536k"),
    ("/dev/mqueue", "mqueue", "mqueue", "nosuid noexec nodev"),
    ("/sys", "sysfs", "sysfs", "nosuid noexec nodev ro"),
    ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid noexec nodev relatime ro"),
];

/// The nodes that a container may use: null, zero, full, random, urandom, tty, console, ptmx and terminals.
const DEVICES: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

/// A container that runs `sh` as root in `rootfs`, with everything its own: the caller replaces the program, the
/// root and whatever else was asked for.
///
/// ```
/// use oci_runtime::{contract, default_spec};
/// let spec = default_spec::container();
/// contract::validate(&spec).unwrap();
/// ```
pub fn container() -> Spec {
    let mut spec = Spec {
        oci_version: contract::VERSION.to_owned(),
        process: Some(Process {
            user: User::default(),
            args: vec!["sh".to_owned()],
            env: vec![PATH.to_owned()],
            cwd: "/".to_owned(),
            ..Process::default()
        }),
        root: Some(Root { path: "rootfs".to_owned(), readonly: false }),
        mounts: mounts(),
        linux: Some(Linux {
            namespaces: namespaces(),
            resources: Some(Resources { devices: device_rules(), ..Resources::default() }),
            masked_paths: MASKED_PATHS.map(str::to_owned).to_vec(),
            readonly_paths: READONLY_PATHS.map(str::to_owned).to_vec(),
            ..Linux::default()
        }),
        ..Spec::default()
    };
    set_capabilities(&mut spec, CAPABILITIES);
    spec
}

/// Gives a container these capabilities, and the default system call filter that goes with them.
///
/// Inheritable and ambient capabilities stay empty: they would reach programs that run as another user
/// (CVE-2022-24769).
pub fn set_capabilities(spec: &mut Spec, capabilities: CapSet) {
    let names = capabilities.names();
    let process = spec.process.get_or_insert_default();
    process.capabilities = Some(Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    });
    spec.linux.get_or_insert_default().seccomp = Some(seccomp::default_profile(capabilities, Arch::NATIVE));
}

/// The default mounts.
pub fn mounts() -> Vec<Mount> {
    let one = |(destination, kind, source, options): (&str, &str, &str, &str)| Mount {
        destination: destination.to_owned(),
        kind: kind.to_owned(),
        source: source.to_owned(),
        options: options.split(' ').map(str::to_owned).collect(),
        ..Mount::default()
    };
    MOUNTS.map(one).to_vec()
}

/// New namespaces of every type but `user` and `time`.
pub fn namespaces() -> Vec<Namespace> {
    use NamespaceType::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    [Pid, Ipc, Uts, Mount, Network, Cgroup].map(|kind| Namespace { kind, path: String::new() }).to_vec()
}

/// Every device is denied but the default ones; nodes may be made, since nothing opens them.
pub fn device_rules() -> Vec<DeviceCgroup> {
    let rule = |kind, major, minor, access: &str| DeviceCgroup {
        allow: true,
        kind: Some(kind),
        major,
        minor,
        access: access.to_owned(),
    };
    let mut rules = vec![
        DeviceCgroup { access: "rwm".to_owned(), ..DeviceCgroup::default() },
        rule(DeviceType::Char, None, None, "m"),
        rule(DeviceType::Block, None, None, "m"),
    ];
    rules.extend(DEVICES.map(|(major, minor)| rule(DeviceType::Char, Some(major), minor, "rwm")));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_valid_without_a_remark_and_survives_the_round_trip() {
        let spec = container();
        contract::validate(&spec).unwrap();
        assert!(contract::warnings(&spec).is_empty());
        let text = serde_json::to_vec(&spec).unwrap();
        assert_eq!(contract::parse(&text).unwrap(), spec);
    }

    #[test]
    fn capabilities_and_filter_go_together() {
        let allows = |spec: &Spec, name: &str| {
            let profile = spec.linux.as_ref().unwrap().seccomp.as_ref().unwrap();
            profile
                .syscalls
                .iter()
                .any(|rule| rule.names.iter().any(|n| n == name) && rule.errno_ret.is_none())
        };
        let mut spec = container();
        assert_eq!(spec.process.as_ref().unwrap().capabilities.as_ref().unwrap().bounding.len(), 14);
        assert!(!allows(&spec, "mount") && allows(&spec, "chroot"));
        set_capabilities(&mut spec, CapSet::of(&[Capability::SysAdmin]));
        assert!(allows(&spec, "mount") && !allows(&spec, "chroot"));
    }
}
