use oci_runtime::contract as oci;
use oci_runtime::default_spec;

use super::*;
use crate::plugin::nri::wire::{
    HugepageLimit, LinuxContainerAdjustment, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxIoPriority,
    LinuxMemory, LinuxMemoryPolicy, LinuxNamespace, LinuxNetDevice, LinuxPids, LinuxRdt, LinuxResources,
    LinuxScheduler, LinuxSeccomp, LinuxSeccompArg, LinuxSyscall, Strings,
};

fn usual() -> oci::Spec {
    let mut spec = default_spec::container();
    spec.process = Some(oci::Process {
        args: vec!["sh".into()],
        env: vec!["A=1".into(), "B=2".into()],
        ..oci::Process::default()
    });
    spec.annotations = [("k".to_owned(), "v".to_owned()), ("gone".to_owned(), "x".to_owned())].into();
    spec
}

/// The default configuration with `adjust`.
fn with(adjust: ContainerAdjustment) -> oci::Spec {
    let mut spec = usual();
    apply(&adjust, &mut spec).unwrap();
    spec
}

fn with_linux(linux: LinuxContainerAdjustment) -> oci::Linux {
    with(ContainerAdjustment { linux: Some(linux), ..Default::default() }).linux.unwrap()
}

fn mount(destination: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: "/tmp".into(),
        options: options.iter().map(|&o| o.to_owned()).collect(),
    }
}

#[test]
fn nothing_wanted_is_nothing_changed() {
    assert_eq!(with(ContainerAdjustment::default()), usual());
}

#[test]
fn annotations_env_args_rlimits_and_hooks() {
    let variable = |key: &str, value: &str| KeyValue { key: key.into(), value: value.into() };
    let limit = |soft| PosixRlimit { kind: "RLIMIT_NOFILE".into(), hard: 20, soft };
    let hook = Hook { path: "/bin/h".into(), args: vec!["h".into()], env: vec![], timeout: Some(3) };
    let spec = with(ContainerAdjustment {
        annotations: [("k", "w"), ("-gone", ""), ("new", "n")].map(|(k, v)| (k.into(), v.into())).into(),
        env: vec![variable("-A", ""), variable("B", "3"), variable("C", "4")],
        args: vec!["true".into()],
        rlimits: vec![limit(9), limit(10)],
        hooks: Some(Hooks { poststop: vec![hook], ..Default::default() }),
        ..Default::default()
    });
    let process = spec.process.unwrap();
    assert_eq!((process.env, process.args), (vec!["B=3".to_owned(), "C=4".into()], vec!["true".to_owned()]));
    assert_eq!(process.rlimits.len(), 1);
    assert_eq!((process.rlimits[0].kind, process.rlimits[0].soft), (oci::RlimitType::RlimitNofile, 10));
    assert_eq!(spec.annotations, [("k", "w"), ("new", "n")].map(|(k, v)| (k.into(), v.into())).into());
    let hooks = spec.hooks.unwrap();
    assert_eq!((hooks.poststop[0].path.as_str(), hooks.poststop[0].timeout), ("/bin/h", Some(3)));
    let bad = ContainerAdjustment {
        rlimits: vec![PosixRlimit { kind: "RLIMIT_X".into(), ..Default::default() }],
        ..Default::default()
    };
    assert!(apply(&bad, &mut usual()).unwrap_err().message.contains("rlimits.type"));
}

#[test]
fn mounts_are_added_replaced_and_taken_away_parents_first() {
    let spec = with(ContainerAdjustment {
        mounts: vec![
            mount("/a/b/c", &["rbind"]),
            mount("/a", &["rbind", "rslave"]),
            mount("-/dev/mqueue", &[]),
        ],
        ..Default::default()
    });
    let at = |path: &str| spec.mounts.iter().position(|mount| mount.destination == path);
    assert!(at("/a").unwrap() < at("/a/b/c").unwrap());
    assert_eq!(at("/dev/mqueue"), None);
    assert!(at("/dev").unwrap() < at("/dev/pts").unwrap());
    assert_eq!(spec.linux.unwrap().rootfs_propagation, Some(oci::RootfsPropagation::Rslave));
    let again =
        with(ContainerAdjustment { mounts: vec![mount("/proc", &["rshared"])], ..Default::default() });
    assert_eq!(again.mounts.iter().filter(|mount| mount.destination == "/proc").count(), 1);
    assert_eq!(again.linux.unwrap().rootfs_propagation, Some(oci::RootfsPropagation::Rshared));
    let bad = ContainerAdjustment { mounts: vec![mount("a", &[])], ..Default::default() };
    apply(&bad, &mut usual()).unwrap_err();
}

#[test]
fn limits_of_every_kind() {
    let linux = with_linux(LinuxContainerAdjustment {
        resources: Some(LinuxResources {
            memory: Some(LinuxMemory { limit: Some(64), reservation: Some(32), ..Default::default() }),
            cpu: Some(LinuxCpu {
                shares: Some(7),
                quota: Some(2000),
                cpus: "0".into(),
                ..Default::default()
            }),
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit: 4 }],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            pids: Some(LinuxPids { limit: 9 }),
            devices: vec![LinuxDeviceCgroup {
                allow: true,
                kind: "c".into(),
                major: Some(1),
                minor: None,
                access: "r".into(),
            }],
            rdt_class: Some("gold".into()),
            blockio_class: Some(String::new()),
        }),
        ..Default::default()
    });
    let resources = linux.resources.unwrap();
    let (memory, cpu) = (resources.memory.unwrap(), resources.cpu.unwrap());
    assert_eq!((memory.limit, memory.reservation, cpu.shares), (Some(64), Some(32), Some(7)));
    assert_eq!((cpu.quota, cpu.cpus.as_str(), resources.pids.unwrap().limit), (Some(2000), "0", Some(9)));
    assert_eq!((resources.hugepage_limits.len(), resources.unified.len()), (1, 1));
    assert_eq!(resources.devices.last().unwrap().access, "r");
    assert_eq!(linux.intel_rdt.unwrap().clos_id, "gold");
    let class = LinuxResources { blockio_class: Some("fast".into()), ..Default::default() };
    assert!(limits(&class, &mut oci::Resources::default()).unwrap_err().message.contains("blockio_class"));
}

#[test]
fn a_new_memory_limit_takes_the_old_ones_swap_along() {
    let old = oci::Memory { limit: Some(10), swap: Some(10), ..Default::default() };
    let mut into = oci::Resources { memory: Some(old), ..Default::default() };
    let memory = Some(LinuxMemory { limit: Some(64), ..Default::default() });
    limits(&LinuxResources { memory, ..Default::default() }, &mut into).unwrap();
    assert_eq!(into.memory.unwrap().swap, Some(64));
}

#[test]
fn devices_with_rules_and_without() {
    let device = |path: &str, kind: &str| LinuxDevice {
        path: path.into(),
        kind: kind.into(),
        major: 8,
        minor: 1,
        file_mode: Some(0o600),
        ..Default::default()
    };
    let linux =
        with_linux(LinuxContainerAdjustment { devices: vec![device("/dev/x", "b")], ..Default::default() });
    assert_eq!(linux.devices[0].file_mode, Some(0o600));
    let rule = linux.resources.unwrap().devices.pop().unwrap();
    assert_eq!((rule.access.as_str(), rule.major, rule.minor), ("rwm", Some(8), Some(1)));
    let mut spec = usual();
    for (path, kind, left) in [("/dev/x", "c", 1), ("-/dev/x", "", 0)] {
        let linux =
            Some(LinuxContainerAdjustment { devices: vec![device(path, kind)], ..Default::default() });
        apply(&ContainerAdjustment { linux, ..Default::default() }, &mut spec).unwrap();
        assert_eq!(spec.linux.as_ref().unwrap().devices.len(), left);
    }
}

#[test]
fn process_attributes() {
    let spec = with(ContainerAdjustment {
        linux: Some(LinuxContainerAdjustment {
            oom_score_adj: Some(-5),
            io_priority: Some(LinuxIoPriority { class: 2, priority: 3 }),
            scheduler: Some(LinuxScheduler { policy: 4, nice: 5, flags: vec![0], ..Default::default() }),
            ..Default::default()
        }),
        ..Default::default()
    });
    let process = spec.process.unwrap();
    assert_eq!(process.oom_score_adj, Some(-5));
    assert_eq!(process.io_priority.unwrap().class, oci::IoPriorityClass::IoprioClassBe);
    let scheduler = process.scheduler.unwrap();
    assert_eq!((scheduler.policy, scheduler.nice), (oci::SchedulerPolicy::SchedBatch, 5));
    assert_eq!(scheduler.flags, [oci::SchedulerFlag::SchedFlagResetOnFork]);
}

#[test]
fn the_rest_of_linux() {
    let namespace = |kind: &str, path: &str| LinuxNamespace { kind: kind.into(), path: path.into() };
    let linux = with_linux(LinuxContainerAdjustment {
        cgroups_path: "/elsewhere/c".into(),
        namespaces: vec![namespace("ipc", "/proc/1/ns/ipc"), namespace("-uts", "")],
        sysctl: [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into(),
        net_devices: [("eth9".to_owned(), LinuxNetDevice { name: "net1".into() })].into(),
        rdt: Some(LinuxRdt {
            clos_id: Some("c".into()),
            schemata: Some(Strings { value: vec!["L3:0=f".into()] }),
            enable_monitoring: Some(true),
            remove: false,
        }),
        memory_policy: Some(LinuxMemoryPolicy { mode: 2, nodes: "0".into(), flags: vec![0] }),
        seccomp_policy: Some(LinuxSeccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            architectures: vec!["SCMP_ARCH_X86_64".into()],
            syscalls: vec![LinuxSyscall {
                names: vec!["chmod".into()],
                action: "SCMP_ACT_ERRNO".into(),
                errno_ret: Some(1),
                args: vec![LinuxSeccompArg { index: 1, value: 2, value_two: 0, op: "SCMP_CMP_EQ".into() }],
            }],
            ..Default::default()
        }),
        ..Default::default()
    });
    assert_eq!(linux.cgroups_path, "/elsewhere/c");
    assert_eq!(linux.namespace(oci::NamespaceType::Ipc).unwrap().path, "/proc/1/ns/ipc");
    assert_eq!(linux.namespace(oci::NamespaceType::Uts), None);
    assert_eq!((linux.sysctl.len(), linux.net_devices["eth9"].name.as_str()), (1, "net1"));
    let rdt = linux.intel_rdt.unwrap();
    assert_eq!((rdt.clos_id.as_str(), rdt.schemata.len(), rdt.enable_monitoring), ("c", 1, true));
    assert_eq!(linux.memory_policy.unwrap().mode, oci::MemoryPolicyMode::MpolBind);
    let seccomp = linux.seccomp.unwrap();
    assert_eq!(seccomp.syscalls[0].errno_ret, Some(1));
    assert_eq!(seccomp.syscalls[0].args[0].op, oci::seccomp::Operator::Eq);
}

#[test]
fn what_the_specification_has_no_word_for_is_refused() {
    let bad = [
        LinuxContainerAdjustment { oom_score_adj: Some(2000), ..Default::default() },
        LinuxContainerAdjustment {
            io_priority: Some(LinuxIoPriority { class: 9, priority: 0 }),
            ..Default::default()
        },
        LinuxContainerAdjustment {
            namespaces: vec![LinuxNamespace { kind: "moon".into(), path: String::new() }],
            ..Default::default()
        },
        LinuxContainerAdjustment {
            seccomp_policy: Some(LinuxSeccomp { default_action: "x".into(), ..Default::default() }),
            ..Default::default()
        },
        LinuxContainerAdjustment {
            devices: vec![LinuxDevice { path: "/dev/x".into(), kind: "z".into(), ..Default::default() }],
            ..Default::default()
        },
    ];
    for linux in bad {
        let adjust = ContainerAdjustment { linux: Some(linux.clone()), ..Default::default() };
        apply(&adjust, &mut usual()).map_err(|e| assert!(e.message.contains("linux."), "{e}")).unwrap_err();
    }
}
